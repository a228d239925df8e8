/**
 * Sampling with fewer steps than training: which timesteps are kept, and the diffusion over them. ᾱ at the kept steps
 * does not change; β follows from it, so all equations hold unchanged. The network still receives the original
 * timesteps. [iDDPM §4] The notations are those of the official code.
 */

import { aString, check, numbers } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { checkDiffusion } from './arguments.ts'
import { tablesOf } from './betas.ts'
import type { GaussianDiffusion } from './gaussian.ts'
import { checkCount } from './per-sample.ts'

/**
 * Timesteps to keep out of T, rising: '' keeps all; '250' keeps 250, evenly spaced from the first to the last; '10,15,20'
 * keeps these numbers of steps of three equal sections; 'ddim50' keeps every k-th from 0, for the k that gives 50. Throws RangeError
 * when there is no such choice.
 */
export function spaceTimesteps(T: number, spacing: string): Int32Array {
  checkCount('spaceTimesteps', 'T', T, 1)
  check('spaceTimesteps', 'spacing', spacing, aString)
  if (spacing === '') return Int32Array.from({ length: T }, (_, t) => t)
  const ddim = /^ddim(\d+)$/.exec(spacing)
  if (ddim !== null) return everyKth(T, Number(ddim[1]))
  if (!/^\d+(,\d+)*$/.test(spacing))
    throw atCaller(
      new RangeError(`spaceTimesteps: spacing: expected '', '250', '10,15,20' or 'ddim50', got '${spacing}'`),
    )
  const counts = spacing.split(',').map(Number)
  const kept: number[] = []
  let start = 0
  for (const [section, count] of counts.entries()) {
    const size = Math.floor(T / counts.length) + (section < T % counts.length ? 1 : 0)
    checkCount('spaceTimesteps', `steps of section ${section + 1} of '${spacing}'`, count, 1, size)
    const stride = count > 1 ? (size - 1) / (count - 1) : 1
    let at = 0 // added up, not multiplied: the same roundings as in the official code
    for (let i = 0; i < count; i++, at += stride) kept.push(start + roundHalfToEven(at))
    start += size
  }
  return Int32Array.from(kept)
}

/** [DDIM §D.2] */
function everyKth(T: number, count: number): Int32Array {
  for (let k = 1; k < T; k++) if (Math.ceil(T / k) === count) return Int32Array.from({ length: count }, (_, i) => i * k)
  throw atCaller(
    new RangeError(
      `spaceTimesteps: spacing: no stride k keeps ⌈T/k⌉ = ${count} of T = ${T} timesteps, as 'ddim${count}' wants`,
    ),
  )
}

/** As Python rounds. */
function roundHalfToEven(x: number): number {
  const below = Math.floor(x)
  if (x - below !== 0.5) return Math.round(x)
  return below % 2 === 0 ? below : below + 1
}

/**
 * The timesteps that MaskDM's sampler visits, rising: `steps` of the steps + 1 evenly spaced f32 numbers from −1 to
 * T − 1, all but the first, cut to integers. Throws RangeError with more steps than timesteps.
 */
export function maskdmTimesteps(T: number, steps: number): Int32Array {
  checkCount('maskdmTimesteps', 'T', T, 1)
  checkCount('maskdmTimesteps', 'steps', steps, 1, T)
  const f = Math.fround
  const step = f(T / steps)
  // From whichever end is nearer, as torch.linspace does it.
  const at = (i: number) => (i < Math.floor((steps + 1) / 2) ? f(-1 + f(step * i)) : f(T - 1 - f(step * (steps - i))))
  return Int32Array.from({ length: steps }, (_, i) => at(i + 1))
}

/** The diffusion over some steps of `d`, given rising. Throws RangeError on a step out of range or out of order. */
export function respace(d: GaussianDiffusion, kept: ArrayLike<number>): GaussianDiffusion {
  checkDiffusion('respace', d)
  check('respace', 'kept', kept, numbers)
  checkCount('respace', 'number of steps', kept.length, 1, d.steps)
  const betas = new Float64Array(kept.length)
  let before = 1
  for (let i = 0; i < kept.length; i++) {
    checkCount('respace', `step ${i}`, kept[i], i === 0 ? 0 : kept[i - 1] + 1, d.steps - 1)
    betas[i] = before === 0 ? 1 : 1 - d.alphaBar[kept[i]] / before // noise stays noise by any β
    before = d.alphaBar[kept[i]]
  }
  const timesteps = Int32Array.from(betas, (_, i) => d.timesteps[kept[i]])
  return {
    ...tablesOf('respace', betas),
    steps: kept.length,
    timesteps,
    prediction: d.prediction,
    variance: d.variance,
  }
}
