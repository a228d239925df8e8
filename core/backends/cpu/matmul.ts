/**
 * Matrix products. Each row of the result is built in f64 as a sum of scaled rows of b (the i-k-j order), so that the
 * innermost loop runs over contiguous memory; b is first copied to f64, and turned round there when it is transposed.
 */

import type { BackendKernels } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { broadcastStrides, type Shape, sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'
import { eachRow } from './walk.ts'

export function matmulLoops(host: Host) {
  return {
    matmul(a, b, transposeA, transposeB, out) {
      const y = output(host, out)
      const [A, B, Y] = [host.view(a.storage), host.view(b.storage), host.view(y)]
      const [M, N] = out.shape.slice(-2)
      const K = a.shape[a.shape.length - (transposeA ? 2 : 1)]
      const batch = out.shape.slice(0, -2)
      let turned: Float64Array | undefined
      let turnedAt = -1
      eachBatch(batch, matrixStrides(a.shape, batch), matrixStrides(b.shape, batch), (n, i, j) => {
        if (turnedAt !== j) turned = rowsOf(B, j, K, N, transposeB)
        turnedAt = j
        product(A, i, transposeA, turned!, null, Y, n * M * N, M, K, N)
      })
      return y
    },

    linear(x, w, b, out) {
      const y = output(host, out)
      const [O, I] = w.shape
      const bias = b === null ? null : host.view(b.storage)
      const rows = rowsOf(host.view(w.storage), 0, I, O, true)
      const R = sizeOf(out.shape.slice(0, -1))
      product(host.view(x.storage), 0, false, rows, bias, host.view(y), 0, R, I, O)
      return y
    },

    linearWeightGrad(g, x) {
      const [[R, O], I] = [g.shape, x.shape[1]]
      const gw = host.alloc(g.dtype, O * I)
      const gb = host.alloc(g.dtype, O)
      const [G, GB] = [host.view(g.storage), host.view(gb)]
      product(G, 0, true, rowsOf(host.view(x.storage), 0, R, I, false), null, host.view(gw), 0, O, R, I)
      const sums = new Float64Array(O)
      for (let r = 0; r < R; r++) for (let o = 0; o < O; o++) sums[o] += G[r * O + o]
      GB.set(sums)
      return [gw, gb]
    },
  } satisfies Partial<BackendKernels>
}

/** Strides of the leading axes of a stack of matrices, in elements, 0 where broadcast. */
function matrixStrides(shape: Shape, batch: Shape): number[] {
  const size = sizeOf(shape.slice(-2))
  return broadcastStrides(shape.slice(0, -2), batch).map(step => step * size)
}

/** For each matrix of the result: its number, and where its operands begin. */
function eachBatch(batch: Shape, sa: number[], sb: number[], each: (n: number, a: number, b: number) => void): void {
  // A trailing axis of length 1 makes every matrix a row of its own.
  eachRow(
    [...batch, 1],
    [
      [...sa, 0],
      [...sb, 0],
    ],
    (n, [a, b]) => each(n, a, b),
  )
}

/** A (K, N) matrix in f64, from memory that holds it so, or as (N, K) when `transposed`. */
function rowsOf(from: TypedArray, at: number, K: number, N: number, transposed: boolean): Float64Array {
  if (!transposed) return new Float64Array(from.subarray(at, at + K * N))
  const rows = new Float64Array(K * N)
  for (let j = 0; j < N; j++) for (let k = 0; k < K; k++) rows[k * N + j] = from[at + j * K + k]
  return rows
}

/** y (M, N) = a (M, K) × b (K, N) + bias (N); a is held as (K, M) when `transposed`. */
function product(
  a: TypedArray,
  aAt: number,
  transposed: boolean,
  b: Float64Array,
  bias: TypedArray | null,
  y: TypedArray,
  yAt: number,
  M: number,
  K: number,
  N: number,
): void {
  const row = new Float64Array(N)
  const [di, dk] = transposed ? [1, M] : [K, 1]
  for (let i = 0; i < M; i++) {
    if (bias === null) row.fill(0)
    else row.set(bias)
    let k = 0
    // Four rows of b at a time: one load and store of `row` for four products.
    for (; k + 4 <= K; k += 4) {
      const at = aAt + i * di + k * dk
      const [a0, a1, a2, a3] = [a[at], a[at + dk], a[at + 2 * dk], a[at + 3 * dk]]
      const [b0, b1, b2, b3] = [k * N, (k + 1) * N, (k + 2) * N, (k + 3) * N]
      for (let j = 0; j < N; j++) row[j] += a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j]
    }
    for (; k < K; k++) {
      const ak = a[aAt + i * di + k * dk]
      for (let j = 0; j < N; j++) row[j] += ak * b[k * N + j]
    }
    y.set(row, yAt + i * N)
  }
}
