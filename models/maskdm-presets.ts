/**
 * MaskDM's official configurations under their official names, and `tiny`, `tiny/4` and `tiny/8`, small ones for pictures of 16, 32 and 64 pixels. A
 * configuration is one stage of training: masked for pre-training, or unmasked for fine-tuning and for the model without
 * pre-training it is compared with. The other models' sizes are presets.ts.
 */

import { describe } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import type { Masking } from '../diffusion/block-masks.ts'
import type { MaskDMOptions } from './maskdm.ts'

/** Training settings of a configuration, for AdamW with the betas and the weight decay of `maskdmOptimizer`. */
export interface MaskDMTraining {
  readonly batch: number
  readonly lr: number
  /** Steps over which the learning rate rises from 0 (`warmUp`). */
  readonly warmUpSteps: number
  /** Clips the gradients' global norm; null for no clipping. */
  readonly maxNorm: number | null
  /** Of the moving average of weights (`powerDecay`). */
  readonly emaDecay: number
  /** True if pictures are flipped horizontally with probability ½. */
  readonly flip: boolean
}

/** A model of the paper with the settings of its two stages. */
export interface MaskDMPreset {
  readonly network: MaskDMOptions
  /** null for unmasked training. */
  readonly masking: Masking | null
  readonly schedule: 'cosine' | 'linear'
  readonly training: MaskDMTraining
}

/** Optimizer settings of all configurations. */
export const maskdmOptimizer = { betas: [0.99, 0.99], weightDecay: 0.03 } as const

const pixels = { patchSize: 4, inChannels: 3, numClasses: 0 }
const small64 = { ...pixels, inputSize: 64, hiddenSize: 512, depth: 13, numHeads: 8 }
const small256 = { ...small64, inputSize: 256 }
const base256 = { ...pixels, inputSize: 256, hiddenSize: 768, depth: 12, numHeads: 12 } // 13 blocks

const pretraining = { batch: 256, lr: 2e-4, warmUpSteps: 0, maxNorm: null, emaDecay: 0.999, flip: false }
const clipped = { ...pretraining, maxNorm: 1 }
const fromSmall = { ...pretraining, batch: 64, lr: 5e-5, flip: true }
const warmed = { ...clipped, warmUpSteps: 5000 }

const patch = (ratio: number): Masking => ({ way: 'patch', ratio })
const block = (size: number, ratio: number): Masking => ({ way: 'block', ratio, size })
const crop = (size: number): Masking => ({ way: 'crop', size })

/** CelebA at 64 px, for the paper's comparison of masks. */
const ablation = (masking: Masking | null, training: MaskDMTraining = pretraining): MaskDMPreset => ({
  network: small64,
  masking,
  schedule: 'linear',
  training,
})
const cosine = (network: MaskDMOptions, masking: Masking | null, training: MaskDMTraining): MaskDMPreset => ({
  network,
  masking,
  schedule: 'cosine',
  training,
})

/** Of 64 tokens. */
const tiny = (inputSize: number, patchSize: number) =>
  cosine(
    { inputSize, patchSize, inChannels: 3, hiddenSize: 128, depth: 5, numHeads: 4, numClasses: 0 },
    block(2, 0.5),
    {
      batch: 64,
      lr: 1e-3,
      warmUpSteps: 100,
      maxNorm: 1,
      emaDecay: 0.999,
      flip: true,
    },
  )

/** By official name, without `.yml`. */
export const maskdmPresets: Readonly<Record<string, MaskDMPreset>> = {
  tiny: tiny(16, 2),
  'tiny/4': tiny(32, 4),
  'tiny/8': tiny(64, 8),
  'ablation/celeba_small': ablation(null, { ...pretraining, batch: 128 }),
  'ablation/pretrain/patch/celeba_10p': ablation(patch(0.1)),
  'ablation/pretrain/patch/celeba_50p': ablation(patch(0.5)),
  'ablation/pretrain/patch/celeba_90p': ablation(patch(0.9)),
  'ablation/pretrain/block2/celeba_10p': ablation(block(2, 0.1)),
  'ablation/pretrain/block2/celeba_50p': ablation(block(2, 0.5)),
  'ablation/pretrain/block2/celeba_90p': ablation(block(2, 0.9)),
  'ablation/pretrain/block4/celeba_10p': ablation(block(4, 0.1)),
  'ablation/pretrain/block4/celeba_50p': ablation(block(4, 0.5)),
  'ablation/pretrain/block4/celeba_90p': ablation(block(4, 0.9)),
  'ablation/pretrain/block8/celeba_50p': ablation(block(8, 0.5)),
  'ablation/pretrain/crop/celeba_10p': ablation(crop(15)),
  'ablation/pretrain/crop/celeba_50p': ablation(crop(11)),
  'ablation/pretrain/crop/celeba_90p': ablation(crop(5)),
  base: cosine(small256, null, { ...fromSmall, batch: 32, flip: false }),
  celebahq_base: cosine(base256, null, { ...warmed, batch: 32, lr: 1e-5 }),
  celebahq_base_50p: cosine(base256, block(4, 0.5), { ...warmed, batch: 64 }),
  celebahq_base_90p: cosine(base256, block(4, 0.9), clipped),
  church256_base: {
    ...cosine(base256, null, { ...warmed, batch: 64, lr: 1e-4, emaDecay: 0.9999, flip: true }),
    schedule: 'linear',
  },
  'transfer/celebahq_small_90p': cosine(small256, block(4, 0.9), clipped),
  'transfer/vggface2_small_90p': cosine(small256, block(4, 0.9), clipped),
  'transfer/celebahq_small_0.1': cosine(small256, null, fromSmall),
  'transfer/celebahq_small_0.01': cosine(small256, null, fromSmall),
}

/** The configuration of that name. Throws RangeError on an unknown one. */
export function maskdmPreset(name: string): MaskDMPreset {
  if (typeof name !== 'string' || !Object.hasOwn(maskdmPresets, name))
    throw atCaller(
      new RangeError(`maskdmPreset: expected one of ${Object.keys(maskdmPresets).join(', ')}, got ${describe(name)}`),
    )
  return maskdmPresets[name]
}
