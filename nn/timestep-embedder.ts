/**
 * The time of a diffusion step as a vector: sinusoids of falling frequency, worked out on the host in f64, then a small
 * MLP. [DiT §3.2]; the sinusoids are GLIDE's.
 */

import { aCount, check, numbers } from '../core/arguments.ts'
import { silu, type Tensor, tensor } from '../core/index.ts'
import { type Init, normal } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Linear } from './linear.ts'
import { Activation, Module, Sequential } from './module.ts'

/**
 * [cos t f_k | sin t f_k | 0 if D is odd], f_k = 10000^(−k / half), half = ⌊D/2⌋: (N, D), row-major, f64. `t` may be any
 * real number: an integer timestep, or ln(σ)/4 in EDM.
 */
export function timestepEmbedding(t: ArrayLike<number>, D: number): Float64Array {
  check('timestepEmbedding', 't', t, numbers)
  check('timestepEmbedding', 'D', D, aCount)
  const half = Math.floor(D / 2)
  const out = new Float64Array(t.length * D)
  for (let k = 0; k < half; k++) {
    const frequency = Math.exp((-Math.log(10000) * k) / half)
    for (let n = 0; n < t.length; n++) {
      out[n * D + k] = Math.cos(t[n] * frequency)
      out[n * D + half + k] = Math.sin(t[n] * frequency)
    }
  }
  return out
}

/** Sinusoids of t through Linear, SiLU, Linear. */
export class TimestepEmbedder extends Module {
  readonly mlp: Sequential
  readonly frequencies: number

  constructor(D: number, init: Init, frequencies = 256) {
    super()
    checkLayer('TimestepEmbedder', { D, frequencies }, init)
    const weight = normal(0.02)
    this.frequencies = frequencies
    this.mlp = new Sequential([
      new Linear(frequencies, D, init, { weight }),
      new Activation(silu),
      new Linear(D, D, init, { weight }),
    ])
  }

  /** t: N numbers → (N, D) */
  forward(t: ArrayLike<number>): Tensor {
    check('TimestepEmbedder', 't', t, numbers)
    const { dtype, backend } = (this.mlp.items[0] as Linear).weight
    const shape = [t.length, this.frequencies]
    return this.mlp.forward(tensor(timestepEmbedding(t, this.frequencies), { shape, dtype, backend })) // (N, D)
  }
}
