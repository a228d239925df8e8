/**
 * From noise to samples: ancestral sampling [DDPM alg. 2] and DDIM [DDIM eq. 12], one step each, and the loops over all
 * steps: `ddpmSteps` and `ddimSteps` are generators that stop after every step (loop.ts), `ddpmSample` and `ddimSample`
 * run to the end. Noise is given, or drawn from the caller's rng. For guidance wrap the network (guidance.ts), for fewer
 * steps the diffusion (respace.ts). Samplers over noise levels σ: edm-samplers.ts.
 */

import { aBoolean, aFunction, aNumber, check, checkOptions } from '../core/arguments.ts'
import { add, exp, mul, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { aNoiseSource, checkBatch, checkLoop, clipKinds } from './arguments.ts'
import {
  type ClipOption,
  callNetwork,
  epsilonOf,
  type GaussianDiffusion,
  type Network,
  reverseStepOf,
  splitOutput,
} from './gaussian.ts'
import { finish, type NoiseSource, noiseLike, type OnStep, type Sampled, type Stepped, stepping } from './loop.ts'
import { checkRange, perSample, scaled, type Timesteps } from './per-sample.ts'

/**
 * x_{t−1} = μ + σ z with μ and σ from the network; z = `noise` (N, C, …) is left out in samples at t = 0.
 * [DDPM alg. 2, line 4]
 */
export function ddpmStep(
  d: GaussianDiffusion,
  network: Network,
  x: Tensor,
  t: Timesteps,
  noise: Tensor,
  options: ClipOption = {},
): Sampled {
  checkBatch('ddpmStep', d, { x, noise }, t)
  check('ddpmStep', 'network', network, aFunction)
  checkOptions('ddpmStep', options, clipKinds)
  return ancestralStep('ddpmStep', d, network, x, t, noise, options)
}

function ancestralStep(
  op: string,
  d: GaussianDiffusion,
  network: Network,
  x: Tensor,
  t: Timesteps,
  noise: Tensor,
  options: ClipOption,
): Sampled {
  const parts = splitOutput(op, d, callNetwork(op, d, network, x, t), x)
  const { mean, logVariance, predXStart } = reverseStepOf(op, d, parts, x, t, options)
  const spread = mul(exp(mul(logVariance, 0.5)), notAtStart(x, t))
  return { x: add(mean, mul(spread, noise)), predXStart }
}

/** 0 for samples at t = 0, else 1: (N, 1, …, 1). */
function notAtStart(x: Tensor, t: Timesteps): Tensor {
  return perSample(x, t, i => (i === 0 ? 0 : 1))
}

/** Options of a DDIM step. */
export interface DdimOptions extends ClipOption {
  /** 0 (the default) gives the same sample for the same noise; 1 adds as much noise as DDPM. In [0, 1]. */
  readonly eta?: number
  /** Keep the ε that the network predicted, as MaskDM does, where clipping has changed the x_0 that goes with it. */
  readonly keepEpsilon?: boolean
}

/**
 * x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ²) ε̂ + σ z, with σ = η √((1−ᾱ_{t−1})/(1−ᾱ_t)) √β_t and ε̂ derived
 * again from x̂_0. `noise` z (N, C, …) is not used, and may be null, where η is 0. [DDIM eq. 12, 16]
 */
export function ddimStep(
  d: GaussianDiffusion,
  network: Network,
  x: Tensor,
  t: Timesteps,
  noise: Tensor | null,
  options: DdimOptions = {},
): Sampled {
  checkBatch('ddimStep', d, noise === null ? { x } : { x, noise }, t)
  check('ddimStep', 'network', network, aFunction)
  checkOptions('ddimStep', options, ddimKinds)
  return implicitStep('ddimStep', d, network, x, t, noise, options)
}

function implicitStep(
  op: string,
  d: GaussianDiffusion,
  network: Network,
  x: Tensor,
  t: Timesteps,
  noise: Tensor | null,
  { eta = 0, keepEpsilon = false, ...clip }: DdimOptions,
): Sampled {
  checkRange(op, 'eta', eta, 0, 1)
  const { alphaBar, alphaBarPrev, betas } = d
  const parts = splitOutput(op, d, callNetwork(op, d, network, x, t), x)
  const { predXStart } = reverseStepOf(op, d, parts, x, t, clip)
  const keep = keepEpsilon && d.prediction === 'epsilon'
  const epsilon = keep ? parts.predicted : epsilonOf(d, predXStart, x, t)
  // β_t is 1 − ᾱ_t/ᾱ_{t−1} without a division by a ᾱ that may be 0.
  const variance = (i: number) => eta ** 2 * ((1 - alphaBarPrev[i]) / (1 - alphaBar[i])) * betas[i]
  const rest = (i: number) => Math.max(0, 1 - alphaBarPrev[i] - variance(i))
  const towards = scaled(predXStart, t, i => Math.sqrt(alphaBarPrev[i]))
  const direction = scaled(epsilon, t, i => Math.sqrt(rest(i)))
  const mean = add(towards, direction)
  if (eta === 0) return { x: mean, predXStart }
  if (noise === null) throw atCaller(new Error(`${op}: noise: expected a tensor, as eta is ${eta}, got null`))
  // The variance is 0 at t = 0, where ᾱ_{t−1} = 1.
  const random = scaled(noise, t, i => Math.sqrt(variance(i)))
  return { x: add(mean, random), predXStart }
}

/** DDIM with η = 0 backwards, from x_t (N, C, …) to the x_{t+1} that it would come from. [DDIM §4.3] */
export function ddimReverseStep(
  d: GaussianDiffusion,
  network: Network,
  x: Tensor,
  t: Timesteps,
  options: ClipOption = {},
): Sampled {
  checkBatch('ddimReverseStep', d, { x }, t)
  check('ddimReverseStep', 'network', network, aFunction)
  checkOptions('ddimReverseStep', options, clipKinds)
  const parts = splitOutput('ddimReverseStep', d, callNetwork('ddimReverseStep', d, network, x, t), x)
  const { predXStart } = reverseStepOf('ddimReverseStep', d, parts, x, t, options)
  const towards = scaled(predXStart, t, i => Math.sqrt(d.alphaBarNext[i]))
  const direction = scaled(epsilonOf(d, predXStart, x, t), t, i => Math.sqrt(1 - d.alphaBarNext[i]))
  return { x: add(towards, direction), predXStart }
}

/** Options of ancestral sampling. */
export interface DdpmOptions extends ClipOption {
  readonly noise: NoiseSource
}

/** Options of a DDIM loop. */
export interface DdimLoopOptions extends DdimOptions {
  /** Needed where eta is above 0. */
  readonly noise?: NoiseSource
}

/** A loop after one of its steps: number and original timestep, x and prediction. */
export type SampleStep = Stepped<{ readonly t: number }>

/**
 * Ancestral sampling from x_T (N, C, …), step by step; the last step's x is the sample. Yielded tensors stay valid until the
 * generator advances or is closed.
 */
export function ddpmSteps(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdpmOptions,
): Generator<SampleStep, void> {
  return ddpmLoop('ddpmSteps', d, network, xT, options)
}

const ddpmKinds = { ...clipKinds, noise: aNoiseSource }

function ddpmLoop(
  op: string,
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdpmOptions,
): Generator<SampleStep, void> {
  checkLoop(op, d, network, xT, options, ddpmKinds)
  const { noise, ...clip } = options
  check(op, 'noise', noise, aNoiseSource)
  return descend(d, xT, (x, t, step) => ancestralStep(op, d, network, x, t, noiseLike(x, noise, step), clip))
}

/** DDIM sampling from x_T (N, C, …) in the same way; `noise` is needed where eta is above 0. */
export function ddimSteps(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdimLoopOptions = {},
): Generator<SampleStep, void> {
  return ddimLoop('ddimSteps', d, network, xT, options)
}

/** Throws unless there is a source of noise where eta is above 0. */
export function checkNoise(op: string, eta: number, noise: NoiseSource | undefined): void {
  if (eta > 0 && noise === undefined)
    throw atCaller(new Error(`${op}: noise: expected a source, as eta is ${eta}, got none`))
}

const ddimKinds = { ...clipKinds, eta: aNumber, keepEpsilon: aBoolean }
const ddimLoopKinds = { ...ddimKinds, noise: aNoiseSource }

function ddimLoop(
  op: string,
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdimLoopOptions,
): Generator<SampleStep, void> {
  checkLoop(op, d, network, xT, options, ddimLoopKinds)
  const { noise, ...rest } = options
  const { eta = 0 } = rest
  checkRange(op, 'eta', eta, 0, 1)
  checkNoise(op, eta, noise)
  const draws = noise !== undefined && eta > 0
  return descend(d, xT, (x, t, step) =>
    implicitStep(op, d, network, x, t, draws ? noiseLike(x, noise, step) : null, rest),
  )
}

/** All steps of d, the noisiest first. */
function descend(
  d: GaussianDiffusion,
  xT: Tensor,
  next: (x: Tensor, t: Timesteps, step: number) => Sampled,
): Generator<SampleStep, void> {
  const plans = Array.from(d.timesteps, t => ({ t })).reverse()
  return stepping(xT, plans, (x, _, step) => next(x, new Int32Array(x.shape[0]).fill(d.steps - 1 - step), step))
}

/** The sample of `ddpmSteps`, (N, C, …), which is the caller's to dispose; with a callback. */
export function ddpmSample(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdpmOptions & OnStep<SampleStep>,
): Tensor {
  checkOptions('ddpmSample', options, { ...ddpmKinds, onStep: aFunction })
  const { onStep, ...rest } = options
  return finish(ddpmLoop('ddpmSample', d, network, xT, rest), onStep)
}

/** The sample of `ddimSteps`, (N, C, …), with a callback. */
export function ddimSample(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: DdimLoopOptions & OnStep<SampleStep> = {},
): Tensor {
  checkOptions('ddimSample', options, { ...ddimLoopKinds, onStep: aFunction })
  const { onStep, ...rest } = options
  return finish(ddimLoop('ddimSample', d, network, xT, rest), onStep)
}
