/**
 * First values of parameters. Every layer takes an `Init`: where its tensors live and which stream they are drawn from.
 * With `rng: null` nothing is drawn and random parameters begin as zeros: for weights that a checkpoint is about to
 * overwrite, and, on the `shapes` backend, for counting parameters. The draws are rounded to f32 also in an f64 model,
 * so a seed means the same weights in either precision.
 */

import {
  type Backend,
  type DType,
  ones,
  type Rng,
  type Shape,
  shapes,
  type Tensor,
  tensor,
  zeros,
} from '../core/index.ts'
import { sizeOf } from '../core/shape.ts'

/** Passed down from a model to its layers. The defaults are f32 on the default backend. */
export interface Init {
  /** Layers draw from it in the order of their construction; null draws nothing. */
  readonly rng: Rng | null
  readonly dtype?: DType
  readonly backend?: Backend
}

/** An Init that costs neither memory nor draws: what a module built with it knows is its names and shapes. */
export const shapesOnly: Init = { rng: null, backend: shapes }

/** Makes the first value of a parameter. */
export type Initializer = (shape: Shape, init: Init) => Tensor

const place = ({ dtype, backend }: Init) => ({ dtype, backend })

/** n numbers from `draw`, each through `f`, as f32. */
function drawn(
  shape: Shape,
  init: Init,
  draw: (rng: Rng, n: number) => Float32Array,
  f: (x: number) => number,
): Tensor {
  if (init.rng === null) return zeros(shape, place(init))
  return tensor(draw(init.rng, sizeOf(shape)).map(f), { shape, ...place(init) })
}

/**
 * Uniform on [−a, a], a = √(6 / (fan in + fan out)) [Glorot eq. 16]. A weight of more than two axes is
 * taken as the matrix (shape[0], rest), as DiT, MDT and MaskDiT do with the patch embedding.
 */
export function xavierUniform(shape: Shape, init: Init): Tensor {
  const fanIn = sizeOf(shape.slice(1))
  return uniform(Math.sqrt(6 / (fanIn + shape[0])))(shape, init)
}

/** Uniform on [−a, a]. */
export function uniform(a: number): Initializer {
  return (shape, init) =>
    drawn(
      shape,
      init,
      (rng, n) => rng.uniformArray(n),
      u => (2 * u - 1) * a,
    )
}

/** Normal with mean 0. Truncation at ±2, which some official code asks for at std 0.02, is 100 std away: none. */
export function normal(std: number): Initializer {
  return (shape, init) =>
    drawn(
      shape,
      init,
      (rng, n) => rng.normalArray(n),
      z => z * std,
    )
}

/** All 0. */
export function constantZero(shape: Shape, init: Init): Tensor {
  return zeros(shape, place(init))
}

/** All 1. */
export function constantOne(shape: Shape, init: Init): Tensor {
  return ones(shape, place(init))
}

/** Values that were worked out elsewhere, such as a table of positions. */
export function given(values: ArrayLike<number>): Initializer {
  return (shape, init) => tensor(values, { shape, ...place(init) })
}
