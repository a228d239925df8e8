/**
 * Walking arrays of any rank row by row: the loops of this backend run over the last axis, and this file steps through
 * the axes before it.
 */

import { type Shape, sizeOf } from '../../shape.ts'

/**
 * Calls `row` for each row (run along the last axis) of `shape`, in order: `start` counts elements of `shape` before the
 * row, and `at[k]` is the position of the row's first element for an operand that is read with `strides[k]`.
 */
export function eachRow(
  shape: Shape,
  strides: readonly (readonly number[])[],
  row: (start: number, at: readonly number[]) => void,
): void {
  const size = sizeOf(shape)
  if (size === 0) return
  const length = shape[shape.length - 1] ?? 1
  const index = shape.map(() => 0)
  const at = strides.map(() => 0)
  for (let start = 0; start < size; start += length) {
    row(start, at)
    // Count up like an odometer: the first axis that does not overflow ends the carry.
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      index[axis]++
      for (let k = 0; k < at.length; k++) at[k] += strides[k][axis]
      if (index[axis] < shape[axis]) break
      index[axis] = 0
      for (let k = 0; k < at.length; k++) at[k] -= strides[k][axis] * shape[axis]
    }
  }
}

/** The stride of the last axis; 0 for a scalar. */
export function lastStride(strides: readonly number[]): number {
  return strides[strides.length - 1] ?? 0
}
