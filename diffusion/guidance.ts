/**
 * Classifier-free guidance: two predictions, one told the label and one not, and a step further along their difference
 * [CFG eq. 6]; and MDT's power-cosine scale, which guides little while the picture is mostly noise. Batches are doubled
 * as in the official code: the second half repeats x, with the null label.
 */

import { aFunction, aNumber, check, checkOptions, checkTensor, either, oneOf } from '../core/arguments.ts'
import { add, concat, ShapeError, slice, split, sub } from '../core/index.ts'
import type { Network } from './gaussian.ts'
import { checkCount, checkRange, scaled } from './per-sample.ts'

/**
 * MDT's scale at timestep t of T: 1 + (scale − 1) (1 − cos(π (1 − t/T)^power)) / 2, which rises from 1 at t = T to
 * `scale` at t = 0; a larger power rises later.
 */
export function powerCosineScale(scale: number, power: number, t: number, T = 1000): number {
  for (const [name, value] of Object.entries({ scale, power, t, T })) check('powerCosineScale', name, value, aNumber)
  return 1 + ((scale - 1) * (1 - Math.cos(Math.PI * (1 - t / T) ** power))) / 2
}

/** How far guidance goes. */
export interface GuidanceOptions {
  /** 1 is no guidance; at least 0. */
  readonly scale: number
  /** Power of MDT's power-cosine scale; the scale is constant without it. */
  readonly power?: number
  /** Number of leading channels of the output that are guided, at most all. Default 3, as in DiT and MDT; 'all' in MaskDiT. */
  readonly channels?: number | 'all'
  /** The T of the power-cosine scale. Default 1000. */
  readonly timesteps?: number
}

const guidanceKinds = {
  scale: aNumber,
  power: aNumber,
  channels: either(aNumber, oneOf(['all'])),
  timesteps: aNumber,
}

/**
 * The official forward_with_cfg around a network that was given labels [y; null]: a network on doubled batches
 * x (2N, C, …), whose second half is ignored and replaced by the first. Guided channels become u + s (c − u)
 * [CFG eq. 6], the same in both halves of the result; the others (the fourth of ε, all of the variance) stay those of
 * each half. Throws RangeError on options out of range, ShapeError on an odd batch.
 */
export function classifierFreeGuidance(network: Network, options: GuidanceOptions): Network {
  check('classifierFreeGuidance', 'network', network, aFunction)
  checkOptions('classifierFreeGuidance', options, guidanceKinds)
  const { scale, power, channels = 3, timesteps = 1000 } = options
  checkRange('classifierFreeGuidance', 'scale', scale, 0)
  if (power !== undefined) checkRange('classifierFreeGuidance', 'power', power, 0)
  if (channels !== 'all') checkCount('classifierFreeGuidance', 'channels', channels, 1)
  const scaleAt = (t: number) => (power === undefined ? scale : powerCosineScale(scale, power, t, timesteps))
  return (x, t) => {
    checkTensor('classifierFreeGuidance', 'x', x)
    if (x.shape[0] % 2 !== 0)
      throw new ShapeError(`classifierFreeGuidance: expected a doubled batch [x; x], got ${x.shape[0]} samples`)
    const N = x.shape[0] / 2
    const half = slice(x, 0, 0, N) // (N, C, …)
    const output = network(concat([half, half], 0), t) // (2N, C or 2C, …)
    const C = channels === 'all' ? output.shape[1] : Math.min(channels, output.shape[1])
    const [conditional, unconditional] = split(slice(output, 1, 0, C), 2, 0) // (N, C, …) each
    const guided = add(unconditional, scaled(sub(conditional, unconditional), t.subarray(0, N), scaleAt))
    const both = concat([guided, guided], 0) // (2N, C, …)
    return C === output.shape[1] ? both : concat([both, slice(output, 1, C)], 1) // (2N, C or 2C, …)
  }
}
