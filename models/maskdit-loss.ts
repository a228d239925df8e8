/**
 * MaskDiT's training loss: denoising score matching on the visible patches, plus a little of the reconstruction of
 * the removed ones, whose target is the noised picture itself. [MaskDiT §2.2] Training ends with a phase of unmasking
 * tuning, in which the mask ratio is 0 or falls to it. Read maskdit.ts first.
 */

import { aNumber, check, checkOptions, describe, instanceOf, numbers, oneOf } from '../core/arguments.ts'
import {
  add,
  div,
  mean,
  mul,
  patchify,
  type Rng,
  ShapeError,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  variance,
  where,
  zeros,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { logNormalSigma, lossWeight } from '../diffusion/edm.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import { meanPerSample, scaled } from '../diffusion/per-sample.ts'
import { dropLabels } from '../nn/index.ts'
import { checkInputs, checkSample } from './arguments.ts'
import { PreconditionedMaskDiT } from './maskdit.ts'

/** Random inputs of a training step on N pictures. */
export interface MaskDiTInputs {
  /** N noise levels, above 0. */
  readonly sigma: Float64Array
  /** Standard normal, like the pictures. */
  readonly noise: Tensor
  /** N labels after dropping, or null without. */
  readonly labels: ArrayLike<number> | null
  /** null in an unmasked step. */
  readonly mask: TokenMask | null
}

const aMaskDiT = instanceOf('a PreconditionedMaskDiT', PreconditionedMaskDiT)

/**
 * Samples the inputs of a step for pictures y (N, C, H, W) with N labels, or null. The mask removes a share `ratio` of the
 * tokens, in [0, 1). Throws RangeError.
 */
export function sampleMaskDiTInputs(
  net: PreconditionedMaskDiT,
  y: Tensor,
  labels: ArrayLike<number> | null,
  ratio: number,
  rng: Rng,
): MaskDiTInputs {
  check('sampleMaskDiTInputs', 'net', net, aMaskDiT)
  checkSample('sampleMaskDiTInputs', y, labels, rng)
  if (!(typeof ratio === 'number' && ratio >= 0 && ratio < 1))
    throw atCaller(new RangeError(`sampleMaskDiTInputs: ratio: expected a number in [0, 1), got ${describe(ratio)}`))
  const { numClasses, classDropoutProb = 0.1 } = net.model.options
  const [N] = y.shape
  return {
    sigma: logNormalSigma(rng.normalArray(N)),
    noise: rng.normal(y.shape, { dtype: y.dtype, backend: y.backend }),
    labels: labels && dropLabels(labels, rng.uniformArray(N), classDropoutProb, numClasses),
    mask: net.sampleMask(N, ratio, rng),
  }
}

/** Terms per picture, (N) each. */
export interface MaskDiTLoss {
  /** Denoising score matching, weighted by λ(σ). */
  readonly dsm: Tensor
  /** Reconstruction of removed patches; null where none was, or where its weight is 0. */
  readonly mae: Tensor | null
  /** dsm + maeLossCoef · mae: its mean is minimised. */
  readonly loss: Tensor
}

/** The loss of clean pictures y (N, C, H, W). Throws ShapeError and RangeError. */
export function maskDiTLoss(net: PreconditionedMaskDiT, y: Tensor, inputs: MaskDiTInputs): MaskDiTLoss {
  check('maskDiTLoss', 'net', net, aMaskDiT)
  checkInputs('maskDiTLoss', y, inputs)
  const { sigma, noise, labels, mask } = inputs
  check('maskDiTLoss', 'sigma', sigma, numbers)
  if (sigma.length !== y.shape[0])
    throw new ShapeError(`maskDiTLoss: expected a sigma for each of ${y.shape[0]} pictures, got ${sigma.length}`)
  const { patchSize: P, maeLossCoef = 0.1 } = net.model.options
  const noised = add(
    y,
    scaled(noise, sigma, s => s),
  ) // y + n
  const denoised = net.forward(noised, sigma, labels, mask)
  const error = mask === null ? denoisingError(denoised, y) : visibleDenoisingError(denoised, y, mask, P) // (N)
  const dsm = scaled(error, sigma, s => lossWeight(s, net.sigmaData)) // (N)
  if (mask === null) return { dsm, mae: null, loss: withMaskToken(dsm, net.model.mask_token) }
  if (maeLossCoef === 0) return { dsm, mae: null, loss: dsm }
  const mae = maskedReconstruction(denoised, noised, mask, P) // (N)
  return { dsm, mae, loss: add(dsm, mul(mae, maeLossCoef)) }
}

/** Gives the mask token, which an unmasked step does not use, a gradient of 0: the optimizer's moments then still move it. */
function withMaskToken(loss: Tensor, token: Tensor | null): Tensor {
  return token === null ? loss : add(loss, mul(sum(token), 0))
}

/** Mean of (D − y)²: (N, C, H, W) twice → (N). */
function denoisingError(denoised: Tensor, y: Tensor): Tensor {
  return meanPerSample(square(sub(denoised, y)))
}

/** The same over visible patches only. [MaskDiT §2.2] */
function visibleDenoisingError(denoised: Tensor, y: Tensor, mask: TokenMask, P: number): Tensor {
  return meanOverTokens(mean(patchify(square(sub(denoised, y)), P), 2), mask, 'kept') // (N)
}

/**
 * Mean squared error of D on removed patches against the noised input, each patch normalised to mean 0 and
 * (unbiased) variance 1: (N, C, H, W) twice → (N). Not weighted by the noise level. [MaskDiT §2.2] Throws RangeError on
 * patches of a single number, which have no variance, and where no patch was removed.
 */
export function maskedReconstruction(denoised: Tensor, noised: Tensor, mask: TokenMask, P: number): Tensor {
  const patches = patchify(noised, P) // (N, T, C·P·P)
  const [, T, size] = patches.shape
  if (size < 2)
    throw atCaller(new RangeError(`maskedReconstruction: expected patches of at least 2 numbers, got ${size}`))
  if (mask.kept === T)
    throw atCaller(new RangeError(`maskedReconstruction: expected a mask that removes a token, got ${T} kept`))
  const deviation = sqrt(add(variance(patches, 2, { ddof: 1, keepDims: true }), 1e-6)) // (N, T, 1)
  const target = div(sub(patches, mean(patches, 2, true)), deviation)
  return meanOverTokens(mean(square(sub(patchify(denoised, P), target)), 2), mask, 'removed')
}

/** Mean over those of the tokens of x (N, T) that a mask kept, or removed: (N). */
function meanOverTokens(x: Tensor, { mask, kept }: TokenMask, which: 'kept' | 'removed'): Tensor {
  const none = zeros([], { dtype: x.dtype, backend: x.backend })
  const chosen = which === 'kept' ? where(mask, none, x) : where(mask, x, none) // (N, T)
  return div(sum(chosen, 1), which === 'kept' ? kept : x.shape[1] - kept) // (N)
}

// ---- the share of tokens to remove, over a phase of training --------------------------------------------------------

/** A mask ratio by how much of the phase is over, in [0, 1]. */
export type MaskRatio = (progress: number) => number

/** The official schedules of the mask ratio, by name. */
export type MaskRatioName = 'constant' | 'linear' | 'exp' | `cosine${2 | 3 | 4 | 5 | 6}`

const cosine = (power: number) => (x: number) => Math.cos((Math.PI * x) / 2) ** power

/** Remaining share of ratio − least; 'linear' rises, as in the official code. */
const shares: Readonly<Record<MaskRatioName, MaskRatio>> = {
  constant: () => 1,
  linear: x => x,
  exp: x => Math.exp(-7 * x),
  cosine2: cosine(2),
  cosine3: cosine(3),
  cosine4: cosine(4),
  cosine5: cosine(5),
  cosine6: cosine(6),
}

/**
 * The official schedules, from `ratio` (default 0.5) towards `least` (default 0), which 'constant' ignores. Throws
 * RangeError on another name or on ratios outside [0, 1), and when called with a progress outside [0, 1].
 */
export function maskRatioSchedule(name: MaskRatioName, options: MaskRatioOptions = {}): MaskRatio {
  checkOptions('maskRatioSchedule', options, { ratio: aNumber, least: aNumber })
  return scheduleOf('maskRatioSchedule', name, options)
}

/** Options of `maskRatioSchedule`. */
export interface MaskRatioOptions {
  /** In [0, 1). Default 0.5. */
  readonly ratio?: number
  /** In [0, 1). Default 0. */
  readonly least?: number
}

function scheduleOf(op: string, name: MaskRatioName, { ratio = 0.5, least = 0 }: MaskRatioOptions): MaskRatio {
  if (typeof name !== 'string' || !Object.hasOwn(shares, name))
    throw atCaller(
      new RangeError(`${op}: name: expected one of ${Object.keys(shares).join(', ')}, got ${describe(name)}`),
    )
  for (const [what, value] of Object.entries({ ratio, least }))
    if (!(typeof value === 'number' && value >= 0 && value < 1))
      throw atCaller(new RangeError(`${op}: ${what}: expected a number in [0, 1), got ${describe(value)}`))
  const end = name === 'constant' ? 0 : least
  return progress => {
    if (!(progress >= 0 && progress <= 1))
      throw atCaller(new RangeError(`${op}: progress: expected a number in [0, 1], got ${progress}`))
    return (ratio - end) * shares[name](progress) + end
  }
}

/** The paper's two ways to tune a model that was trained masked: no mask at all, or half a cosine's fourth power. */
export function unmaskingTuning(way: 'zero' | 'cosine', ratio = 0.5): MaskRatio {
  const op = 'unmaskingTuning'
  check(op, 'way', way, oneOf(['zero', 'cosine']))
  return way === 'zero' ? scheduleOf(op, 'constant', { ratio: 0 }) : scheduleOf(op, 'cosine4', { ratio })
}
