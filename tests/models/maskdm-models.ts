/**
 * What the tests of MaskDM share: small networks with weights that leave no path closed, and pictures for them.
 */

import { type Backend, cpu, type DType, type Rng, rng, type Tensor } from '../../core/index.ts'
import { type MaskDMOptions, MaskedUViT } from '../../models/maskdm.ts'
import type { Module } from '../../nn/index.ts'

/** Without and with what only some configurations have. */
export const small: MaskDMOptions = {
  inputSize: 8,
  patchSize: 2,
  inChannels: 3,
  hiddenSize: 16,
  depth: 3,
  numHeads: 2,
  numClasses: 0,
}
export const labelled = { ...small, numClasses: 5, qkvBias: true, mlpTimeEmbed: true }

export interface Place {
  readonly backend: Backend
  readonly dtype: DType
}
export const f64: Place = { backend: cpu, dtype: 'f64' }

/** Every weight from a normal distribution, so that biases too play a part. */
export function opened<M extends Module>(model: M, random: Rng): M {
  const drawn = [...model.stateDict()].map(([name, { shape, size }]) => {
    const spread = shape.length > 1 ? 0.8 / Math.sqrt(shape.slice(1).reduce((n, d) => n * d, 1)) : 0.3
    return [name, { shape, data: random.normalArray(size).map(z => z * spread) }] as const
  })
  model.loadStateDict(new Map(drawn))
  return model
}

/** A network in f64 on `cpu`. */
export function make(options: MaskDMOptions, seed = 1): MaskedUViT {
  return opened(new MaskedUViT(options, { rng: null, ...f64 }), rng(seed))
}

/** Standard normal pictures (N, C, H, W). */
export function pictures(N: number, { inChannels, inputSize }: MaskDMOptions, place = f64, seed = 2): Tensor {
  return rng(seed).normal([N, inChannels, inputSize, inputSize], place)
}
