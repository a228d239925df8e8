/**
 * How MaskDM's network is trained and sampled. Masked pre-training takes noise off the visible patches only, and so learns
 * the marginal distributions of which the picture's has all [MaskDM §3.2]; denoising fine-tuning is the same loss
 * without a mask. Sampling is DDIM as the official code has it: η = 1 by default, the predicted x_0 is clipped while the
 * ε beside it is kept, and the pictures come out in [0, 1]. Read maskdm.ts first; masks are diffusion/block-masks.ts.
 */

import { aFunction, aNumber, check, checkOptions, instanceOf, numbers, oneOf, orNull } from '../core/arguments.ts'
import {
  abs,
  affine,
  gatherRows,
  patchify,
  permute,
  type Rng,
  reshape,
  square,
  sub,
  type Tensor,
} from '../core/index.ts'
import { aNoiseSource, checkBatch, checkLoop } from '../diffusion/arguments.ts'
import { cosineBetas, linearBetas, scheduleOf, shiftedCosineBetas } from '../diffusion/betas.ts'
import { type Masking, patchesKept, sampleMask } from '../diffusion/block-masks.ts'
import {
  callNetwork,
  type GaussianDiffusion,
  gaussianDiffusion,
  type Network,
  type Prediction,
  qSample,
} from '../diffusion/gaussian.ts'
import { finish, type NoiseSource, type OnStep } from '../diffusion/loop.ts'
import { predictionTarget } from '../diffusion/losses.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import { checkCount, meanPerSample, type Timesteps } from '../diffusion/per-sample.ts'
import { maskdmTimesteps, respace } from '../diffusion/respace.ts'
import { checkNoise, ddimSteps, type SampleStep } from '../diffusion/samplers.ts'
import { checkInputs, checkSample } from './arguments.ts'
import { gridOf } from './dit.ts'
import { MaskedUViT } from './maskdm.ts'

/** The process that MaskDM undoes. */
export interface MaskDMDiffusionOptions {
  /** Default 'cosine'. */
  readonly schedule?: 'cosine' | 'linear'
  /** Height and width of the pictures that the cosine schedule is shifted to (`shiftedCosineBetas`). Not shifted by default. */
  readonly shiftTo?: number
  /** Number of timesteps. Default 1000. */
  readonly T?: number
  /** Default 'epsilon'. */
  readonly prediction?: Prediction
}

const maskdmDiffusionKinds = {
  schedule: oneOf(['cosine', 'linear']),
  shiftTo: aNumber,
  T: aNumber,
  prediction: oneOf(['epsilon', 'xStart', 'v']),
}

/** The official diffusion: no learned variance, and log β̃_0 is that of a floor of 1e-20. Throws RangeError. */
export function maskdmDiffusion(options: MaskDMDiffusionOptions = {}): GaussianDiffusion {
  checkOptions('maskdmDiffusion', options, maskdmDiffusionKinds)
  const { schedule = 'cosine', shiftTo, T = 1000, prediction = 'epsilon' } = options
  const cosine = () => (shiftTo === undefined ? cosineBetas(T) : shiftedCosineBetas(T, shiftTo))
  const betas = schedule === 'cosine' ? cosine() : linearBetas(T)
  return { ...gaussianDiffusion({ betas, prediction, variance: 'fixedSmall' }), ...scheduleOf(betas, 1e-20) }
}

/** Random inputs of a training step on N pictures. */
export interface MaskDMInputs {
  /** ε, like x_0 */
  readonly noise: Tensor
  /** null in fine-tuning. */
  readonly mask: TokenMask | null
}

const aMaskDM = instanceOf('a MaskedUViT', MaskedUViT)

/** Samples the inputs of a step for pictures x0 (N, C, H, W), with a mask of that kind, or null for none. Throws RangeError. */
export function sampleMaskDMInputs(model: MaskedUViT, x0: Tensor, masking: Masking | null, rng: Rng): MaskDMInputs {
  check('sampleMaskDMInputs', 'model', model, aMaskDM)
  checkSample('sampleMaskDMInputs', x0, null, rng)
  if (masking !== null) patchesKept('sampleMaskDMInputs', masking, gridOf(model.options))
  const { dtype, backend } = x0
  return {
    noise: rng.normal(x0.shape, { dtype, backend }),
    mask: masking && sampleMask(masking, x0.shape[0], gridOf(model.options), rng, { backend }),
  }
}

/** Inputs of a loss besides pictures. */
export interface MaskDMLossOptions {
  /** N labels, or null (the default) for none. */
  readonly labels?: ArrayLike<number> | null
  /** 'l2' (the default) squares the error, 'l1' takes its size. */
  readonly error?: 'l2' | 'l1'
}

/**
 * L_mdsm = E ‖ε̂ − ε_θ(√ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂, t)‖², where x̂_0 and ε̂ are the visible patches of x0 and noise, (N, C, H, W)
 * both, at steps t (N); of all patches, and so the usual loss, without a mask. Mean per picture, (N). [MaskDM §3.2]
 * Throws ShapeError and RangeError.
 */
export function maskedDenoisingScoreMatching(
  model: MaskedUViT,
  d: GaussianDiffusion,
  x0: Tensor,
  t: Timesteps,
  inputs: MaskDMInputs,
  options: MaskDMLossOptions = {},
): Tensor {
  const op = 'maskedDenoisingScoreMatching'
  check(op, 'model', model, aMaskDM)
  checkBatch(op, d, { x0 }, t)
  checkInputs(op, x0, inputs)
  checkOptions(op, options, { labels: orNull(numbers), error: oneOf(['l2', 'l1']) })
  const { noise, mask } = inputs
  const { labels = null, error = 'l2' } = options
  const network: Network = (x, time) => model.patches(x, time, labels, mask)
  const predicted = callNetwork(op, d, network, qSample(d, x0, t, noise), t) // (N, K, P·P·C)
  const wanted = visiblePatches(predictionTarget(d, x0, noise, t), model.options.patchSize, mask) // (N, K, P·P·C)
  const difference = sub(predicted, wanted)
  return meanPerSample(error === 'l2' ? square(difference) : abs(difference)) // (N)
}

/** The patches of x (N, C, H, W) that a mask keeps, or all, each in the order of the network's: (N, K, P·P·C). */
function visiblePatches(x: Tensor, P: number, mask: TokenMask | null): Tensor {
  const all = patchify(x, P) // (N, T, C·P·P)
  const kept = mask === null ? all : gatherRows(all, mask.idsKeep) // (N, K, C·P·P)
  const [[N, K], C] = [kept.shape, x.shape[1]]
  return reshape(permute(reshape(kept, [N, K, C, P * P]), [0, 1, 3, 2]), [N, K, P * P * C])
}

/** How pictures are drawn. */
export interface MaskDMSampling {
  /** Network evaluations, in [1, T]. */
  readonly steps: number
  /** Fresh noise of a step: 1 (the default) as much as DDPM, 0 none. */
  readonly eta?: number
  /** Needed with eta above 0; it is not used in the last step. */
  readonly noise?: NoiseSource
}

/**
 * The official DDIM loop from x_T (N, C, H, W), step by step; the last x is in [−1, 1]. The official code never gives the
 * network labels here; `(x, t) => model.forward(x, t, y)` does. Throws RangeError on more steps than timesteps.
 */
export function maskdmSteps(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: MaskDMSampling,
): Generator<SampleStep, void> {
  checkLoop('maskdmSteps', d, network, xT, options, samplingKinds)
  return loopOf('maskdmSteps', d, network, xT, options)
}

const samplingKinds = { steps: aNumber, eta: aNumber, noise: aNoiseSource }

function loopOf(
  op: string,
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  { steps, eta = 1, noise }: MaskDMSampling,
): Generator<SampleStep, void> {
  checkCount(op, 'steps', steps, 1, d.steps)
  checkNoise(op, eta, noise)
  const few = respace(d, maskdmTimesteps(d.steps, steps))
  return ddimSteps(few, network, xT, { eta, clip: true, keepEpsilon: true, noise })
}

/** The sample of `maskdmSteps`, with a callback, as (x + 1)/2: pictures (N, C, H, W) in [0, 1]. */
export function maskdmSample(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: MaskDMSampling & OnStep<SampleStep>,
): Tensor {
  checkLoop('maskdmSample', d, network, xT, options, { ...samplingKinds, onStep: aFunction })
  const { onStep, ...sampling } = options
  const x = finish(loopOf('maskdmSample', d, network, xT, sampling), onStep)
  const pictures = affine(x, 0.5, 0.5)
  x.dispose()
  return pictures
}
