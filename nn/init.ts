/**
 * First values of parameters. Every layer takes an `Init`: where its tensors live and which stream they are drawn from.
 * With `rng: null` nothing is drawn and random parameters begin as zeros: for weights that a checkpoint is about to
 * overwrite, and, on the `shapes` backend, for counting parameters. The draws are rounded to f32 also in an f64 model,
 * so a seed means the same weights in either precision.
 */

import { aNumber, check, numbers } from '../core/arguments.ts'
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
import { createTensor } from '../core/tensor.ts'
import { checkFirst } from './layer-arguments.ts'

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
  op: string,
  shape: Shape,
  init: Init,
  draw: (rng: Rng, n: number) => Float32Array,
  f: (x: number) => number,
): Tensor {
  checkFirst(op, shape, init)
  if (init.rng === null) return zeros(shape, place(init))
  return tensor(draw(init.rng, sizeOf(shape)).map(f), { shape, ...place(init) })
}

/**
 * Uniform on [−a, a], a = √(6 / (fan in + fan out)) [Glorot eq. 16]. A weight of more than two axes is
 * taken as the matrix (shape[0], rest), as DiT, MDT and MaskDiT do with the patch embedding.
 */
export function xavierUniform(shape: Shape, init: Init): Tensor {
  checkFirst('xavierUniform', shape, init)
  const fanIn = sizeOf(shape.slice(1))
  return uniform(Math.sqrt(6 / (fanIn + shape[0])))(shape, init)
}

/** Uniform on [−a, a]. */
export function uniform(a: number): Initializer {
  check('uniform', 'a', a, aNumber)
  return (shape, init) =>
    drawn(
      'uniform',
      shape,
      init,
      (rng, n) => rng.uniformArray(n),
      u => (2 * u - 1) * a,
    )
}

/** Normal with mean 0. Truncation at ±2, which some official code asks for at std 0.02, is 100 std away: none. */
export function normal(std: number): Initializer {
  check('normal', 'std', std, aNumber)
  return (shape, init) =>
    drawn(
      'normal',
      shape,
      init,
      (rng, n) => rng.normalArray(n),
      z => z * std,
    )
}

/** All 0. */
export function constantZero(shape: Shape, init: Init): Tensor {
  checkFirst('constantZero', shape, init)
  return zeros(shape, place(init))
}

/** All 1. */
export function constantOne(shape: Shape, init: Init): Tensor {
  checkFirst('constantOne', shape, init)
  return ones(shape, place(init))
}

/** Values that were worked out elsewhere, such as a table of positions. */
export function given(values: ArrayLike<number>): Initializer {
  check('given', 'values', values, numbers)
  return (shape, init) => {
    checkFirst('given', shape, init)
    return createTensor('given', values, { shape, ...place(init) })
  }
}
