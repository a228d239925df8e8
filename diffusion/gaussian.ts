/**
 * Gaussian diffusion: the forward process q that adds noise, its posterior, and the reverse step p that a network's
 * output describes. [DDPM §2, iDDPM §3.1] A diffusion is plain data (a schedule, and what the network predicts); the
 * equations are functions of it. They hold no state and draw nothing. Steps of a respaced diffusion are numbered
 * 0 … steps − 1; `timesteps` says which original timestep each one is, and that is what the network is given.
 */

import { anObject, check, checkFloats, checkOptions, checkTensor } from '../core/arguments.ts'
import {
  add,
  affine,
  clamp,
  exp,
  full,
  isFinite as isFiniteAt,
  mul,
  ShapeError,
  slice,
  sub,
  type Tensor,
  where,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { checkBatch, checkTimesteps, clipKinds, diffusionKinds } from './arguments.ts'
import { type Schedule, tablesOf } from './betas.ts'
import { perSample, scaled, type Timesteps } from './per-sample.ts'

/** Target of the network's first C channels: ε, x_0, or v = √ᾱ ε − √(1−ᾱ) x_0 [PD §4]. */
export type Prediction = 'epsilon' | 'xStart' | 'v'

/**
 * The variance of a reverse step. 'learnedRange': C more output channels, −1 … 1, interpolate between log β̃_t and
 * log β_t [iDDPM eq. 15]; 'fixedSmall': β̃_t; 'fixedLarge': β_t [DDPM §3.2].
 */
export type Variance = 'learnedRange' | 'fixedSmall' | 'fixedLarge'

export interface GaussianDiffusion extends Schedule {
  /** Number of steps, after respacing. */
  readonly steps: number
  /** The original timestep of each step, rising. */
  readonly timesteps: Int32Array
  readonly prediction: Prediction
  readonly variance: Variance
}

/** A diffusion process: its noise schedule, and the meaning of its network's output. */
export interface DiffusionOptions {
  readonly betas: ArrayLike<number>
  readonly prediction?: Prediction
  readonly variance?: Variance
}

/** A network: x_t (N, C, …) and N original timesteps → (N, C, …), or (N, 2C, …) where the variance is learned. */
export type Network = (x: Tensor, t: Int32Array) => Tensor

/** A diffusion over all timesteps. Defaults to ε-prediction with a learned variance, as in DiT and MDT. */
export function gaussianDiffusion(options: DiffusionOptions): GaussianDiffusion {
  checkOptions('gaussianDiffusion', options, diffusionKinds)
  const { betas, prediction = 'epsilon', variance = 'learnedRange' } = options
  const tables = tablesOf('gaussianDiffusion', betas)
  const steps = betas.length
  return {
    ...tables,
    steps,
    timesteps: Int32Array.from({ length: steps }, (_, t) => t),
    prediction,
    variance,
  }
}

/** The network's output for x (N, C, …) at steps t (N), for which it is given the original timesteps. Throws ShapeError, RangeError. */
export function callNetwork(op: string, d: GaussianDiffusion, network: Network, x: Tensor, t: Timesteps): Tensor {
  checkTimesteps(op, x, t, d.steps)
  const output = network(
    x,
    Int32Array.from(t, i => d.timesteps[i]),
  )
  checkTensor(op, 'the result of the network', output)
  return output
}

/** x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε: x0 and noise (N, …), t (N) → (N, …). [DDPM eq. 4] */
export function qSample(d: GaussianDiffusion, x0: Tensor, t: Timesteps, noise: Tensor): Tensor {
  checkBatch('qSample', d, { x0, noise }, t)
  const signal = scaled(x0, t, i => Math.sqrt(d.alphaBar[i]))
  return add(
    signal,
    scaled(noise, t, i => Math.sqrt(1 - d.alphaBar[i])),
  )
}

/** A Gaussian per element: mean (N, …); logVariance (N, …) or (N, 1, …, 1). */
export interface Gaussian {
  readonly mean: Tensor
  readonly logVariance: Tensor
}

/** q(x_{t−1} | x_t, x_0): the mean mixes x_0 and x_t, (N, …) both; the variance is β̃_t. [DDPM eq. 6, 7] */
export function qPosterior(d: GaussianDiffusion, x0: Tensor, xt: Tensor, t: Timesteps): Gaussian {
  checkBatch('qPosterior', d, { x0, xt }, t)
  const fromX0 = scaled(x0, t, i => d.posteriorMeanX0[i])
  const fromXt = scaled(xt, t, i => d.posteriorMeanXt[i])
  return { mean: add(fromX0, fromXt), logVariance: perSample(xt, t, i => d.posteriorLogVariance[i]) }
}

/** The distribution of x_{t−1} that a network's output gives. */
export interface ReverseStep extends Gaussian {
  /** exp(logVariance), except for 'fixedSmall' at t = 0, where it is 0. */
  readonly variance: Tensor
  /** The x_0 that the network has in mind, (N, C, …), clipped if asked. */
  readonly predXStart: Tensor
}

/** Option of steps that clip their prediction of x_0. */
export interface ClipOption {
  /**
   * Clip the predicted x_0 to [−1, 1]: for pixels, whose range that is, and not for latents. One that is not finite becomes
   * NaN. Default false.
   */
  readonly clip?: boolean
}

/** p(x_{t−1} | x_t) from the network's output at x_t (N, C, …) and t (N). Throws ShapeError on the wrong channels. */
export function pMeanVariance(
  d: GaussianDiffusion,
  output: Tensor,
  xt: Tensor,
  t: Timesteps,
  options: ClipOption = {},
): ReverseStep {
  checkBatch('pMeanVariance', d, { xt }, t)
  checkOptions('pMeanVariance', options, clipKinds)
  return reverseStepOf('pMeanVariance', d, splitOutput('pMeanVariance', d, output, xt), xt, t, options)
}

/** The same from the output's parts, (N, C, …). */
export function reverseStep(
  d: GaussianDiffusion,
  parts: OutputParts,
  xt: Tensor,
  t: Timesteps,
  options: ClipOption = {},
): ReverseStep {
  check('reverseStep', 'parts', parts, anObject)
  const { predicted, range } = parts
  checkBatch('reverseStep', d, { xt, predicted, ...(range && { range }) }, t)
  checkOptions('reverseStep', options, clipKinds)
  return reverseStepOf('reverseStep', d, parts, xt, t, options)
}

/** `reverseStep` for a function `op` that has checked its arguments. */
export function reverseStepOf(
  op: string,
  d: GaussianDiffusion,
  { predicted, range }: OutputParts,
  xt: Tensor,
  t: Timesteps,
  { clip = false }: ClipOption,
): ReverseStep {
  const unclipped = xStartIn(op, d, predicted, xt, t)
  const predXStart = clip ? clipped(unclipped) : unclipped
  const { mean } = qPosterior(d, predXStart, xt, t)
  if (range === null) return { mean, predXStart, ...fixedVariance(d, xt, t) }
  // log σ² = f log β_t + (1 − f) log β̃_t with f = (v + 1)/2  [iDDPM eq. 15]
  const low = perSample(xt, t, i => d.posteriorLogVariance[i])
  const width = perSample(xt, t, i => Math.log(d.betas[i]) - d.posteriorLogVariance[i])
  const logVariance = add(low, mul(affine(range, 0.5, 0.5), width))
  return { mean, predXStart, logVariance, variance: exp(logVariance) }
}

/** x_0 limited to [−1, 1], (N, C, …). What overflowed becomes NaN, so that it is not taken for black or white. */
function clipped(xStart: Tensor): Tensor {
  const { dtype, backend } = xStart
  return where(isFiniteAt(xStart), clamp(xStart, -1, 1), full([], Number.NaN, { dtype, backend }))
}

function fixedVariance(d: GaussianDiffusion, xt: Tensor, t: Timesteps): Omit<ReverseStep, 'mean' | 'predXStart'> {
  const { betas, posteriorVariance, posteriorLogVariance } = d
  if (d.variance === 'fixedSmall')
    return {
      variance: perSample(xt, t, i => posteriorVariance[i]),
      logVariance: perSample(xt, t, i => posteriorLogVariance[i]),
    }
  // The last step takes β̃_1 rather than β_0, as the official code does for a better decoder likelihood.
  const logLarge = (i: number) => (i > 0 ? Math.log(betas[i]) : posteriorLogVariance[0])
  return { variance: perSample(xt, t, i => Math.exp(logLarge(i))), logVariance: perSample(xt, t, logLarge) }
}

/** A network's output: the prediction (N, C, …), and the channels of the variance (N, C, …) where they are learned. */
export interface OutputParts {
  readonly predicted: Tensor
  readonly range: Tensor | null
}

/** Splits the output of a network that was given x (N, C, …). Throws ShapeError when it has the wrong shape. */
export function splitOutput(op: string, d: GaussianDiffusion, output: Tensor, x: Tensor): OutputParts {
  checkFloats(op, { x, output })
  const C = x.shape[1]
  const wanted = x.shape.with(1, d.variance === 'learnedRange' ? 2 * C : C)
  if (output.shape.length !== wanted.length || output.shape.some((n, i) => n !== wanted[i]))
    throw new ShapeError(
      `${op}: expected a network with variance '${d.variance}' to return [${wanted.join(', ')}], got [${output.shape.join(', ')}]`,
    )
  if (d.variance !== 'learnedRange') return { predicted: output, range: null }
  return { predicted: slice(output, 1, 0, C), range: slice(output, 1, C) } // (N, C, …) each
}

/**
 * x_0 from the network's prediction at (x_t, t): (N, C, …) each. Throws RangeError where ε is predicted and ᾱ_t is 0: x_t is
 * then noise alone, and its ε says nothing about x_0.
 */
export function xStartOf(d: GaussianDiffusion, predicted: Tensor, xt: Tensor, t: Timesteps): Tensor {
  checkBatch('xStartOf', d, { predicted, xt }, t)
  return xStartIn('xStartOf', d, predicted, xt, t)
}

function xStartIn(op: string, d: GaussianDiffusion, predicted: Tensor, xt: Tensor, t: Timesteps): Tensor {
  const { alphaBar } = d
  switch (d.prediction) {
    case 'xStart':
      return predicted
    case 'epsilon': {
      for (const i of Array.from(t))
        if (alphaBar[i] === 0)
          throw atCaller(
            new RangeError(
              `${op}: expected a network that predicts v or xStart where ᾱ is 0, got epsilon at step ${i}: pure noise holds nothing of x_0`,
            ),
          )
      // x_0 = x_t/√ᾱ − √(1/ᾱ − 1) ε, from [DDPM eq. 4]
      const fromXt = scaled(xt, t, i => Math.sqrt(1 / alphaBar[i]))
      const fromNoise = scaled(predicted, t, i => Math.sqrt(1 / alphaBar[i] - 1))
      return sub(fromXt, fromNoise)
    }
    case 'v': {
      // x_0 = √ᾱ x_t − √(1−ᾱ) v  [PD §4]
      const fromXt = scaled(xt, t, i => Math.sqrt(alphaBar[i]))
      const fromV = scaled(predicted, t, i => Math.sqrt(1 - alphaBar[i]))
      return sub(fromXt, fromV)
    }
  }
}

/** ε = (x_t − √ᾱ x_0) / √(1−ᾱ), from [DDPM eq. 4]: (N, C, …) each. Where ᾱ_t is 0, x_t itself. */
export function epsilonOf(d: GaussianDiffusion, xStart: Tensor, xt: Tensor, t: Timesteps): Tensor {
  checkBatch('epsilonOf', d, { xStart, xt }, t)
  const signal = scaled(xStart, t, i => Math.sqrt(d.alphaBar[i]))
  return scaled(sub(xt, signal), t, i => 1 / Math.sqrt(1 - d.alphaBar[i]))
}
