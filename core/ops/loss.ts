/**
 * Mean losses between two tensors of one shape. (The diffusion losses are built from plain ops in diffusion/.)
 */

import type { Tensor } from '../tensor.ts'
import { full } from '../tensor.ts'
import { abs, affine, less, mul, square, sub, where } from './elementwise.ts'
import { mean } from './reduce.ts'

/** Mean of (a − b)². */
export function mse(a: Tensor, b: Tensor): Tensor {
  return mean(square(sub(a, b)))
}

/** Mean of |a − b|. */
export function l1(a: Tensor, b: Tensor): Tensor {
  return mean(abs(sub(a, b)))
}

/** Mean of ½d²/beta where |d| < beta, else |d| − ½beta, with d = a − b. */
export function smoothL1(a: Tensor, b: Tensor, beta = 1): Tensor {
  const d = sub(a, b)
  const size = abs(d)
  const near = less(size, full([], beta, { dtype: a.dtype, backend: a.backend }))
  return mean(where(near, mul(square(d), 0.5 / beta), affine(size, 1, -0.5 * beta)))
}
