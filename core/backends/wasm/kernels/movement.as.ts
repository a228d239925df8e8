/**
 * Kernels that move words and compute nothing; f32 and i32 are alike to them. `copyRows` serves slice, pad, concat and
 * every permutation that leaves the last axis in place; `transpose` serves the others, four by four in registers.
 * No index is computed per element: the host folds shapes into rows (launch/fold.ts). Next: gather.as.ts.
 */

import { VEC, arg, pointer } from './simd.as'
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

/**
 * Rows of words from one box to another. args: 0 from, 1 to, 2 row length, 3 bytes from word to word in from, 4 in to,
 * 5 rows, 6 rows per chunk, 7 columns per chunk, 8 column chunks, 9 rows per outer index, 10 bytes from row to row in
 * from, 11 in to, 12 rank of the outer index, 13 … its table (extent, bytes in from, bytes in to).
 */
export function copyRows(args: usize, chunk: i32): void {
  const fromStep = pointer(args, 3)
  const toStep = pointer(args, 4)
  const per = arg(args, 6)
  const columnChunks = arg(args, 8)
  const mid = arg(args, 9)
  const rank = arg(args, 12)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * arg(args, 7)
  const columns = min(arg(args, 2) - column, arg(args, 7))
  let row = group * per
  const end = min(arg(args, 5), row + per)
  while (row < end) {
    const outer = row / mid
    const m = <usize>(row - outer * mid)
    let from = pointer(args, 0) + offsetAt(args + 52, rank, 2, 0, outer) + m * pointer(args, 10)
    let to = pointer(args, 1) + offsetAt(args + 52, rank, 2, 1, outer) + m * pointer(args, 11)
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
      from += pointer(args, 10)
      to += pointer(args, 11)
    }
  }
}

/** Rows of the result that one unit of `transpose` writes: 16 words are the cache line that is read. */
const BAND: i32 = 16

/**
 * to[r, c] = from[c, r] for many matrices. args: 0 from, 1 to, 2 rows R of the result, 3 columns C, 4 bytes from c to
 * c in from (r runs word by word), 5 bytes from r to r in to (c runs word by word), 6 units (bands of 16 rows), 7 units
 * per chunk, 8 rank of the outer index, 9 … its table (extent, bytes in from, bytes in to).
 */
export function transpose(args: usize, chunk: i32): void {
  const R = arg(args, 2)
  const C = arg(args, 3)
  const bands = (R + BAND - 1) / BAND
  const per = arg(args, 7)
  const rank = arg(args, 8)
  const end = min(arg(args, 6), (chunk + 1) * per)
  for (let unit = chunk * per; unit < end; ++unit) {
    const outer = unit / bands
    const r = (unit - outer * bands) * BAND
    const from = pointer(args, 0) + offsetAt(args + 36, rank, 2, 0, outer) + (<usize>r << 2)
    const to = pointer(args, 1) + offsetAt(args + 36, rank, 2, 1, outer) + <usize>r * pointer(args, 5)
    transposeBand(from, pointer(args, 4), to, pointer(args, 5), min(R - r, BAND), C)
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
