/**
 * Folding of shapes: what a kernel walks over has as few axes as possible. Axes of extent 1 go, and neighbours merge
 * where every operand passes from the one to the other in even steps. What is left are rows (the last axis), rows per
 * outer index (the axis before it) and a table of outer axes; see kernels/walk.as.ts. Next: elementwise.ts.
 */

import { CHUNK, ceilDiv } from '../storage.ts'

/** Axes that remain, and per operand its stride along each, in elements. */
export interface Folded {
  readonly extents: number[]
  readonly strides: number[][]
}

/** Folds axes with these extents and, per operand, strides. At least one axis remains. */
export function fold(extents: readonly number[], strides: readonly (readonly number[])[]): Folded {
  const folded: Folded = { extents: [], strides: strides.map(() => []) }
  for (let axis = 0; axis < extents.length; axis++) {
    const extent = extents[axis]
    if (extent === 1) continue
    const last = folded.extents.length - 1
    const merges = last >= 0 && strides.every((own, i) => folded.strides[i][last] === extent * own[axis])
    if (merges) {
      folded.extents[last] *= extent
      strides.forEach((own, i) => {
        folded.strides[i][last] = own[axis]
      })
    } else {
      folded.extents.push(extent)
      strides.forEach((own, i) => {
        folded.strides[i].push(own[axis])
      })
    }
  }
  if (folded.extents.length === 0) {
    folded.extents.push(1)
    for (const own of folded.strides) own.push(1)
  }
  return folded
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
export function outerTable({ extents, strides }: Folded, rank: number): number[] {
  const table: number[] = []
  for (let axis = 0; axis < rank; axis++) {
    table.push(extents[axis])
    for (const own of strides) table.push(4 * own[axis])
  }
  return table
}
