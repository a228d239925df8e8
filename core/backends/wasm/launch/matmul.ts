/**
 * Launches matrix products: divides them into blocks and chooses strides. Kernels: kernels/gemm.as.ts and, for at most
 * 8 rows, kernels/few-rows.as.ts.
 */

import type { FusedKernels, Kernels, Operand } from '../../../backend.ts'
import { broadcastStrides, ceilDiv, sizeOf } from '../../../shape.ts'
import { type Address, addBytes } from '../memory.ts'
import { addressOf, CHUNK, type LaunchContext, type WasmStorage } from '../storage.ts'
import type { Reduce } from './reduce.ts'

/**
 * Steps of k in one pass: a packed panel of b, 8 columns, is then 16 KB and stays in the first-level cache, and no sum of
 * a pass is a longer chain of additions than that.
 */
const PASS = 512
/** Bytes of packed rows of a that meet all columns, a panel at a time: they stay in the second-level cache. */
const ROW_BYTES = 1 << 20
/** Bytes of columns of b packed at once, a multiple of 32 columns: they stay there, too. */
const COLUMN_BYTES = 1 << 16
/** Rows of a packed by one chunk. */
export const PACK_ROWS = 16
/** Chunks there should be, so that all threads are busy to the end. Those of the same columns pack them once. */
const ENOUGH = 96

/** Largest number of rows for which b is used without packing. */
const FEW_ROWS = 8
/** Elements of b from which a product of few rows is worth a launch of its own. */
const ALONG = 1 << 16

/** A matrix in memory: its address, and bytes from row to row and from column to column. */
interface Matrix {
  readonly address: Address
  readonly rowStep: number
  readonly columnStep: number
}

/** A product of matrices: for each of `batch`, (M, K) × (K, N). */
interface Product {
  readonly M: number
  readonly N: number
  readonly K: number
  readonly batch: number
  readonly a: Matrix
  readonly b: Matrix
  /** Different matrices a, each `M·K` elements from the last. */
  readonly countA: number
  /** Per batch element: which matrix of a and which of b. */
  readonly offsets: readonly (readonly [number, number])[] | null
  readonly bias: Address | null
  /** Where the sums of a's rows go; null if they are not wanted. */
  readonly sums: Address | null
}

export function matmul(
  context: LaunchContext,
  loops: Kernels,
  reduce: Reduce,
): Pick<Kernels, 'matmul'> & Pick<FusedKernels, 'linear' | 'linearWeightGrad'> {
  const { runtime } = context
  const { gemm, gemmPack, fewRows, fewRowsAlong } = runtime.kernels

  function multiply(product: Product, out: WasmStorage): void {
    if (out.length === 0) return
    const { M, N, K, batch, b } = product
    if (M > FEW_ROWS) multiplyPacked(product, out)
    else if (liesAlongK(product)) multiplyFewRows(product, out)
    else if (b.columnStep === 4 && (batch === 1 || N * K >= ALONG)) multiplyAlong(product, out)
    else multiplyPacked(product, out)
  }

  function multiplyFewRows({ M, N, K, a, b, bias }: Product, out: WasmStorage): void {
    // Of cache lines of the result, for some thousand products: by shape only, as everywhere.
    const columnsPerChunk = Math.max(16, Math.ceil((4 * CHUNK) / (16 * Math.max(K, 1))) * 16)
    runtime.launch(fewRows, ceilDiv(N, columnsPerChunk), {
      a: a.address,
      w: b.address,
      out: out.address,
      bias,
      M,
      N,
      K,
      columnsPerChunk,
    })
  }

  function multiplyAlong({ M, N, K, batch, a, b, offsets, bias }: Product, out: WasmStorage): void {
    const columnsPerChunk = Math.max(192, Math.min(512, ceilDiv(ceilDiv(N, 16), 16) * 16))
    const chunksPerPass = ceilDiv(N, columnsPerChunk)
    const { passes, perPass } = passesOf(K)
    for (let i = 0; i < batch; i++) {
      const [ia, ib] = offsets === null ? [0, 0] : offsets[i]
      inSlots(passes, M * N, addBytes(out.address, 4 * M * N * i), to =>
        runtime.launch(fewRowsAlong, passes * chunksPerPass, {
          a: addBytes(a.address, 4 * M * K * ia),
          rowStep: a.rowStep,
          kStep: a.columnStep,
          b: addBytes(b.address, 4 * K * N * ib),
          bStep: b.rowStep,
          out: to,
          bias,
          M,
          N,
          K,
          columnsPerChunk,
          chunksPerPass,
          stepsPerPass: perPass,
        }),
      )
    }
  }

  /** Runs `launch` on the result or, of several passes, on slots of `length` floats that are summed to it. */
  function inSlots(passes: number, length: number, result: Address, launch: (to: Address) => void): void {
    if (passes === 1) launch(result)
    else
      context.scratch(4 * passes * length, slots => {
        launch(slots)
        reduce('sum', slots, result, 1, passes, length)
      })
  }

  /** Multiplies as many rows at a time as stay in the second-level cache from their packing to their last use. */
  function multiplyPacked(product: Product, out: WasmStorage): void {
    const { M, N, K, batch, a, sums } = product
    const most = batch === 1 ? mostRows(passesOf(K).perPass) : M
    const rows = ceilDiv(M, 4 * Math.max(1, ceilDiv(M, most))) * 4
    for (let m = 0; m < M; m += rows)
      multiplyRows(
        {
          ...product,
          M: Math.min(rows, M - m),
          a: { ...a, address: addBytes(a.address, m * a.rowStep) },
          sums: sums && addBytes(sums, 4 * m),
        },
        addBytes(out.address, 4 * m * N),
      )
  }

  function multiplyRows({ M, N, K, batch, a, b, countA, offsets, bias, sums }: Product, out: Address): void {
    const { passes, perPass } = passesOf(K)
    const { rowsPerBlock, columnsPerBlock } = blocks(M, N, perPass, batch)
    const [rowBlocks, columnBlocks] = [ceilDiv(M, rowsPerBlock), ceilDiv(N, columnsPerBlock)]
    const packedBytes = 4 * ceilDiv(M, 4) * 4 * perPass
    const threadBytes = 4 * ceilDiv(columnsPerBlock, 8) * 8 * perPass
    const tableBytes = offsets === null ? 0 : 8 * batch
    context.scratch(countA * packedBytes + runtime.threads * threadBytes + tableBytes, packed => {
      const scratch = addBytes(packed, countA * packedBytes)
      const table = addBytes(scratch, runtime.threads * threadBytes)
      if (offsets !== null) {
        const words = runtime.ints(table, 2 * batch)
        offsets.forEach(([ia, ib], i) => {
          words[2 * i] = packedBytes * ia
          words[2 * i + 1] = 4 * K * N * ib
        })
      }
      // Every element is a sum of passes in rising order of k, each a sum of its own: by shape only, however it is cut.
      for (let k = 0, pass = 0; pass < passes; pass++, k += perPass) {
        const length = Math.min(perPass, K - k)
        const chunksPerMatrix = ceilDiv(M, PACK_ROWS)
        runtime.launch(gemmPack, countA * chunksPerMatrix, {
          a: addBytes(a.address, k * a.columnStep),
          matrixStep: 4 * M * K,
          rowStep: a.rowStep,
          kStep: a.columnStep,
          M,
          K: length,
          packed,
          packedStep: packedBytes,
          rowsPerChunk: PACK_ROWS,
          chunksPerMatrix,
          sums,
          accumulate: pass > 0,
        })
        runtime.launch(gemm, batch * rowBlocks * columnBlocks, {
          packedA: packed,
          b: addBytes(b.address, k * b.rowStep),
          columnStep: b.columnStep,
          kStep: b.rowStep,
          out,
          bias: k === 0 ? bias : null,
          M,
          N,
          K: length,
          rowsPerBlock,
          columnsPerBlock,
          rowBlocks,
          columnBlocks,
          scratch,
          threadBytes,
          offsets: offsets === null ? null : table,
          accumulate: k > 0,
        })
      }
    })
  }

  /** The last two axes as a matrix of `columns` columns, or its transpose. */
  function matrix(x: Operand, transpose: boolean): Matrix {
    const step = 4 * x.shape[x.shape.length - 1]
    return { address: addressOf(x), rowStep: transpose ? 4 : step, columnStep: transpose ? step : 4 }
  }

  return {
    matmul(a, b, transposeA, transposeB, out) {
      if (out.dtype !== 'f32') return loops.matmul(a, b, transposeA, transposeB, out)
      const y = context.output(out)
      const rank = out.shape.length
      const [M, N] = [out.shape[rank - 2], out.shape[rank - 1]]
      const K = a.shape[a.shape.length - (transposeA ? 2 : 1)]
      const batchShape = out.shape.slice(0, -2)
      const batch = sizeOf(batchShape)
      const [countA, countB] = [a, b].map(x => sizeOf(x.shape.slice(0, -2)))
      const product = { N, K, a: matrix(a, transposeA), b: matrix(b, transposeB), bias: null, sums: null }
      // One b for all: the rows of all a's are the rows of one matrix.
      if (countB === 1 && !transposeA && countA === batch)
        multiply({ ...product, M: batch * M, batch: 1, countA: 1, offsets: null }, y)
      else multiply({ ...product, M, batch, countA, offsets: batch === 1 ? null : pairs(a, b, batchShape) }, y)
      return y
    },

    linear(x, w, b, out) {
      const y = context.output(out)
      const [N, K] = w.shape
      const M = N === 0 ? 0 : y.length / N
      const bias = addressOf(b)
      const a = { address: addressOf(x), rowStep: 4 * K, columnStep: 4 }
      multiply({ M, N, K, batch: 1, a, b: matrix(w, true), countA: 1, offsets: null, bias, sums: null }, y)
      return y
    },

    linearWeightGrad(g, x) {
      const [R, M] = g.shape
      const N = x.shape[1]
      const gw = context.output({ shape: [M, N], dtype: 'f32' })
      const gb = context.output({ shape: [M], dtype: 'f32' })
      // Rows of gᵀ are summed while they are packed.
      const packs = M > FEW_ROWS && N > 0
      const sums = packs ? gb.address : null
      const operands = { a: matrix(g, true), b: matrix(x, false), countA: 1, offsets: null, bias: null, sums }
      multiply({ ...operands, M, N, K: R, batch: 1 }, gw)
      if (!packs && R === 0) runtime.floats(gb.address, M).fill(0)
      else if (!packs && M > 0) reduce('sum', addressOf(g), gb.address, 1, R, M)
      return [gw, gb]
    },
  }
}

/** True for a single product whose rows of a and columns of b are both contiguous along k. */
function liesAlongK({ M, N, K, batch, a, b }: Product): boolean {
  const rows = a.columnStep === 4 && (M === 1 || a.rowStep === 4 * K)
  const columns = b.rowStep === 4 && (N === 1 || b.columnStep === 4 * K)
  return batch === 1 && rows && columns
}

/** Passes over K steps, and steps in all but the last: a multiple of 4 where there are several. */
function passesOf(K: number): { readonly passes: number; readonly perPass: number } {
  const passes = Math.max(1, ceilDiv(K, PASS))
  return { passes, perPass: passes === 1 ? K : ceilDiv(K, 4 * passes) * 4 }
}

/** Rows of a whose packed panels of K steps stay in the second-level cache. */
function mostRows(K: number): number {
  return Math.max(4, Math.floor(ROW_BYTES / (16 * Math.max(K, 1))) * 4)
}

/** Rows and columns of a block: as many as the caches hold, but enough blocks. By shape only, as everywhere. */
export function blocks(
  M: number,
  N: number,
  K: number,
  batch: number,
): { readonly rowsPerBlock: number; readonly columnsPerBlock: number } {
  const fit = Math.max(32, Math.floor(COLUMN_BYTES / (128 * Math.max(K, 1))) * 32)
  const columnsPerBlock = Math.min(fit, ceilDiv(N, 8) * 8)
  // Where k is short, the result is what fills the cache.
  const most = K <= 64 ? 64 : mostRows(K)
  const wanted = Math.min(ceilDiv(ENOUGH, ceilDiv(N, columnsPerBlock) * batch), ceilDiv(M, 64))
  const rows = ceilDiv(M, Math.max(ceilDiv(M, most), wanted))
  return { rowsPerBlock: ceilDiv(rows, 4) * 4, columnsPerBlock }
}

/** For each element of a broadcast batch, in order: which matrix of a and which of b it multiplies. */
function pairs(a: Operand, b: Operand, batchShape: readonly number[]): (readonly [number, number])[] {
  const strides = [a, b].map(x => broadcastStrides(x.shape.slice(0, -2), batchShape))
  const list: (readonly [number, number])[] = []
  const index = new Array<number>(batchShape.length).fill(0)
  for (let i = sizeOf(batchShape); i > 0; i--) {
    const [ia, ib] = strides.map(own => own.reduce((sum, step, axis) => sum + step * index[axis], 0))
    list.push([ia, ib])
    for (let axis = batchShape.length - 1; axis >= 0 && ++index[axis] === batchShape[axis]; axis--) index[axis] = 0
  }
  return list
}
