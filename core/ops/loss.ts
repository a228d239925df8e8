/**
 * Mean losses between two tensors of one shape. (The diffusion losses are built from plain ops in diffusion/.)
 */

import { ShapeError, sameShape, show } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { abs, affine, less, mul, square, sub } from './elementwise.ts'
import { mean } from './reduce.ts'
import { where } from './where.ts'

/** a − b of one shape: broadcasting (N, 1) against (N) here has cost people weeks. */
function difference(op: string, a: Tensor, b: Tensor): Tensor {
  if (!sameShape(a.shape, b.shape))
    throw new ShapeError(`${op}: wanted operands of one shape, got ${show(a.shape)} and ${show(b.shape)}`)
  return sub(a, b)
}

/** Mean of (a − b)² over all elements: one number. Throws ShapeError. */
export function mse(a: Tensor, b: Tensor): Tensor {
  return mean(square(difference('mse', a, b)))
}

/** Mean of |a − b| over all elements: one number. Throws ShapeError. */
export function l1(a: Tensor, b: Tensor): Tensor {
  return mean(abs(difference('l1', a, b)))
}

/**
 * Mean of ½d²/beta where |d| < beta, else |d| − ½beta, with d = a − b, over all elements: one number. With beta 0 that
 * is l1. Throws ShapeError.
 */
export function smoothL1(a: Tensor, b: Tensor, beta = 1): Tensor {
  const d = difference('smoothL1', a, b)
  const size = abs(d)
  if (beta === 0) return mean(size) // d²/0 is no branch to take a gradient of
  const near = less(size, full([], beta, { dtype: a.dtype, backend: a.backend }))
  return mean(where(near, mul(square(d), 0.5 / beta), affine(size, 1, -0.5 * beta)))
}
