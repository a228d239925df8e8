/**
 * A network of timesteps as a denoiser of noise levels, so that the samplers of edm-samplers.ts drive DiT, MDT and MaskDM
 * too. With x̃ = x_t/√ᾱ_t = x_0 + σ_t ε and σ_t = √((1−ᾱ_t)/ᾱ_t) both are the same process [EDM §4, DDIM eq. 14]; Euler's method
 * over these levels is DDIM. Only levels that are timesteps can be asked for, so nothing is interpolated.
 */

import { aFunction, check, checkFloats, checkOptions, numbers } from '../core/arguments.ts'
import type { Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { checkAlike, checkDiffusion, clipKinds } from './arguments.ts'
import type { Denoiser } from './edm.ts'
import {
  type ClipOption,
  callNetwork,
  type GaussianDiffusion,
  type Network,
  reverseStepOf,
  splitOutput,
} from './gaussian.ts'
import { checkCount, scaled } from './per-sample.ts'

/** σ_t of every step of d, the noisiest first, then 0: d.steps + 1 levels. Throws RangeError where ᾱ ends at 0. */
export function timestepSigmas(d: GaussianDiffusion): Float64Array {
  return Float64Array.of(...sigmasOf('timestepSigmas', d).reverse(), 0)
}

/** σ_t of every step, rising. */
function sigmasOf(where: string, d: GaussianDiffusion): Float64Array {
  checkDiffusion(where, d)
  const { alphaBar, steps } = d
  if (alphaBar[steps - 1] === 0)
    throw atCaller(
      new RangeError(
        `${where}: expected a schedule with ᾱ above 0, got 0 at the last step: its noise level is infinite. Sample with DDIM or DDPM, or respace without that step`,
      ),
    )
  return Float64Array.from(alphaBar, each => Math.sqrt((1 - each) / each))
}

/** x̃ for the first level, from x_T (N, C, …), which is noise of variance 1: x_T/√ᾱ_T. Throws RangeError where ᾱ_T is 0. */
export function fromNoise(d: GaussianDiffusion, xT: Tensor): Tensor {
  sigmasOf('fromNoise', d)
  checkAlike('fromNoise', { xT })
  return scaled(xT, new Float64Array(xT.shape[0]).fill(d.alphaBar[d.steps - 1]), alphaBar => 1 / Math.sqrt(alphaBar))
}

/** D(x̃; σ): the x_0 that a network of timesteps predicts. Calling it throws RangeError on a σ that is no step's of d. */
export function timestepDenoiser(d: GaussianDiffusion, network: Network, options: ClipOption = {}): Denoiser {
  const steps = new Map(Array.from(sigmasOf('timestepDenoiser', d), (sigma, t) => [sigma, t]))
  check('timestepDenoiser', 'network', network, aFunction)
  checkOptions('timestepDenoiser', options, clipKinds)
  return (x, sigma) => {
    checkFloats('timestepDenoiser', { x })
    check('timestepDenoiser', 'sigma', sigma, numbers)
    const t = Int32Array.from(sigma, level => {
      const step = steps.get(level)
      if (step === undefined)
        throw atCaller(
          new RangeError(`timestepDenoiser: sigma: expected one of the ${d.steps} steps' levels, got ${level}`),
        )
      return step
    })
    const xt = scaled(x, t, i => Math.sqrt(d.alphaBar[i]))
    const output = callNetwork('timestepDenoiser', d, network, xt, t)
    const parts = splitOutput('timestepDenoiser', d, output, xt)
    return reverseStepOf('timestepDenoiser', d, parts, xt, t, options).predXStart
  }
}

/**
 * Returns `steps` timesteps of d, rising, whose ln σ are as evenly spaced as timesteps can be, for DPM-Solver++, whose
 * multistep form assumes it [DPM++ §5]. Where several levels are nearest to one timestep, they take its neighbours.
 * One step is the last timestep. Throws RangeError on steps outside [1, d.steps].
 */
export function logSnrTimesteps(d: GaussianDiffusion, steps: number): Int32Array {
  checkDiffusion('logSnrTimesteps', d)
  checkCount('logSnrTimesteps', 'steps', steps, 1, d.steps)
  const logs = Array.from(sigmasOf('logSnrTimesteps', d), Math.log)
  const nearest = (wanted: number) =>
    logs.reduce((best, log, t) => (Math.abs(log - wanted) < Math.abs(logs[best] - wanted) ? t : best), 0)
  const width = logs[d.steps - 1] - logs[0]
  const kept = Array.from({ length: steps }, (_, i) => nearest(logs[0] + (steps === 1 ? 1 : i / (steps - 1)) * width))
  for (let i = 1; i < steps; i++) kept[i] = Math.max(kept[i], kept[i - 1] + 1)
  for (let i = steps - 1, most = d.steps - 1; i >= 0; i--, most = kept[i + 1] - 1) kept[i] = Math.min(kept[i], most)
  return Int32Array.from(kept, i => d.timesteps[i])
}
