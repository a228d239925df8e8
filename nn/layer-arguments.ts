/** Checks of the arguments of layers. */

import { aBackend, aCount, aDType, aFunction, anObject, check, type Kind, optional } from '../core/arguments.ts'
import { Rng } from '../core/index.ts'
import type { Init } from './init.ts'

const aStream: Kind = { expected: 'an Rng or null', accepts: value => value === null || value instanceof Rng }

/** Throws TypeError unless the sizes of a layer are integers from 1 and `init` is an Init. */
export function checkLayer(layer: string, sizes: Readonly<Record<string, number>>, init: Init): void {
  for (const name in sizes) check(layer, name, sizes[name], aCount)
  check(layer, 'init', init, anObject)
  check(layer, 'init.rng', init.rng, aStream)
  check(layer, 'init.dtype', init.dtype, optional(aDType))
  check(layer, 'init.backend', init.backend, optional(aBackend))
}

/** A first bias: a function that makes it, or false for none. */
export const anInitializerOrFalse: Kind = {
  expected: 'a function or false',
  accepts: value => value === false || aFunction.accepts(value),
}
