/**
 * The small network of 03-ddpm-2d.ts and 04-marginals-2d.ts: it tells the noise in points of the plane, from both coordinates
 * or from those that it is shown.
 */

import { add, concat, cos, mul, silu, sin, type Tensor } from '../core/index.ts'
import { type Init, Linear, Module, TimestepEmbedder } from '../nn/index.ts'

/** Networks learn fine detail late; sines of the coordinates, each twice as fast as the one before, put it in reach. */
const octaves = 4

/** ε(x_t, t): points x (N, 2), timesteps t (N) → (N, 2). */
export class PointDenoiser extends Module {
  readonly time: TimestepEmbedder
  readonly first: Linear
  readonly second: Linear
  readonly third: Linear
  readonly last: Linear

  /** `masked`: true if `forward` takes the mask of shown coordinates. */
  constructor(D: number, init: Init, { masked = false } = {}) {
    super()
    this.time = new TimestepEmbedder(D, init)
    this.first = new Linear((masked ? 4 : 2) + 4 * octaves, D, init)
    this.second = new Linear(D, D, init)
    this.third = new Linear(D, D, init)
    this.last = new Linear(D, 2, init)
  }

  /** shown (N, 2): 1 for a coordinate that is seen; of one that is 0 no trace is left, as of a removed token. */
  forward(x: Tensor, t: ArrayLike<number>, shown: Tensor | null = null): Tensor {
    const waves = Array.from({ length: octaves }, (_, k) => mul(x, Math.PI * 2 ** (k - 2)))
    const all = [x, ...waves.map(sin), ...waves.map(cos)] // (N, 2) each
    const features = shown === null ? all : [...all.map(feature => mul(feature, shown)), shown]
    const time = this.time.forward(t) // (N, D)
    let h = this.first.forward(concat(features, 1)) // (N, D)
    for (const layer of [this.second, this.third]) h = add(h, silu(layer.forward(add(h, time))))
    return this.last.forward(h) // (N, 2)
  }
}
