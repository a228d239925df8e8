/**
 * How fast pictures turn to noise: β_t for t = 0, …, T − 1, and what follows from it, in f64 on the host. Index t = 0 is
 * the least noisy level, which the papers call t = 1. The linear schedule is [DDPM §4], the cosine one [iDDPM eq. 17].
 * MaskDM's own cosine schedule divides ᾱ by its first value before taking quotients; the quotients are the same numbers,
 * so there is one cosine here.
 */

import { aNumber, check, describe, numbers, optional } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { checkCount } from './per-sample.ts'

/** β_t from 1e-4 to 0.02, both scaled by 1000/T so that any T ends at about the same noise level. [DDPM §4] */
export function linearBetas(T: number): Float64Array {
  checkCount('linearBetas', 'T', T, 20) // below 20 the last β would exceed 1
  const [first, last] = [0.1 / T, 20 / T]
  const slope = (last - first) / (T - 1)
  return Float64Array.from({ length: T }, (_, t) => (t === T - 1 ? last : first + t * slope))
}

/** ᾱ(u) = cos²(½π (u + 0.008) / 1.008) at u = t/T. [iDDPM eq. 17] */
function cosineAlphaBar(u: number): number {
  return Math.cos((((u + 0.008) / 1.008) * Math.PI) / 2) ** 2
}

/** β_t = min(1 − ᾱ(t + 1)/ᾱ(t), 0.999). [iDDPM eq. 17] */
function betasOf(T: number, alphaBar: (u: number) => number): Float64Array {
  return Float64Array.from({ length: T }, (_, t) => Math.min(1 - alphaBar((t + 1) / T) / alphaBar(t / T), 0.999))
}

/** β_t = min(1 − ᾱ(t + 1)/ᾱ(t), 0.999) with ᾱ(t) = cos²(½π (t/T + 0.008) / 1.008). [iDDPM eq. 17] */
export function cosineBetas(T: number): Float64Array {
  checkCount('cosineBetas', 'T', T, 1)
  return betasOf(T, cosineAlphaBar)
}

/**
 * The cosine schedule for pictures of `size` pixels in height and width: the signal-to-noise ratio ᾱ/(1 − ᾱ) of
 * `cosineBetas` times (64/size)² [Simple-diffusion §3.1]. At 64 pixels both are the same. MaskDM's code calls it
 * `cosine_beta_schedule(T, shift=True, d=size)`.
 */
export function shiftedCosineBetas(T: number, size: number): Float64Array {
  checkCount('shiftedCosineBetas', 'T', T, 1)
  checkCount('shiftedCosineBetas', 'size', size, 1)
  const factor = (64 / size) ** 2
  return betasOf(T, u => {
    const alphaBar = cosineAlphaBar(u)
    return (factor * alphaBar) / (1 - alphaBar + factor * alphaBar) // σ(log(factor · ᾱ/(1 − ᾱ)))
  })
}

/** Tables of the equations; each array has one entry per timestep. */
export interface Schedule {
  readonly betas: Float64Array
  /** ᾱ_t = Π (1 − β_s) for s ≤ t: the share of the signal's power that is left. */
  readonly alphaBar: Float64Array
  /** ᾱ_{t−1}; 1 at t = 0. */
  readonly alphaBarPrev: Float64Array
  /** ᾱ_{t+1}; 0 at the last step. */
  readonly alphaBarNext: Float64Array
  /** β̃_t, the variance of q(x_{t−1} | x_t, x_0); 0 at t = 0. [DDPM eq. 7] */
  readonly posteriorVariance: Float64Array
  /** log β̃_t, finite at t = 0 too: there it repeats t = 1, or is the logarithm of a floor. */
  readonly posteriorLogVariance: Float64Array
  /** Factors of x_0 and of x_t in the mean of q(x_{t−1} | x_t, x_0). [DDPM eq. 7] */
  readonly posteriorMeanX0: Float64Array
  readonly posteriorMeanXt: Float64Array
}

/**
 * The tables of a schedule of β. At t = 0, where β̃ is 0, its logarithm is that of t = 1, or with `varianceFloor` (1e-20
 * in MaskDM) that of the floor. Throws RangeError unless 0 < β ≤ 1.
 */
export function scheduleOf(betas: ArrayLike<number>, varianceFloor?: number): Schedule {
  check('scheduleOf', 'varianceFloor', varianceFloor, optional(aNumber))
  return tablesOf('scheduleOf', betas, varianceFloor)
}

/** `scheduleOf` in the name of another function. */
export function tablesOf(op: string, betas: ArrayLike<number>, varianceFloor?: number): Schedule {
  check(op, 'betas', betas, numbers)
  checkCount(op, 'betas.length', betas.length, 1)
  for (let t = 0; t < betas.length; t++)
    if (!(betas[t] > 0 && betas[t] <= 1))
      throw atCaller(new RangeError(`${op}: betas: expected numbers in (0, 1], got ${describe(betas[t])} at ${t}`))
  const b = Float64Array.from(betas)
  let product = 1
  const alphaBar = b.map(beta => (product *= 1 - beta))
  const alphaBarPrev = b.map((_, t) => (t === 0 ? 1 : alphaBar[t - 1]))
  const alphaBarNext = b.map((_, t) => (t === b.length - 1 ? 0 : alphaBar[t + 1]))
  const posteriorVariance = b.map((beta, t) => (beta * (1 - alphaBarPrev[t])) / (1 - alphaBar[t]))
  // With a single step there is no t = 1 to repeat: β_0 takes its place.
  const least = posteriorVariance[1] ?? b[0]
  const logVariance = (v: number, t: number) =>
    Math.log(varianceFloor === undefined ? (t > 0 ? v : least) : Math.max(v, varianceFloor))
  return {
    betas: b,
    alphaBar,
    alphaBarPrev,
    alphaBarNext,
    posteriorVariance,
    posteriorLogVariance: posteriorVariance.map(logVariance),
    posteriorMeanX0: b.map((beta, t) => (beta * Math.sqrt(alphaBarPrev[t])) / (1 - alphaBar[t])),
    posteriorMeanXt: b.map((beta, t) => ((1 - alphaBarPrev[t]) * Math.sqrt(1 - beta)) / (1 - alphaBar[t])),
  }
}
