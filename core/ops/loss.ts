/**
 * Mean losses between two tensors of one shape. (The diffusion losses are built from plain ops in diffusion/.)
 */

import { checkFloat } from '../op.ts'
import { ShapeError, sameShape, show } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { abs, affine, lessEqual, mul, square, sub } from './elementwise.ts'
import { mean } from './reduce.ts'
import { where, zeroWhere } from './where.ts'

/** a − b of one shape: broadcasting (N, 1) against (N) here has cost people weeks. */
function difference(op: string, a: Tensor, b: Tensor): Tensor {
  checkFloat(op, a, b)
  if (!sameShape(a.shape, b.shape))
    throw new ShapeError(`${op}: expected operands of one shape, got ${show(a.shape)} and ${show(b.shape)}`)
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
 * is l1. Throws ShapeError, and RangeError unless beta ≥ 0.
 */
export function smoothL1(a: Tensor, b: Tensor, beta = 1): Tensor {
  if (!(beta >= 0)) throw new RangeError(`smoothL1: expected beta ≥ 0, got ${beta}`)
  const d = difference('smoothL1', a, b)
  const size = abs(d)
  if (beta === 0) return mean(size) // d²/0 is no branch to take a gradient of
  const far = lessEqual(full([], beta, { dtype: a.dtype, backend: a.backend }), size)
  // A far d is squared as 0: the gradient of its square may overflow, and 0 · ∞ is NaN.
  const squared = mul(square(zeroWhere(far, d)), 0.5 / beta)
  return mean(where(far, affine(size, 1, -0.5 * beta), squared))
}
