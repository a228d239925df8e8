/**
 * Launches matrix products: cuts them in blocks and decides strides; kernels/gemm.as.ts does the work, and
 * for a few rows kernels/few-rows.as.ts. Next: reduce.ts.
 */

import type { FusedKernels, Kernels, Operand } from '../../../backend.ts'
import { broadcastStrides, sizeOf } from '../../../shape.ts'
import { at, CHUNK, type Context, ceilDiv, type WasmStorage } from '../storage.ts'

/** Columns of b packed by one chunk. */
const PACK_COLUMNS = 64
/** Rows of a block, and the smallest number of columns: below it packing rows again costs more than a chunk gains. */
const BLOCK_ROWS = 64
const BLOCK_COLUMNS = 256
/** Up to so many rows, b is used as it lies where its columns lie along k. */
const FEW_ROWS = 8

/** A matrix in memory: its address, and bytes from row to row and from column to column. */
interface Matrix {
  readonly address: number
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
  /** Different matrices b, each `K·N` elements from the last. */
  readonly countB: number
  /** Per batch element: which matrix of a and which of b. */
  readonly offsets: readonly (readonly [number, number])[] | null
  readonly bias: number
}

export function matmul(context: Context, loops: Kernels): Pick<Kernels, 'matmul'> & Pick<FusedKernels, 'linear'> {
  const { runtime } = context
  const packKernel = runtime.kernel('gemmPackB')
  const gemmKernel = runtime.kernel('gemm')
  const fewRowsKernel = runtime.kernel('fewRows')

  function multiply(product: Product, out: WasmStorage): void {
    if (out.length === 0) return
    if (product.M <= FEW_ROWS && liesAlongK(product)) multiplyFewRows(product, out)
    else multiplyPacked(product, out)
  }

  function multiplyFewRows({ M, N, K, a, b, bias }: Product, out: WasmStorage): void {
    // Of cache lines of the result, for some thousand products: by shape only, as everywhere.
    const columns = Math.max(16, Math.ceil((4 * CHUNK) / (16 * Math.max(K, 1))) * 16)
    runtime.launch(fewRowsKernel, ceilDiv(N, columns), a.address, b.address, out.address, bias, M, N, K, columns)
  }

  function multiplyPacked({ M, N, K, batch, a, b, countB, offsets, bias }: Product, out: WasmStorage): void {
    const packedColumns = ceilDiv(N, 8) * 8
    const packedBytes = 4 * packedColumns * K
    const blockRows = Math.min(BLOCK_ROWS, ceilDiv(M, 4) * 4)
    const rowBlocks = ceilDiv(M, blockRows)
    // Enough chunks to keep all threads busy to the end. Every element is one sum over k in rising order, however the
    // blocks lie, so here the cut may depend on the number of threads.
    const wanted = Math.max(1, Math.floor((8 * (runtime.threads - 1)) / (rowBlocks * batch)))
    const blockColumns = Math.max(BLOCK_COLUMNS, ceilDiv(ceilDiv(N, wanted), 8) * 8)
    const columnBlocks = ceilDiv(N, blockColumns)
    const threadBytes = 4 * blockRows * K
    const tableBytes = offsets === null ? 0 : 8 * batch
    context.scratch(countB * packedBytes + runtime.threads * threadBytes + tableBytes, packed => {
      const perMatrix = ceilDiv(N, PACK_COLUMNS)
      runtime.launch(
        packKernel,
        countB * perMatrix,
        b.address,
        b.columnStep,
        b.rowStep,
        N,
        K,
        packed,
        PACK_COLUMNS,
        perMatrix,
        4 * K * N,
        packedBytes,
      )
      const scratch = packed + countB * packedBytes
      const table = scratch + runtime.threads * threadBytes
      if (offsets !== null) {
        const words = runtime.ints(table, 2 * batch)
        offsets.forEach(([ia, ib], i) => {
          words[2 * i] = 4 * M * K * ia
          words[2 * i + 1] = packedBytes * ib
        })
      }
      runtime.launch(
        gemmKernel,
        batch * rowBlocks * columnBlocks,
        a.address,
        a.rowStep,
        a.columnStep,
        packed,
        out.address,
        bias,
        M,
        N,
        K,
        blockRows,
        blockColumns,
        scratch,
        threadBytes,
        rowBlocks,
        columnBlocks,
        offsets === null ? 0 : table,
      )
    })
  }

  /** The last two axes as a matrix of `columns` columns, or its transpose. */
  function matrix(x: Operand, transpose: boolean): Matrix {
    const step = 4 * x.shape[x.shape.length - 1]
    return { address: at(x), rowStep: transpose ? 4 : step, columnStep: transpose ? step : 4 }
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
      const countB = sizeOf(b.shape.slice(0, -2))
      const product = { N, K, a: matrix(a, transposeA), b: matrix(b, transposeB), countB, bias: 0 }
      // One b for all: the rows of all a's are the rows of one matrix.
      if (countB === 1 && !transposeA && sizeOf(a.shape.slice(0, -2)) === batch)
        multiply({ ...product, M: batch * M, batch: 1, offsets: null }, y)
      else multiply({ ...product, M, batch, offsets: batch === 1 ? null : pairs(a, b, batchShape) }, y)
      return y
    },

    linear(x, w, b, out) {
      const y = context.output(out)
      const [N, K] = w.shape
      const M = N === 0 ? 0 : y.length / N
      const bias = b === null ? 0 : at(b)
      const a = { address: at(x), rowStep: 4 * K, columnStep: 4 }
      multiply({ M, N, K, batch: 1, a, b: matrix(w, true), countB: 1, offsets: null, bias }, y)
      return y
    },
  }
}

/** Whether one product is asked for, of rows of a with columns of b that both are k after k, one after the other. */
function liesAlongK({ M, N, K, batch, a, b, countB }: Product): boolean {
  const rows = a.columnStep === 4 && (M === 1 || a.rowStep === 4 * K)
  const columns = b.rowStep === 4 && (N === 1 || b.columnStep === 4 * K)
  return batch === 1 && countB === 1 && rows && columns
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
