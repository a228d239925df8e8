/**
 * Training loss of a diffusion model: the squared error of its prediction, and where it learns variances, the bound's
 * term at the same step. [iDDPM §3.1] The bound moves the variances only: inside it the prediction is a constant.
 * Losses stay per sample, (N); the caller takes the mean. Masked models' own losses are in models/.
 */

import { aBoolean, aFunction, aNumber, anObject, check, checkOptions, oneOf } from '../core/arguments.ts'
import { add, mul, square, sub, type Tensor } from '../core/index.ts'
import { checkBatch, checkDiffusion } from './arguments.ts'
import { callNetwork, type GaussianDiffusion, type Network, qSample, reverseStepOf, splitOutput } from './gaussian.ts'
import { checkCount, meanPerSample, scaled, type Timesteps } from './per-sample.ts'
import { vlbTermsOf } from './vlb.ts'

/** Terms per sample, (N) each. */
export interface LossTerms {
  /** Mean squared error of the prediction, weighted. */
  readonly mse: Tensor
  /** The bound's term in bits per dimension; null where variances are fixed. */
  readonly vb: Tensor | null
  /** mse + vb */
  readonly loss: Tensor
}

/** Weights of the terms of a loss. */
export interface LossOptions {
  /** 'min-snr-5' weights the squared error by timestep, as MDT v2 does [Min-SNR §3.4]; 'uniform' (the default) by 1. */
  readonly weighting?: 'uniform' | 'min-snr-5'
  /**
   * Multiplies vb by steps/1000, which keeps λ = 0.001 with fewer steps: the official `rescale_learned_sigmas`, off in DiT
   * and MDT.
   */
  readonly rescaleVb?: boolean
}

/** Kinds of `LossOptions`. */
export const lossKinds = { weighting: oneOf(['uniform', 'min-snr-5']), rescaleVb: aBoolean }

/** A training example: x_t is x_0 with `noise` at step t. Shapes (N, C, …), t (N). */
export interface Diffused {
  readonly x0: Tensor
  readonly xt: Tensor
  readonly noise: Tensor
  readonly t: Timesteps
}

/** The loss of a network on x_0 with `noise` (both (N, C, …)) at steps t (N). Throws ShapeError, RangeError. */
export function trainingLoss(
  d: GaussianDiffusion,
  network: Network,
  x0: Tensor,
  t: Timesteps,
  noise: Tensor,
  options: LossOptions = {},
): LossTerms {
  checkBatch('trainingLoss', d, { x0, noise }, t)
  check('trainingLoss', 'network', network, aFunction)
  checkOptions('trainingLoss', options, lossKinds)
  const xt = qSample(d, x0, t, noise)
  return lossOf('trainingLoss', d, callNetwork('trainingLoss', d, network, xt, t), { x0, xt, noise, t }, options)
}

/**
 * The same from the network's output, (N, C or 2C, …): L_simple + λ L_vlb, where λ = 0.001 of the sum over T = 1000 steps is
 * one step's term. [iDDPM eq. 16]
 */
export function hybridLoss(
  d: GaussianDiffusion,
  output: Tensor,
  diffused: Diffused,
  options: LossOptions = {},
): LossTerms {
  check('hybridLoss', 'diffused', diffused, anObject)
  const { x0, xt, noise, t } = diffused
  checkBatch('hybridLoss', d, { x0, xt, noise }, t)
  checkOptions('hybridLoss', options, lossKinds)
  return lossOf('hybridLoss', d, output, diffused, options)
}

function lossOf(
  op: string,
  d: GaussianDiffusion,
  output: Tensor,
  { x0, xt, noise, t }: Diffused,
  { weighting = 'uniform', rescaleVb = false }: LossOptions,
): LossTerms {
  const { predicted, range } = splitOutput(op, d, output, xt)
  const error = meanPerSample(square(sub(targetOf(d, x0, noise, t), predicted))) // (N)
  const mse = weighting === 'uniform' ? error : scaled(error, t, i => snrWeight(d, i, 5))
  if (range === null) return { mse, vb: null, loss: mse }
  const p = reverseStepOf(op, d, { predicted: predicted.detach(), range }, xt, t, {})
  const terms = vlbTermsOf(d, p, x0, xt, t) // (N)
  const vb = rescaleVb ? mul(terms, d.steps / 1000) : terms
  return { mse, vb, loss: add(mse, vb) }
}

/** Target of the network's prediction: ε, x_0 or v of x0 with `noise` (both (N, C, …)) at steps t (N). */
export function predictionTarget(d: GaussianDiffusion, x0: Tensor, noise: Tensor, t: Timesteps): Tensor {
  checkBatch('predictionTarget', d, { x0, noise }, t)
  return targetOf(d, x0, noise, t)
}

function targetOf(d: GaussianDiffusion, x0: Tensor, noise: Tensor, t: Timesteps): Tensor {
  if (d.prediction === 'epsilon') return noise
  if (d.prediction === 'xStart') return x0
  // v = √ᾱ ε − √(1−ᾱ) x_0  [PD §4]
  const fromNoise = scaled(noise, t, i => Math.sqrt(d.alphaBar[i]))
  return sub(
    fromNoise,
    scaled(x0, t, i => Math.sqrt(1 - d.alphaBar[i])),
  )
}

/**
 * Weight of the squared error at step t: min(SNR, γ)/SNR, or min(SNR, γ) where x_0 is predicted, with
 * SNR = ᾱ/(1−ᾱ). [Min-SNR §3.4] For v it is that of ε, as in MDT v2's code. In pure noise, SNR = 0, they are 1 and 0.
 */
export function minSnrWeight(d: GaussianDiffusion, t: number, gamma = 5): number {
  checkDiffusion('minSnrWeight', d)
  checkCount('minSnrWeight', 't', t, 0, d.steps - 1)
  check('minSnrWeight', 'gamma', gamma, aNumber)
  return snrWeight(d, t, gamma)
}

function snrWeight(d: GaussianDiffusion, t: number, gamma: number): number {
  const snr = d.alphaBar[t] / (1 - d.alphaBar[t])
  return d.prediction === 'xStart' ? Math.min(snr, gamma) : Math.min(1, gamma / snr)
}
