/**
 * Helpers of MaskDM's tests: small networks with weights that block no path, and pictures for them.
 */

import { type Backend, cpu, type DType, rng, type Tensor } from '../../core/index.ts'
import { type MaskDMOptions, MaskedUViT } from '../../models/maskdm.ts'
import { opened } from './opened.ts'

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

/** A network in f64 on `cpu`. */
export function make(options: MaskDMOptions, seed = 1): MaskedUViT {
  return opened(new MaskedUViT(options, { rng: null, ...f64 }), rng(seed), 0.3)
}

/** Standard normal pictures (N, C, H, W). */
export function pictures(N: number, { inChannels, inputSize }: MaskDMOptions, place = f64, seed = 2): Tensor {
  return rng(seed).normal([N, inChannels, inputSize, inputSize], place)
}
