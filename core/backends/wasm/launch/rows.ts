/**
 * Divides the walk of a kernel into rows. The last axis is the row, the axis before it counts rows per outer index, and
 * a table holds the outer axes; see kernels/walk.as.ts.
 */

import { ceilDiv, collapseAxes, type Walk } from '../../../shape.ts'
import { CHUNK } from '../storage.ts'

/** Returns the walk with as few axes as possible, at least one: the row. */
export function collapseToRows(extents: readonly number[], strides: readonly (readonly number[])[]): Walk {
  const walk = collapseAxes(extents, strides)
  return walk.extents.length > 0 ? walk : { extents: [1], strides: strides.map(() => [1]) }
}

/** How rows of `length` elements are cut in chunks: by groups of rows, or rows longer than two chunks by columns. */
export interface Chunks {
  readonly rowsPerChunk: number
  readonly columnsPerChunk: number
  readonly columnChunks: number
  readonly chunks: number
}

export function splitIntoChunks(rows: number, length: number): Chunks {
  const columnChunks = length > 2 * CHUNK ? ceilDiv(length, CHUNK) : 1
  const columnsPerChunk = columnChunks > 1 ? CHUNK : length
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK / columnsPerChunk))
  return { rowsPerChunk, columnsPerChunk, columnChunks, chunks: ceilDiv(rows, rowsPerChunk) * columnChunks }
}

/** The first `rank` axes as the table that kernels read: extent, then the stride of each operand in bytes. */
export function outerTable({ extents, strides }: Walk, rank: number): number[] {
  const table: number[] = []
  for (let axis = 0; axis < rank; axis++) {
    table.push(extents[axis])
    for (const own of strides) table.push(4 * own[axis])
  }
  return table
}
