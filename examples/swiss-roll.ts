/**
 * The Swiss roll in two dimensions, a spiral that no straight line separates: points for 02-mlp.ts and 03-ddpm-2d.ts.
 */

import type { Rng } from '../core/index.ts'

export interface SwissRoll {
  /** (N, 2), in [-2, 2] before noise is added; their standard deviation is about 1 */
  readonly points: Float32Array
  /** (N): how far along the spiral each point lies, in [0, 1). */
  readonly along: Float32Array
}

/** `count` points: uniform along one and a half turns, plus normal noise of standard deviation `noise`. */
export function swissRoll(count: number, noise: number, rng: Rng): SwissRoll {
  const along = rng.uniformArray(count)
  const jitter = rng.normalArray(2 * count)
  const points = new Float32Array(2 * count)
  for (let i = 0; i < count; i++) {
    const turn = 1.5 * Math.PI * (1 + 2 * along[i])
    const radius = turn / (2.25 * Math.PI)
    points[2 * i] = radius * Math.cos(turn) + noise * jitter[2 * i]
    points[2 * i + 1] = radius * Math.sin(turn) + noise * jitter[2 * i + 1]
  }
  return { points, along }
}
