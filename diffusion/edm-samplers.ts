/**
 * Samplers over noise levels σ: Heun's method with churn [EDM alg. 2], Euler, which is Heun without its correction, and
 * DPM-Solver++(2M) [DPM++ alg. 2], which gets second order from one evaluation per step by looking back. All solve
 * dx/dσ = (x − D(x; σ))/σ [EDM eq. 3] downwards over falling levels that may end with 0 (`sigmaSteps`), from x at the
 * first of them: σ_0 times standard normal noise. Coefficients are f64 on the host, x stays in its own dtype. Loops are
 * generators (loop.ts), as in samplers.ts.
 */

import { aFunction, aNumber, check, checkOptions, numbers } from '../core/arguments.ts'
import { add, div, mul, sub, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { aNoiseSource, checkAlike } from './arguments.ts'
import type { Denoiser } from './edm.ts'
import { finish, type NoiseSource, noiseLike, type OnStep, type Stepped, stepping } from './loop.ts'
import { checkRange } from './per-sample.ts'

/** A loop after one of its steps: number, the level it began at and the next, where x is now, and D at its beginning. */
export type SigmaStep = Stepped<{ readonly sigma: number; readonly next: number }>

/** Noise added before each step, as if time went back a little. [EDM alg. 2] */
export interface Churn {
  /** S_churn: 0 (the default) adds none. */
  readonly churn?: number
  /** S_min, S_max: noise levels between which to add noise (default: all). */
  readonly churnMin?: number
  readonly churnMax?: number
  /** S_noise: standard deviation of the added noise. Default 1. */
  readonly churnNoise?: number
  /** Needed with churn. */
  readonly noise?: NoiseSource
}

/** Heun's method from x (N, …), second order: two evaluations per step, one where the next level is 0. [EDM alg. 2] */
export function heunSteps(
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: Churn = {},
): Generator<SigmaStep, void> {
  return rungeKutta('heunSteps', denoiser, x, sigmas, options, true)
}

/** Euler's method from x (N, …), first order: one evaluation per step. [EDM alg. 1 without its correction] */
export function eulerSteps(
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: Churn = {},
): Generator<SigmaStep, void> {
  return rungeKutta('eulerSteps', denoiser, x, sigmas, options, false)
}

const churnKinds = {
  churn: aNumber,
  churnMin: aNumber,
  churnMax: aNumber,
  churnNoise: aNumber,
  noise: aNoiseSource,
}

function rungeKutta(
  op: string,
  denoiser: Denoiser,
  start: Tensor,
  sigmas: Float64Array,
  options: Churn,
  correct: boolean,
): Generator<SigmaStep, void> {
  checkOptions(op, options, churnKinds)
  const { churn = 0, churnMin = 0, churnMax = Infinity, churnNoise = 1, noise } = options
  checkRange(op, 'churn', churn, 0)
  check(op, 'sigmas', sigmas, numbers)
  if (churn > 0 && noise === undefined)
    throw atCaller(new Error(`${op}: noise: expected a source, as churn is ${churn}, got none`))
  const gamma = Math.min(churn / (sigmas.length - 1), Math.SQRT2 - 1)
  return descend(op, denoiser, start, sigmas, (before, { sigma, next }, step) => {
    const churned = noise !== undefined && gamma > 0 && sigma >= churnMin && sigma <= churnMax
    const hat = churned ? sigma * (1 + gamma) : sigma
    const added = Math.sqrt(hat ** 2 - sigma ** 2) * churnNoise
    const x = churned ? add(before, mul(noiseLike(before, noise, step), added)) : before
    const denoised = evaluate(denoiser, x, hat)
    const slope = div(sub(x, denoised), hat)
    const euler = add(x, mul(slope, next - hat))
    if (!correct || next === 0) return { x: euler, predXStart: denoised }
    const slopeThere = div(sub(euler, evaluate(denoiser, euler, next)), next)
    return { x: add(x, mul(add(slope, slopeThere), (next - hat) / 2)), predXStart: denoised }
  })
}

/** DPM-Solver++(2M) from x (N, …), second order: one evaluation per step and the last one's. [DPM++ alg. 2] */
export function dpmSolverSteps(denoiser: Denoiser, x: Tensor, sigmas: Float64Array): Generator<SigmaStep, void> {
  return multistep('dpmSolverSteps', denoiser, x, sigmas)
}

function multistep(op: string, denoiser: Denoiser, start: Tensor, sigmas: Float64Array): Generator<SigmaStep, void> {
  // With λ = −ln σ as time the linear part is solved exactly, and D is extrapolated to the middle of the step.
  return descend(op, denoiser, start, sigmas, (x, { sigma, next }, step, last) => {
    const denoised = evaluate(denoiser, x, sigma)
    const h = Math.log(sigma / next)
    const keep = mul(x, next / sigma)
    if (last === null || next === 0) return { x: add(keep, mul(denoised, 1 - next / sigma)), predXStart: denoised }
    const ratio = h / (2 * Math.log(sigmas[step - 1] / sigma))
    const middle = add(denoised, mul(sub(denoised, last), ratio))
    return { x: add(keep, mul(middle, 1 - next / sigma)), predXStart: denoised }
  })
}

/** D with the same σ for every sample. */
function evaluate(denoiser: Denoiser, x: Tensor, sigma: number): Tensor {
  return denoiser(x, new Float64Array(x.shape[0]).fill(sigma))
}

/** The loop over levels. Throws RangeError unless they fall, and only the last may be 0. */
function descend(
  op: string,
  denoiser: Denoiser,
  start: Tensor,
  sigmas: Float64Array,
  move: Move,
): Generator<SigmaStep, void> {
  check(op, 'denoiser', denoiser, aFunction)
  checkAlike(op, { x: start })
  checkLevels(op, sigmas)
  const plans = Array.from(sigmas.slice(1), (next, i) => ({ sigma: sigmas[i], next }))
  return stepping(start, plans, move)
}

type Move = Parameters<typeof stepping<{ readonly sigma: number; readonly next: number }>>[2]

function checkLevels(op: string, sigmas: Float64Array): void {
  check(op, 'sigmas', sigmas, numbers)
  if (sigmas.length < 2)
    throw atCaller(new RangeError(`${op}: sigmas: expected at least 2 levels, got ${sigmas.length}`))
  for (let i = 0; i < sigmas.length; i++) {
    const last = i === sigmas.length - 1
    const falls = i === 0 || sigmas[i] < sigmas[i - 1]
    if (!falls || !(last ? sigmas[i] >= 0 : sigmas[i] > 0) || sigmas[i] === Infinity)
      throw atCaller(
        new RangeError(
          `${op}: sigmas: expected falling levels above 0, of which the last may be 0, got ${sigmas[i]} at ${i}`,
        ),
      )
  }
}

/** The sample of `heunSteps`, (N, …), which is the caller's to dispose; with a callback. */
export function heunSample(
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: Churn & OnStep<SigmaStep> = {},
): Tensor {
  return rungeKuttaSample('heunSample', denoiser, x, sigmas, options, true)
}

/** The sample of `eulerSteps`, (N, …), with a callback. */
export function eulerSample(
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: Churn & OnStep<SigmaStep> = {},
): Tensor {
  return rungeKuttaSample('eulerSample', denoiser, x, sigmas, options, false)
}

function rungeKuttaSample(
  op: string,
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: Churn & OnStep<SigmaStep>,
  correct: boolean,
): Tensor {
  checkOptions(op, options, { ...churnKinds, onStep: aFunction })
  const { onStep, ...churn } = options
  return finish(rungeKutta(op, denoiser, x, sigmas, churn, correct), onStep)
}

/** The sample of `dpmSolverSteps`, (N, …), with a callback. */
export function dpmSolverSample(
  denoiser: Denoiser,
  x: Tensor,
  sigmas: Float64Array,
  options: OnStep<SigmaStep> = {},
): Tensor {
  checkOptions('dpmSolverSample', options, { onStep: aFunction })
  return finish(multistep('dpmSolverSample', denoiser, x, sigmas), options.onStep)
}
