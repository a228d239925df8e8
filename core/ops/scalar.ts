/**
 * Numbers as operands.
 */

import { describe, isTensor, refuseTensor } from '../arguments.ts'
import type { BinaryName, Kernels, Operand, Spec, Storage } from '../backend.ts'
import { toNumber } from '../dtype.ts'
import type { Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'

/** Runs a binary kernel on x and a number, which it reads from memory of one element. */
export function withNumber(k: Kernels, name: BinaryName, x: Operand, value: number, out: Spec): Storage {
  const { dtype } = x
  const storage = k.fill(value, { shape: [], dtype })
  try {
    return k.binary(name, x, { shape: [], dtype, storage }, out)
  } finally {
    storage.backend.free(storage)
  }
}

/**
 * The number b beside an operand of an op. Throws if the operand is no tensor, and if it is i32 and b is no integer that
 * i32 can hold.
 */
export function beside(op: string, x: Tensor | number, b: number): number {
  if (typeof x === 'number' || !isTensor(x))
    throw atCaller(new TypeError(`${op}: expected a tensor beside the number ${b}, got ${describe(x)}`))
  if (x.disposed) refuseTensor(op, 'x', x)
  if (x.dtype === 'i32' && b !== toNumber(x.dtype, b))
    throw atCaller(
      new Error(`${op}: expected an integer in [−2³¹, 2³¹) beside i32, got ${b}; convert with to(x, { dtype: 'f32' })`),
    )
  return b
}
