/**
 * Kernels that move words and compute nothing; f32 and i32 are alike to them. `copyRows` serves slice, pad, concat and
 * every permutation that leaves the last axis in place; `transpose` serves the others, four by four in registers.
 * No index is computed per element: the host collapses shapes into rows (launch/rows.ts).
 */

import { Address, Table, tableOf } from './arguments.as'
import { VEC } from './simd.as'
import { offsetAt } from './walk.as'

/** `n` words, side by side. */
@inline
export function copyWords(from: usize, to: usize, n: i32): void {
  const end = to + (<usize>n << 2)
  while (to + VEC <= end) {
    v128.store(to, v128.load(from))
    from += VEC
    to += VEC
  }
  while (to < end) {
    store<u32>(to, load<u32>(from))
    from += 4
    to += 4
  }
}

@unmanaged class CopyRowsArgs {
  from: Address
  to: Address
  /** Words of a row, and the bytes from word to word. */
  length: i32
  fromStep: usize
  toStep: usize
  rows: i32
  rowsPerChunk: i32
  columnsPerChunk: i32
  columnChunks: i32
  /** Rows per outer index, and the bytes from row to row. */
  rowsPerOuter: i32
  fromRowStep: usize
  toRowStep: usize
  /** Axes of the outer index: extent, bytes in from, bytes in to. */
  rank: i32
  table: Table
}

/** Copies rows of words from one box to another. */
export function copyRows(args: CopyRowsArgs, chunk: i32): void {
  const fromStep = args.fromStep
  const toStep = args.toStep
  const columnChunks = args.columnChunks
  const mid = args.rowsPerOuter
  const rank = args.rank
  const table = tableOf(args)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * args.columnsPerChunk
  const columns = min(args.length - column, args.columnsPerChunk)
  let row = group * args.rowsPerChunk
  const end = min(args.rows, row + args.rowsPerChunk)
  while (row < end) {
    const outer = row / mid
    const m = <usize>(row - outer * mid)
    let from = args.from + offsetAt(table, rank, 2, 0, outer) + m * args.fromRowStep
    let to = args.to + offsetAt(table, rank, 2, 1, outer) + m * args.toRowStep
    from += <usize>column * fromStep
    to += <usize>column * toStep
    const stop = min(end, row + mid - <i32>m)
    for (; row < stop; ++row) {
      if (fromStep == 4 && toStep == 4) copyWords(from, to, columns)
      else {
        let f = from
        let t = to
        for (let i = 0; i < columns; ++i, f += fromStep, t += toStep) store<u32>(t, load<u32>(f))
      }
      from += args.fromRowStep
      to += args.toRowStep
    }
  }
}

@unmanaged class TransposeArgs {
  from: Address
  to: Address
  /** Rows and columns of the result. */
  R: i32
  C: i32
  /** Bytes from c to c in from, whose r are words side by side, and from r to r in to, whose c are. */
  fromStep: usize
  toStep: usize
  /** Rows of the result that a unit writes. */
  rowsPerUnit: i32
  units: i32
  unitsPerChunk: i32
  /** Axes of the outer index: extent, bytes in from, bytes in to. */
  rank: i32
  table: Table
}

/** to[r, c] = from[c, r] for many matrices. */
export function transpose(args: TransposeArgs, chunk: i32): void {
  const R = args.R
  const C = args.C
  const rows = args.rowsPerUnit
  const bands = (R + rows - 1) / rows
  const per = args.unitsPerChunk
  const rank = args.rank
  const table = tableOf(args)
  const end = min(args.units, (chunk + 1) * per)
  for (let unit = chunk * per; unit < end; ++unit) {
    const outer = unit / bands
    const r = (unit - outer * bands) * rows
    const from = args.from + offsetAt(table, rank, 2, 0, outer) + (<usize>r << 2)
    const to = args.to + offsetAt(table, rank, 2, 1, outer) + <usize>r * args.toStep
    transposeBand(from, args.fromStep, to, args.toStep, min(R - r, rows), C)
  }
}

function transposeBand(from: usize, fromStep: usize, to: usize, toStep: usize, rows: i32, columns: i32): void {
  let c = 0
  for (; c + 4 <= columns; c += 4, from += 4 * fromStep, to += VEC) {
    let f = from
    let t = to
    let r = 0
    for (; r + 4 <= rows; r += 4, f += VEC, t += 4 * toStep) {
      const a = v128.load(f)
      const b = v128.load(f + fromStep)
      const d = v128.load(f + 2 * fromStep)
      const e = v128.load(f + 3 * fromStep)
      const ab0 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
      const ab1 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
      const de0 = v128.shuffle<f32>(d, e, 0, 4, 1, 5)
      const de1 = v128.shuffle<f32>(d, e, 2, 6, 3, 7)
      v128.store(t, v128.shuffle<f64>(ab0, de0, 0, 2))
      v128.store(t + toStep, v128.shuffle<f64>(ab0, de0, 1, 3))
      v128.store(t + 2 * toStep, v128.shuffle<f64>(ab1, de1, 0, 2))
      v128.store(t + 3 * toStep, v128.shuffle<f64>(ab1, de1, 1, 3))
    }
    for (; r < rows; ++r, f += 4, t += toStep) {
      store<u32>(t, load<u32>(f))
      store<u32>(t, load<u32>(f + fromStep), 4)
      store<u32>(t, load<u32>(f + 2 * fromStep), 8)
      store<u32>(t, load<u32>(f + 3 * fromStep), 12)
    }
  }
  for (; c < columns; ++c, from += fromStep, to += 4) {
    let f = from
    let t = to
    for (let r = 0; r < rows; ++r, f += 4, t += toStep) store<u32>(t, load<u32>(f))
  }
}
