/**
 * Recognises the model of a file of weights by the names and shapes of its tensors: family, sizes, and the preset that has
 * them. Most shapes do not determine the number of heads: it comes from the preset, or from the caller. Each family's
 * record recognises its own.
 */

import { aNumber, anObject, aString, check, checkOptions, oneOf } from '../core/arguments.ts'
import { UserError } from '../io/index.ts'
import type { Init, Module } from '../nn/index.ts'
import { aStateSource } from '../nn/module.ts'
import { checkSizesOf } from './arguments.ts'
import { families } from './families.ts'
import type { Recognised, State, Told } from './family.ts'
import { fromDiffusers, isDiffusersDiT, networkNames } from './network-names.ts'

export type { Recognised, State, Told } from './family.ts'

/** A recognised model that can be made. */
export interface RecognisedModel extends Recognised {
  /** Makes the model of these options, whose weights are `state`. */
  make(init: Init): Module
}

const toldKinds = {
  heads: aNumber,
  decoderHeads: aNumber,
  classes: aNumber,
  config: aString,
  preset: aString,
  schedule: oneOf(['cosine', 'linear']),
  ablation: aString,
}

/** Recognises a state dict. Throws UserError where the tensors are those of no family; `path` is their name in errors. */
export function recognise(given: State, path: string, told: Told = {}): RecognisedModel {
  check('recognise', 'given', given, aStateSource)
  check('recognise', 'path', path, aString)
  checkOptions('recognise', told, toldKinds)
  if (isDiffusersDiT(given)) {
    const { state, heads } = fromDiffusers(given, told.config, path)
    return recognise(state, path, { ...told, heads: told.heads ?? heads })
  }
  const state = networkNames(given)
  for (const family of families) {
    const found = family.recognise(state, path, told)
    if (found !== null) return { ...found, make: init => family.make(found.options, init) }
  }
  const names = families.map(({ name }) => name).join(', ')
  throw new UserError(`${path}: expected the state dict of one of ${names}, got ${state.size} tensors of other names`)
}

/** A model in a line. */
export function describe(recognised: Recognised): string {
  check('describe', 'recognised', recognised, anObject)
  const { family, preset, options } = recognised
  check('describe', 'family', family, anObject)
  check('describe', 'family.name', family.name, aString)
  checkSizesOf('describe', options)
  const { inputSize: S, inChannels: C, numClasses, depth, hiddenSize, numHeads, patchSize } = options
  const sizes = `${depth} blocks × ${hiddenSize}, ${numHeads} heads, patch ${patchSize}`
  const classes = numClasses > 0 ? `${numClasses} classes` : 'no classes'
  return `${preset === null ? family.name : `${family.name} ${preset}`}: ${sizes}, ${C} × ${S} × ${S}, ${classes}`
}
