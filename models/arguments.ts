/**
 * Checks of the arguments of models and their losses, which plain JavaScript may call with anything: options of
 * transformers, pictures with their labels, and the records of random numbers that a loss is given.
 */

import {
  aBoolean,
  aCount,
  aFiniteNumber,
  aNumber,
  anObject,
  aString,
  check,
  checkFloats,
  checkOptions,
  integers,
  isTensor,
  type Kind,
  orNull,
} from '../core/arguments.ts'
import { type Rng, ShapeError, type Tensor } from '../core/index.ts'
import { aStream } from '../core/random.ts'
import { sameShape, show } from '../core/shape.ts'
import type { TokenMask } from '../diffusion/index.ts'
import type { Init } from '../nn/index.ts'
import { checkInit } from '../nn/layer-arguments.ts'

/** Kinds of the options that all transformers share. */
const bodyKinds = {
  inputSize: aNumber,
  patchSize: aNumber,
  inChannels: aNumber,
  hiddenSize: aNumber,
  depth: aNumber,
  numHeads: aNumber,
  numClasses: aNumber,
  mlpRatio: aFiniteNumber,
}

/** Kinds of `TransformerOptions`. */
export const transformerKinds = { ...bodyKinds, classDropoutProb: aFiniteNumber, learnSigma: aBoolean }
/** Kinds of `MDTOptions`. */
export const mdtKinds = { ...transformerKinds, maskRatio: orNull(aNumber), decodeLayer: aNumber }
/** Kinds of `MaskDMOptions`. */
export const maskdmKinds = { ...bodyKinds, qkvBias: aBoolean, mlpTimeEmbed: aBoolean }
/** Kinds of `MaskDiTOptions`. */
const maskDiTKinds = {
  ...bodyKinds,
  classDropoutProb: aFiniteNumber,
  decoder: orNull(anObject),
  maeLossCoef: aNumber,
}

const required = ['inputSize', 'patchSize', 'inChannels', 'hiddenSize', 'depth', 'numHeads', 'numClasses'] as const

/** Options that one of the transformers has. One set of options may be given to several. */
const known: Readonly<Record<string, Kind>> = { ...mdtKinds, ...maskdmKinds, ...maskDiTKinds }

/**
 * Throws TypeError unless the options of a transformer and `init` are of their kinds, and none is missing or unknown. Options
 * that only another model has are ignored.
 */
export function checkTransformer<O extends object>(
  model: string,
  options: O,
  kinds: { readonly [K in keyof O]-?: Kind } & typeof bodyKinds,
  init: Init,
): void {
  check(model, 'options', options, anObject)
  const own = Object.entries(options).filter(([name]) => name in kinds || !(name in known))
  checkOptions<Record<string, unknown>>(model, Object.fromEntries(own), kinds)
  checkSizesOf(model, options)
  checkInit(model, init)
}

/** Throws TypeError unless the sizes that all transformers have are numbers. */
export function checkSizesOf(op: string, options: object): void {
  check(op, 'options', options, anObject)
  for (const name of required) check(op, name, (options as Readonly<Record<string, unknown>>)[name], aNumber)
}

/** `checkTransformer` for a MaskDiT and its decoder. */
export function checkMaskDiT(
  model: string,
  options: { readonly decoder?: { readonly hiddenSize: number; readonly numHeads: number } | null },
  init: Init,
): void {
  checkTransformer<object>(model, options, maskDiTKinds, init)
  const { decoder = null } = options
  if (decoder === null) return
  for (const name of ['hiddenSize', 'numHeads'] as const) check(model, `decoder.${name}`, decoder[name], aCount)
}

const labelsOrNull = orNull(integers)

/** Throws unless these are pictures (N, C, H, W), their labels or null, and a stream. */
export function checkSample(op: string, x: Tensor, labels: ArrayLike<number> | null, rng: Rng): void {
  checkPictures(op, x)
  check(op, 'labels', labels, labelsOrNull)
  if (labels !== null && labels.length !== x.shape[0])
    throw new ShapeError(`${op}: expected a label for each of ${x.shape[0]} pictures, got ${labels.length}`)
  check(op, 'rng', rng, aStream)
}

/** Throws unless x is a float tensor (N, C, H, W). */
export function checkPictures(op: string, x: Tensor): void {
  checkFloats(op, { x })
  if (x.shape.length !== 4) throw new ShapeError(`${op}: expected pictures [N, C, H, W], got ${show(x.shape)}`)
}

const aMaskOrNull = orNull({
  expected: 'a mask, as sampleMask returns one',
  accepts: value => anObject.accepts(value) && isTensor((value as Partial<TokenMask>).mask),
})

/** Throws unless the random inputs of a loss are noise of the shape of x, labels or null, and a mask or null. */
export function checkInputs(
  op: string,
  x: Tensor,
  inputs: { readonly noise: Tensor; readonly labels?: ArrayLike<number> | null; readonly mask: TokenMask | null },
): void {
  checkPictures(op, x)
  check(op, 'inputs', inputs, anObject)
  const { noise, labels = null, mask } = inputs
  checkFloats(op, { x, noise })
  if (!sameShape(noise.shape, x.shape))
    throw new ShapeError(`${op}: expected noise of the shape of x, ${show(x.shape)}, got ${show(noise.shape)}`)
  check(op, 'labels', labels, labelsOrNull)
  check(op, 'mask', mask, aMaskOrNull)
}

/** Throws unless a preset's name is a string and `pictures` has three numbers. */
export function checkPreset(op: string, name: string, pictures: unknown): void {
  check(op, 'name', name, aString)
  checkOptions(op, pictures as Record<string, unknown>, pictureKinds as Record<string, Kind>)
  for (const key in pictureKinds) check(op, key, (pictures as Record<string, unknown>)[key], aNumber)
}

const pictureKinds = { inputSize: aNumber, inChannels: aNumber, numClasses: aNumber }
