/**
 * Sample inputs for op records: f64 tensors on `cpu` whose values f32 can hold exactly, so that every backend is given
 * the same numbers. The same seed gives the same samples.
 */

import { cpu } from './backends/cpu/backend.ts'
import { rng } from './random.ts'
import type { Shape } from './shape.ts'
import { sizeOf } from './shape.ts'
import { type Tensor, tensor } from './tensor.ts'

/** Random inputs for samples of ops. */
export interface Sampler {
  /** Uniform in [−2, 2]. */
  (...shape: number[]): Tensor
  /** Uniform in [0.5, 2]: for log, square roots, denominators. */
  positive(...shape: number[]): Tensor
  /** Distinct values at least 0.05 apart from each other and from 0: away from kinks and ties. */
  distinct(...shape: number[]): Tensor
  /** Integers in [0, high), i32. */
  indices(high: number, ...shape: number[]): Tensor
}

export function sampler(seed: number): Sampler {
  const random = rng(seed)
  const make = (shape: Shape, low: number, high: number) =>
    tensor(
      Float64Array.from(random.uniformArray(sizeOf(shape)), u => Math.fround(low + (high - low) * u)),
      { shape, dtype: 'f64', backend: cpu },
    )
  const uniform = (...shape: number[]) => make(shape, -2, 2)
  return Object.assign(uniform, {
    positive: (...shape: number[]) => make(shape, 0.5, 2),
    distinct: (...shape: number[]) => {
      const size = sizeOf(shape)
      const order = random.permutationArray(size)
      const values = Float64Array.from(order, k => Math.fround(0.0625 * (k - (size >> 1)) + 0.03125))
      return tensor(values, { shape, dtype: 'f64', backend: cpu })
    },
    indices: (high: number, ...shape: number[]) =>
      tensor(random.integersArray(0, high, sizeOf(shape)), { shape, dtype: 'i32', backend: cpu }),
  })
}
