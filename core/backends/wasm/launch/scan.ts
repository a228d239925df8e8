/**
 * Launches cumsum and argsort. Kernels: kernels/scan.as.ts.
 */

import type { FusedKernels } from '../../../backend.ts'
import { ceilDiv, sizeOf } from '../../../shape.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'

/** Columns that a unit of cumsum goes down side by side: four cache lines. */
const COLUMNS = 64

export function scans(context: LaunchContext): Pick<FusedKernels, 'cumsum' | 'argsort'> {
  const { runtime } = context
  const { cumsum, cumsumInts, argsort } = runtime.kernels

  return {
    cumsum(x, axis, reverse, out) {
      const y = context.output(out)
      const n = x.shape[axis]
      const inner = sizeOf(x.shape.slice(axis + 1))
      const columnsPerBlock = Math.min(inner, COLUMNS)
      const columnBlocks = ceilDiv(inner, Math.max(1, columnsPerBlock))
      const units = sizeOf(x.shape.slice(0, axis)) * columnBlocks
      const unitsPerChunk = Math.max(1, Math.floor(CHUNK / Math.max(1, n * columnsPerBlock)))
      runtime.launch(x.dtype === 'f32' ? cumsum : cumsumInts, y.length === 0 ? 0 : ceilDiv(units, unitsPerChunk), {
        x: addressOf(x),
        y: y.address,
        n,
        inner,
        units,
        unitsPerChunk,
        columnsPerBlock,
        columnBlocks,
        reverse,
      })
      return y
    },

    argsort(x, descending, out) {
      const y = context.output(out)
      if (y.length === 0) return y
      const n = x.shape[x.shape.length - 1]
      const rows = y.length / n
      const rowsPerChunk = Math.max(1, Math.floor(CHUNK / n))
      const chunks = ceilDiv(rows, rowsPerChunk)
      context.scratch(chunks * (12 * n + 4096), scratch =>
        runtime.launch(argsort, chunks, {
          x: addressOf(x),
          y: y.address,
          scratch,
          n,
          rows,
          rowsPerChunk,
          isInt: x.dtype === 'i32',
          descending,
        }),
      )
      return y
    },
  }
}
