/**
 * Comparisons and logic made of `equal`, `less` and `lessEqual`. True is 1 and false is 0, in the dtype of the operands. An
 * operand of logic is true unless it is 0, so NaN is true. None has a gradient.
 */

import { checkTensor } from '../arguments.ts'
import { full, type Tensor } from '../tensor.ts'
import { affine, equal, less, lessEqual, maximum, minimum } from './elementwise.ts'
import { operands } from './operands.ts'

/** 1 − x of x that is 0 or 1. */
function not(x: Tensor): Tensor {
  return affine(x, -1, 1)
}

/** 1 where a > b, else 0; broadcast, and either may be a number. Throws ShapeError. */
export function greater(a: Tensor | number, b: Tensor | number): Tensor {
  const [left, right] = operands('greater', a, b)
  return less(right, left)
}

/** 1 where a ≥ b, else 0; broadcast, and either may be a number. Throws ShapeError. */
export function greaterEqual(a: Tensor | number, b: Tensor | number): Tensor {
  const [left, right] = operands('greaterEqual', a, b)
  return lessEqual(right, left)
}

/** 1 where a ≠ b, else 0; broadcast, and either may be a number. NaN differs from everything. Throws ShapeError. */
export function notEqual(a: Tensor | number, b: Tensor | number): Tensor {
  return not(equal(...operands('notEqual', a, b)))
}

/** 1 where x is NaN, else 0: (…) → (…). */
// biome-ignore lint/suspicious/noShadowRestrictedNames: the name of PyTorch and NumPy
export function isNaN(x: Tensor): Tensor {
  checkTensor('isNaN', 'x', x)
  return not(equal(x, x))
}

/** 1 where x is not 0, else 0: (…) → (…). */
export function isTrue(x: Tensor): Tensor {
  return not(logicalNot(x))
}

/** 1 where neither a nor b is 0, else 0; broadcast. Throws ShapeError. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  const [left, right] = operands('logicalAnd', a, b)
  return minimum(isTrue(left), isTrue(right))
}

/** 1 where a or b is not 0, else 0; broadcast. Throws ShapeError. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  const [left, right] = operands('logicalOr', a, b)
  return maximum(isTrue(left), isTrue(right))
}

/** 1 where x is 0, else 0: (…) → (…). */
export function logicalNot(x: Tensor): Tensor {
  checkTensor('logicalNot', 'x', x)
  return equal(x, full([], 0, { dtype: x.dtype, backend: x.backend }))
}
