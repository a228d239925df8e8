/**
 * gatherRows and scatterAdd. For wide rows, scatterAdd finds once the first index of each row and, for each index, the next
 * one of the same row; elements then follow these links. For few narrow rows with many indices (the gradient of a table
 * of biases) each element scans the indices, chunk by chunk.
 */

import type { BackendKernels } from '../../../../backend.ts'
import { ceilDiv } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'
import type { ReduceMiddle } from './reduce.ts'

declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function element(outer: number, rows: number, row: number, width: number, column: number): number

/** x (B, R, D), index (B, K) → (B, K, D). */
function gatherRows(this: Thread, x: Elements, index: Elements, R: number, K: number, D: number): number {
  const row = index[quotient(this.thread.x, D)]
  return x[element(quotient(this.thread.x, K * D), R, row, D, remainder(this.thread.x, D))]
}

/** index (B, K) → (B, R): the first k that names the row, or −1. */
function firstOf(this: Thread, index: Elements, R: number, K: number): number {
  const b = quotient(this.thread.x, R)
  const row = remainder(this.thread.x, R)
  for (let k = 0; k < K; k++) {
    if (index[element(b, K, k, 1, 0)] === row) {
      return k
    }
  }
  return -1
}

/** index (B, K) → (B, K): the next k that names the same row, or −1. */
function nextOf(this: Thread, index: Elements, K: number): number {
  const b = quotient(this.thread.x, K)
  const own = remainder(this.thread.x, K)
  for (let k = 0; k < K; k++) {
    if (k > own && index[element(b, K, k, 1, 0)] === index[this.thread.x]) {
      return k
    }
  }
  return -1
}

/** first (B, R), next (B, K), source (B, K, D) → (B, R, D). */
function scatterAdd(
  this: Thread,
  first: Elements,
  next: Elements,
  source: Elements,
  R: number,
  K: number,
  D: number,
): number {
  const b = quotient(this.thread.x, R * D)
  let k = first[element(b, R, along(this.thread.x, R, D), 1, 0)]
  let total = 0
  for (let step = 0; step < K; step++) {
    if (k < 0) {
      break
    }
    total += source[element(b, K, k, D, remainder(this.thread.x, D))]
    k = next[element(b, K, k, 1, 0)]
  }
  return total
}

/** index (B, K), source (B, K, D) → (B, chunks, R, D): sums over 256 indices each. */
function scatterChunks(
  this: Thread,
  index: Elements,
  source: Elements,
  R: number,
  K: number,
  D: number,
  chunks: number,
): number {
  const b = quotient(this.thread.x, chunks * R * D)
  const from = along(this.thread.x, chunks, R * D) * 256
  const row = along(this.thread.x, R, D)
  let total = 0
  for (let k = 0; k < 256; k++) {
    if (from + k < K) {
      if (index[element(b, K, from + k, 1, 0)] === row) {
        total += source[element(b, K, from + k, D, remainder(this.thread.x, D))]
      }
    }
  }
  return total
}

/** 1 where an index is outside [0, R). */
export function outOfRange(this: Thread, index: Elements, R: number): number {
  if (index[this.thread.x] >= 0 && index[this.thread.x] < R) {
    return 0
  }
  return 1
}

export function createGatherKernels({ launch, free, checkIndices }: Launcher, reduceMiddle: ReduceMiddle) {
  return {
    gatherRows(x, index, out) {
      const [B, R, D] = x.shape
      const K = index.shape[1]
      checkIndices('gatherRows', index, R)
      coordinate('gatherRows', Math.max(B, R, K, D))
      return launch({ key: 'gatherRows', kernel: gatherRows }, [x, index], out, [R, K, D])
    },

    scatterAdd(index, source, out) {
      const [B, R, D] = out.shape
      const K = index.shape[1]
      checkIndices('scatterAdd', index, R)
      coordinate('scatterAdd', Math.max(B, R, K, D))
      // Choose by the number of indices read: R·D·K, or (R + K)·K.
      if (R * D < R + K) {
        const chunks = ceilDiv(K, 256)
        const program = { key: 'scatterChunks', kernel: scatterChunks }
        if (chunks <= 1) return launch(program, [index, source], out, [R, K, D, 1])
        const parts = { dtype: out.dtype, shape: [B, chunks, R, D] }
        const storage = launch(program, [index, source], parts, [R, K, D, chunks])
        const y = reduceMiddle('sum', { ...parts, storage }, chunks, R * D, out)
        free(storage)
        return y
      }
      const rows = { dtype: 'i32', shape: [B, R] } as const
      const links = { dtype: 'i32', shape: [B, K] } as const
      const first = launch({ key: 'firstOf', kernel: firstOf }, [index], rows, [R, K])
      const next = launch({ key: 'nextOf', kernel: nextOf }, [index], links, [K])
      const operands = [{ ...rows, storage: first }, { ...links, storage: next }, source]
      const y = launch({ key: 'scatterAdd', kernel: scatterAdd }, operands, out, [R, K, D])
      free(first)
      free(next)
      return y
    },
  } satisfies Partial<BackendKernels>
}
