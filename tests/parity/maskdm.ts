/**
 * Shared by the kinds `maskdm` and `trajectory` for MaskDM: the network and the diffusion that a fixture's
 * configuration describes, stored masks, and the loss at a step.
 */

import { affine, mean, type Tensor } from '../../core/index.ts'
import { maskOfFlags } from '../../diffusion/block-masks.ts'
import type { GaussianDiffusion, Prediction } from '../../diffusion/gaussian.ts'
import type { TokenMask } from '../../diffusion/masking.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { extraTokens, MaskedUViT } from '../../models/maskdm.ts'
import { maskdmDiffusion, maskedDenoisingScoreMatching } from '../../models/maskdm-diffusion.ts'
import type { Fixture, JsonObject, Run } from './fixture.ts'
import type { Trainee } from './trainee.ts'
import { choose, loaded, place, withDefaults } from './transformer.ts'

/** The official defaults, those of the training script among them. The last seven change nothing that is computed here. */
const defaults: JsonObject = {
  img_size: 224,
  patch_size: 16,
  in_chans: 3,
  encoder_embed_dim: 768,
  encoder_depth: 12,
  encoder_heads: 12,
  mlp_ratio: 4,
  qkv_bias: false,
  num_classes: -1,
  mlp_time_embed: false,
  beta_schedule: 'cosine',
  shift: false,
  objective: 'pred_noise',
  loss_type: 'l2',
  T: 1000,
  name: '',
  use_checkpoint: false,
  dropout: 0,
  mask_type: null,
  mask_ratio: null,
  mask_block_size: null,
  mask_crop_size: null,
}

const predictions: Readonly<Record<string, Prediction>> = { pred_noise: 'epsilon', pred_x0: 'xStart', pred_v: 'v' }

/** True if a fixture's parameters are those of a MaskDM. */
export function isMaskdm(fixture: Fixture): boolean {
  return fixture.has('param.encoder.encoder_pos_embed')
}

/** The network that a fixture describes, with its parameters. Throws on a setting that it has not. */
export function maskdmOf(fixture: Fixture, run: Run): MaskedUViT {
  const config = withDefaults(fixture.config, defaults)
  const options = {
    inputSize: Number(config.img_size),
    patchSize: Number(config.patch_size),
    inChannels: Number(config.in_chans),
    hiddenSize: Number(config.encoder_embed_dim),
    depth: Number(config.encoder_depth),
    numHeads: Number(config.encoder_heads),
    mlpRatio: Number(config.mlp_ratio),
    numClasses: Math.max(Number(config.num_classes), 0), // −1 for none
    qkvBias: config.qkv_bias === true,
    mlpTimeEmbed: config.mlp_time_embed === true,
  }
  return loaded(new MaskedUViT(options, place(run)), fixture)
}

/** The diffusion that a fixture describes. */
export function maskdmDiffusionOf(fixture: Fixture): GaussianDiffusion {
  const { T, beta_schedule, shift, img_size, objective } = withDefaults(fixture.config, defaults)
  const schedule = choose('beta_schedule', beta_schedule, { cosine: 'cosine', linear: 'linear' } as const)
  const prediction = choose('objective', objective, predictions)
  return maskdmDiffusion({ T: Number(T), schedule, prediction, shiftTo: shift === true ? Number(img_size) : undefined })
}

/** A mask as stored: (N, E + T) flags, of which those of the E extra tokens are 0. */
export function storedMask({ data, shape }: HostTensor, model: MaskedUViT, { backend }: Run): TokenMask {
  const E = extraTokens(model.options)
  const [N, width] = shape
  const flags = Array.from(data)
  if (flags.some((flag, i) => i % width < E && flag !== 0))
    throw new Error(`expected a mask that keeps the first ${E} tokens, got one that removes one of them`)
  return maskOfFlags(
    flags.filter((_, i) => i % width >= E),
    [N, width - E],
    { backend },
  )
}

/** Inputs of a training step. */
export interface StoredStep {
  /** Pictures in [0, 1]. */
  readonly images: Tensor
  readonly t: ArrayLike<number>
  readonly noise: Tensor
  readonly labels: ArrayLike<number> | null
  readonly mask: TokenMask | null
}

/** The mean of the loss that a fixture describes. */
export function maskdmLoss(
  fixture: Fixture,
  model: MaskedUViT,
  diffusion: GaussianDiffusion,
  { images, t, noise, labels, mask }: StoredStep,
): Tensor {
  const { loss_type } = withDefaults(fixture.config, defaults)
  const error = choose('loss_type', loss_type, { l1: 'l1', l2: 'l2' } as const)
  const x0 = affine(images, 2, -1)
  return mean(maskedDenoisingScoreMatching(model, diffusion, x0, t, { noise, mask }, { labels, error }))
}

/** Trainee of kind `trajectory`. */
export function maskdmTrainee(fixture: Fixture, run: Run): Trainee {
  const model = maskdmOf(fixture, run)
  const diffusion = maskdmDiffusionOf(fixture)
  const termsAt = (step: number) => ({
    loss: maskdmLoss(fixture, model, diffusion, {
      images: fixture.row('in.img', step, run),
      t: fixture.hostRow('in.t', step).data,
      noise: fixture.row('in.noise', step, run),
      labels: fixture.has('in.y') ? fixture.hostRow('in.y', step).data : null,
      mask: fixture.has('in.mask') ? storedMask(fixture.hostRow('in.mask', step), model, run) : null,
    }),
  })
  return { model, termsAt }
}
