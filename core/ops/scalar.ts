/**
 * Kernels of two operands with a number as the second one. Next: movement.ts.
 */

import type { BinaryName, Kernels, Operand, Spec, Storage } from '../backend.ts'

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
