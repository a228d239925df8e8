/**
 * Launches the kernels of core/doubles.ts. Arrays are views of the linear memory, so that the host reads and writes what
 * lies between two kernels; operands of products are packed into panels here. Kernels: kernels/doubles.as.ts.
 */

import { type Doubles, exactRows } from '../../../doubles.ts'
import { ceilDiv } from '../../../shape.ts'
import type { Address, Allocator } from '../memory.ts'
import type { Runtime } from '../runtime.ts'

/** Panels of a that one chunk of a product takes: they stay in the second-level cache. */
const BLOCK = 8
/** A panel is at most so long: with the others of its chunk it fits the second-level cache. */
const LONGEST = 1024
/** Rows whose digits are packed at a time. */
const DIGIT_ROWS = 4 * exactRows
/** Elements that a chunk of a product with a vector reads. */
const CHUNK = 1 << 17

export function wasmDoubles(runtime: Runtime, memory: Allocator): Doubles {
  const { kernels } = runtime
  const blocks = new WeakMap<Float64Array, number>()

  function alloc(length: number): Float64Array {
    const block = memory.alloc(8 * length)
    const array = runtime.doubles(memory.address(block), length).fill(0)
    blocks.set(array, block)
    return array
  }

  function free(array: Float64Array): void {
    memory.free(blocks.get(array)!)
    blocks.delete(array)
  }

  /** Runs `use` with arrays of these lengths, which are freed again. */
  function scratch(lengths: readonly number[], use: (...arrays: Float64Array[]) => void): void {
    const arrays: Float64Array[] = []
    try {
      for (const length of lengths) arrays.push(alloc(length))
      use(...arrays)
    } finally {
      for (const array of arrays) free(array)
    }
  }

  return {
    alloc,
    free,

    addProduct(c, stride, a, b, [M, N, K], { sign = 1, upper = false } = {}) {
      const [rows, columns] = [ceilDiv(M, 4), ceilDiv(N, 4)]
      const longest = Math.min(K, LONGEST)
      scratch([4 * rows * longest, a === b ? 0 : 4 * columns * longest], (A, other) => {
        const B = a === b ? A : other
        for (let from = 0; from < K; from += longest) {
          const length = Math.min(longest, K - from)
          packRows(a, M, K, from, length, A)
          if (a !== b) packRows(b, N, K, from, length, B)
          runtime.launch(kernels.addProduct, ceilDiv(rows, BLOCK), {
            a: addressOf(A),
            b: addressOf(B),
            panelsOfA: rows,
            panelsOfB: columns,
            panelsPerChunk: BLOCK,
            K: length,
            c: addressOf(c),
            stride: 8 * stride,
            subtract: sign === -1,
            upper,
          })
        }
      })
    },

    addSquares(sums, high, low, [N, D]) {
      const panels = ceilDiv(D, 4)
      const longest = Math.min(N, DIGIT_ROWS)
      scratch([4 * panels * longest, 4 * panels * longest], (H, L) => {
        for (let from = 0; from < N; from += longest) {
          const rows = Math.min(longest, N - from)
          packColumns(high, D, from, rows, H)
          packColumns(low, D, from, rows, L)
          runtime.launch(kernels.addSquares, ceilDiv(panels, BLOCK), {
            high: addressOf(H),
            low: addressOf(L),
            panels,
            panelsPerChunk: BLOCK,
            rows,
            exactRows,
            highSums: addressOf(sums.high),
            lowSums: addressOf(sums.low),
            stride: 8 * sums.stride,
          })
        }
      })
    },

    multiply(A, stride, [M, N], x, y) {
      const rowsPerChunk = perChunk(N)
      runtime.launch(kernels.multiply, ceilDiv(M, rowsPerChunk), {
        A: addressOf(A),
        stride: 8 * stride,
        M,
        N,
        x: addressOf(x),
        y: addressOf(y),
        rowsPerChunk,
      })
    },

    multiplyTransposed(A, stride, [M, N], x, y) {
      const rowsPerChunk = perChunk(N)
      const chunks = ceilDiv(M, rowsPerChunk)
      scratch([chunks * N], slots => {
        runtime.launch(kernels.multiplyTransposed, chunks, {
          A: addressOf(A),
          stride: 8 * stride,
          M,
          N,
          x: addressOf(x),
          slots: addressOf(slots),
          rowsPerChunk,
        })
        for (let j = 0; j < N; j++) y[j] = slots[j]
        for (let chunk = 1, at = N; chunk < chunks; chunk++) for (let j = 0; j < N; j++, at++) y[j] += slots[at]
      })
    },
  }
}

/** Returns the first byte of an array, which is a view of the linear memory. */
function addressOf(array: Float64Array): Address {
  return array.byteOffset as Address
}

/** Rows of N elements in a chunk, a multiple of four. */
function perChunk(N: number): number {
  return 4 * Math.max(1, Math.round(CHUNK / (4 * N)))
}

/** Elements [from, from + length) of M rows, K long each, as panels of four rows; what is missing of the last is 0. */
function packRows(x: Float64Array, M: number, K: number, from: number, length: number, to: Float64Array): void {
  for (let i = 0, at = 0; i < M; i += 4, at += 4 * length)
    for (let r = 0; r < 4; r++) {
      const row = (i + r) * K + from
      if (i + r < M) for (let k = 0; k < length; k++) to[at + 4 * k + r] = x[row + k]
      else for (let k = 0; k < length; k++) to[at + 4 * k + r] = 0
    }
}

/** Rows [from, from + rows) of x (N, D) as panels of four columns; what is missing of the last is 0. */
function packColumns(x: Float64Array, D: number, from: number, rows: number, to: Float64Array): void {
  for (let j = 0, at = 0; j < D; j += 4)
    for (let n = 0; n < rows; n++) for (let c = 0; c < 4; c++, at++) to[at] = j + c < D ? x[(from + n) * D + j + c] : 0
}
