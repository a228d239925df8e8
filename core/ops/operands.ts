/**
 * Operands of functions of two tensors, either of which may be a number. Next: compare.ts.
 */

import { toNumber } from '../dtype.ts'
import { broadcastShapes } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'

/**
 * Both operands as tensors: a number takes dtype and backend of the tensor beside it. Throws ShapeError on shapes that do
 * not broadcast, and an error if both are numbers or i32 cannot hold the number.
 */
export function operands(op: string, a: Tensor | number, b: Tensor | number): readonly [Tensor, Tensor] {
  if (typeof a === 'number') {
    if (typeof b === 'number') throw new Error(`${op}: expected at least one tensor, got the numbers ${a} and ${b}`)
    return [beside(op, b, a), b]
  }
  if (typeof b === 'number') return [a, beside(op, a, b)]
  broadcastShapes(op, a.shape, b.shape)
  return [a, b]
}

/** A number as a scalar in the dtype and on the backend of x. Throws if i32 cannot hold it. */
function beside(op: string, { dtype, backend }: Tensor, value: number): Tensor {
  if (dtype === 'i32' && value !== toNumber(dtype, value))
    throw new Error(
      `${op}: expected an integer in [−2³¹, 2³¹) beside i32, got ${value}; convert with to(x, { dtype: 'f32' })`,
    )
  return full([], value, { dtype, backend })
}
