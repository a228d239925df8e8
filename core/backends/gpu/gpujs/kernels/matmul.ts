/**
 * Matrix products, one element of the result per thread. Used where webgpu/wgsl/matmul.ts is not, and to test it.
 */

import type { BackendKernels, Kernels, Operand, Spec } from '../../../../backend.ts'
import { broadcastStrides, type Shape, sizeOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'
import { offsetArguments } from './elementwise.ts'

declare function offset(at: number, ...sizesAndStrides: number[]): number
declare function quotient(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function remainder(a: number, b: number): number
declare function place(i: number, s: number, j: number, t: number, k: number, u: number): number

/**
 * Sums blocks of 64 products, then the blocks, so that long sums keep f32's precision. aM, aK, bK and bN are steps
 * along the axes; `offset` locates the matrices of a product.
 */
// biome-ignore format: one group of parameters a line
function matmul(
  this: Thread, a: Elements, b: Elements,
  M: number, N: number, K: number, aM: number, aK: number, bK: number, bN: number,
  n1: number, n2: number, n3: number, n4: number, n5: number,
  a1: number, a2: number, a3: number, a4: number, a5: number, a6: number,
  b1: number, b2: number, b3: number, b4: number, b5: number, b6: number,
): number {
  const product = quotient(this.thread.x, M * N)
  const row = along(this.thread.x, M, N)
  const column = remainder(this.thread.x, N)
  let total = 0
  for (let from = 0; from < K; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < K) {
        part +=
          a[offset(product, n1, n2, n3, n4, n5, a1, a2, a3, a4, a5, a6) + place(row, aM, from + k, aK, 0, 0)] *
          b[offset(product, n1, n2, n3, n4, n5, b1, b2, b3, b4, b5, b6) + place(column, bN, from + k, bK, 0, 0)]
      }
    }
    total += part
  }
  return total
}

/** x (R, I) wᵀ + bias: w (O, I). */
function linear(this: Thread, x: Elements, w: Elements, bias: Elements, I: number, O: number): number {
  const row = quotient(this.thread.x, O)
  const column = remainder(this.thread.x, O)
  let total = bias[column]
  for (let from = 0; from < I; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < I) {
        part += x[place(row, I, from + k, 1, 0, 0)] * w[place(column, I, from + k, 1, 0, 0)]
      }
    }
    total += part
  }
  return total
}

export function createMatmulKernels({ launch }: Launcher) {
  const multiply: Kernels['matmul'] = (a, b, transposeA, transposeB, out) => {
    const [M, N] = out.shape.slice(-2)
    const K = a.shape[a.shape.length - (transposeA ? 2 : 1)]
    const batch = out.shape.slice(0, -2)
    coordinate('matmul', Math.max(M, N, K, sizeOf(batch)))
    const { ints, rank } = offsetArguments(batch, [batchStrides(a, batch), batchStrides(b, batch)])
    const steps = [...(transposeA ? [1, M] : [K, 1]), ...(transposeB ? [1, K] : [N, 1])]
    return launch({ key: 'matmul', kernel: matmul, rank }, [a, b], out, [M, N, K, ...steps, ...ints])
  }
  return {
    matmul: multiply,
    linear(x, w, b, out) {
      const [O, I] = w.shape
      const rows: Spec = { dtype: out.dtype, shape: [sizeOf(x.shape.slice(0, -1)), O] }
      if (b === null)
        return multiply({ dtype: x.dtype, storage: x.storage, shape: [rows.shape[0], I] }, w, false, true, rows)
      coordinate('linear', Math.max(rows.shape[0], O, I))
      return launch({ key: 'linear', kernel: linear }, [x, w, b], out, [I, O])
    },
  } satisfies Partial<BackendKernels>
}

/** Returns the strides of the matrices of `x` along the axes of `batch`. */
function batchStrides({ shape }: Operand, batch: Shape): number[] {
  return broadcastStrides(shape.slice(0, -2), batch).map(s => s * sizeOf(shape.slice(-2)))
}
