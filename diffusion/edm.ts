/**
 * EDM's view of diffusion: x = y + σ n with the noise level σ itself as time, and a network wrapped so that its input
 * and its target have unit variance at every σ. [EDM §2, §5, table 1] Noise levels live on the host in f64.
 */

import { aFunction, aNumber, check, checkFloats, checkOptions, describe, numbers } from '../core/arguments.ts'
import { add, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { checkCount, checkRange, scaled } from './per-sample.ts'

/** The raw network F: x (N, …) scaled to unit variance and N values of c_noise → (N, …). */
export type RawNetwork = (x: Tensor, cNoise: Float64Array) => Tensor

/** D(x; σ): x (N, …) and a noise level for each sample → the expected y, (N, …). */
export type Denoiser = (x: Tensor, sigma: Float64Array) => Tensor

/** [EDM table 1] */
export interface Preconditioning {
  readonly skip: number
  readonly out: number
  readonly in: number
  readonly noise: number
}

/** c_skip, c_out, c_in and c_noise at a noise level above 0, for data of standard deviation `sigmaData`. [EDM table 1] */
export function preconditioning(sigma: number, sigmaData = 0.5): Preconditioning {
  checkSigma('preconditioning', 'sigmaData', sigmaData)
  return coefficients('preconditioning', sigma, sigmaData)
}

function coefficients(op: string, sigma: number, sigmaData: number): Preconditioning {
  checkSigma(op, 'sigma', sigma)
  const variance = sigma ** 2 + sigmaData ** 2
  return {
    skip: sigmaData ** 2 / variance,
    out: (sigma * sigmaData) / Math.sqrt(variance),
    in: 1 / Math.sqrt(variance),
    noise: Math.log(sigma) / 4,
  }
}

/** Throws RangeError unless a standard deviation is a finite number above 0. */
function checkSigma(op: string, name: string, sigma: number): void {
  if (!(typeof sigma === 'number' && sigma > 0 && sigma < Infinity))
    throw atCaller(new RangeError(`${op}: ${name}: expected a number above 0, got ${describe(sigma)}`))
}

/** D(x; σ) = c_skip x + c_out F(c_in x; c_noise). [EDM eq. 7] Calling it throws RangeError on σ ≤ 0. */
export function precondition(network: RawNetwork, sigmaData = 0.5): Denoiser {
  check('precondition', 'network', network, aFunction)
  checkSigma('precondition', 'sigmaData', sigmaData)
  return (x, sigma) => {
    checkFloats('precondition', { x })
    check('precondition', 'sigma', sigma, numbers)
    const c = (s: number) => coefficients('precondition', s, sigmaData)
    const cNoise = sigma.map(s => c(s).noise)
    const F = network(
      scaled(x, sigma, s => c(s).in),
      cNoise,
    )
    return add(
      scaled(x, sigma, s => c(s).skip),
      scaled(F, sigma, s => c(s).out),
    )
  }
}

/** λ(σ) = (σ² + σ_data²)/(σ σ_data)²: the weight of ‖D − y‖² that makes the loss of F the same at every σ. [EDM §5] */
export function lossWeight(sigma: number, sigmaData = 0.5): number {
  checkSigma('lossWeight', 'sigma', sigma)
  checkSigma('lossWeight', 'sigmaData', sigmaData)
  return (sigma ** 2 + sigmaData ** 2) / (sigma * sigmaData) ** 2
}

/** Noise levels to train at: ln σ = mean + std · z for given standard normal z (N). [EDM table 1] */
export function logNormalSigma(
  z: ArrayLike<number>,
  options: { readonly mean?: number; readonly std?: number } = {},
): Float64Array {
  check('logNormalSigma', 'z', z, numbers)
  checkOptions('logNormalSigma', options, { mean: aNumber, std: aNumber })
  const { mean = -1.2, std = 1.2 } = options
  return Float64Array.from(z, n => Math.exp(mean + std * n))
}

/** The range of a sampler's noise levels. [EDM table 1] */
export interface SigmaOptions {
  /** Default 0.002. */
  readonly sigmaMin?: number
  /** Default 80. */
  readonly sigmaMax?: number
  /** Exponent that concentrates the levels at the low end. Default 7. */
  readonly rho?: number
}

/**
 * The noise levels of a sampler with `steps` steps, falling: (σ_max^(1/ρ) + i/(steps−1) (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ,
 * then 0; steps + 1 numbers. [EDM eq. 5] One step goes from σ_max to 0. Throws RangeError without a step, or unless
 * 0 < σ_min < σ_max.
 */
export function sigmaSteps(steps: number, options: SigmaOptions = {}): Float64Array {
  checkCount('sigmaSteps', 'steps', steps, 1)
  checkOptions('sigmaSteps', options, { sigmaMin: aNumber, sigmaMax: aNumber, rho: aNumber })
  const { sigmaMin = 0.002, sigmaMax = 80, rho = 7 } = options
  checkSigma('sigmaSteps', 'sigmaMin', sigmaMin)
  checkRange('sigmaSteps', 'rho', rho, 1)
  if (!(sigmaMax > sigmaMin && sigmaMax < Infinity))
    throw atCaller(
      new RangeError(`sigmaSteps: sigmaMax: expected a number above sigmaMin = ${sigmaMin}, got ${sigmaMax}`),
    )
  const [high, low] = [sigmaMax ** (1 / rho), sigmaMin ** (1 / rho)]
  return Float64Array.from({ length: steps + 1 }, (_, i) =>
    i < steps ? (high + (i / Math.max(steps - 1, 1)) * (low - high)) ** rho : 0,
  )
}
