/**
 * Operands of functions of two tensors, either of which may be a number.
 */

import { checkOneDType } from '../arguments.ts'
import { broadcastShapes } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { beside } from './scalar.ts'

/**
 * Both operands as tensors: a number takes dtype and backend of the tensor beside it. Throws ShapeError on shapes that do
 * not broadcast, and an error if both are numbers or i32 cannot hold the number.
 */
export function operands(op: string, a: Tensor | number, b: Tensor | number): readonly [Tensor, Tensor] {
  if (typeof a === 'number') return [element(op, b, a), b as Tensor]
  if (typeof b === 'number') return [a, element(op, a, b)]
  checkOneDType(op, { a, b })
  broadcastShapes(op, a.shape, b.shape)
  return [a, b]
}

/** A number as a scalar in the dtype and on the backend of x. Throws if x is no tensor or i32 cannot hold the number. */
function element(op: string, x: Tensor | number, value: number): Tensor {
  beside(op, x, value)
  const { dtype, backend } = x as Tensor
  return full([], value, { dtype, backend })
}
