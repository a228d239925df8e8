/** Checks of the arguments of layers, initializers and schedules. */

import {
  aBackend,
  aCount,
  aDType,
  aFunction,
  anObject,
  check,
  type Kind,
  numbers,
  optional,
} from '../core/arguments.ts'
import { Rng, type Shape } from '../core/index.ts'
import { checkSizes } from '../core/shape.ts'
import type { Init } from './init.ts'

const aStream: Kind = { expected: 'an Rng or null', accepts: value => value === null || value instanceof Rng }

/** Throws TypeError unless the sizes of a layer are integers from 1 and `init` is an Init. */
export function checkLayer(layer: string, sizes: Readonly<Record<string, number>>, init: Init): void {
  for (const name in sizes) check(layer, name, sizes[name], aCount)
  checkInit(layer, init)
}

/** Throws TypeError unless `init` is an Init. */
export function checkInit(op: string, init: Init): void {
  check(op, 'init', init, anObject)
  check(op, 'init.rng', init.rng, aStream)
  check(op, 'init.dtype', init.dtype, optional(aDType))
  check(op, 'init.backend', init.backend, optional(aBackend))
}

/** Throws unless an initializer was given a shape and an Init. */
export function checkFirst(op: string, shape: Shape, init: Init): void {
  check(op, 'shape', shape, numbers)
  checkSizes(op, shape)
  checkInit(op, init)
}

/** Rows and columns. */
export const aGrid: Kind = {
  expected: '[rows, columns]',
  accepts: value => Array.isArray(value) && value.length === 2 && value.every(aCount.accepts),
}

/** A first bias: a function that makes it, or false for none. */
export const anInitializerOrFalse: Kind = {
  expected: 'a function or false',
  accepts: value => value === false || aFunction.accepts(value),
}
