/**
 * Sum, maximum and minimum. The host collapses axes until one of two cases is left: a row becomes one number, or R rows
 * become one row. Long ones are cut in segments, whose results are reduced again in a fixed order. Sums of rows run in
 * f32 over 1,024 elements in 16 lanes and continue in f64. Sums of columns are pairwise over eight rows. A decorator
 * names the loops that the build compiles and exports with a function: `@rows class Sum` is the kernel `rowsSum`.
 */

import { Address } from './arguments.as'
import { VEC, firstLanes, madd, splat, storeFirst, sumLanes } from './simd.as'
import { select } from './math.as'

/** Elements summed in f32 before f64 takes over. */
const BLOCK: i32 = 1024

/** Σ x of n floats. */
export function rowSum(x: usize, n: i32): f64 {
  let total: f64 = 0
  while (n >= 16) {
    const block = min(n & ~15, BLOCK)
    const end = x + (<usize>block << 2)
    let a = splat(0), b = a, c = a, d = a
    for (; x < end; x += 4 * VEC) {
      a = f32x4.add(a, v128.load(x))
      b = f32x4.add(b, v128.load(x, VEC))
      c = f32x4.add(c, v128.load(x, 2 * VEC))
      d = f32x4.add(d, v128.load(x, 3 * VEC))
    }
    total += <f64>sumLanes(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)))
    n -= block
  }
  let rest = splat(0)
  for (; n >= 4; n -= 4, x += VEC) rest = f32x4.add(rest, v128.load(x))
  if (n > 0) rest = f32x4.add(rest, v128.and(v128.load(x), firstLanes(n)))
  return total + <f64>sumLanes(rest)
}

/** Σ x² of n floats. Quarters are read side by side: four streams of memory are faster than one. */
export function rowSquares(x: usize, n: i32): f64 {
  let total: f64 = 0
  const quarter = (n >> 2) & ~3
  const far = <usize>quarter << 2
  for (let left = quarter; left > 0; left -= BLOCK / 2) {
    let a = splat(0), b = a, c = a, d = a
    for (const end = x + (<usize>min(left, BLOCK / 2) << 2); x < end; x += VEC) {
      const v0 = v128.load(x)
      const v1 = v128.load(x + far)
      const v2 = v128.load(x + 2 * far)
      const v3 = v128.load(x + 3 * far)
      a = madd(v0, v0, a)
      b = madd(v1, v1, b)
      c = madd(v2, v2, c)
      d = madd(v3, v3, d)
    }
    total += <f64>sumLanes(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)))
  }
  x += 3 * far
  n -= 4 * quarter
  while (n > 0) {
    const block = min(n, BLOCK)
    const end = x + (<usize>(block & ~7) << 2)
    let a = splat(0), b = a
    for (; x < end; x += 2 * VEC) {
      const v = v128.load(x)
      const w = v128.load(x, VEC)
      a = f32x4.add(a, f32x4.mul(v, v))
      b = f32x4.add(b, f32x4.mul(w, w))
    }
    for (let rest = block & 7; rest > 0; rest -= 4, x += VEC) {
      const v = v128.and(v128.load(x), firstLanes(rest))
      a = f32x4.add(a, f32x4.mul(v, v))
    }
    total += <f64>sumLanes(f32x4.add(a, b))
    n -= block
  }
  return total
}

@rows @columns @final @unmanaged export class Sum {
  @inline of(a: v128, b: v128): v128 { return f32x4.add(a, b) }
  @inline row(x: usize, n: i32): f32 { return <f32>rowSum(x, n) }
}
@rows @columns @final @unmanaged export class Max {
  @inline of(a: v128, b: v128): v128 { return f32x4.max(a, b) }
  @inline row(x: usize, n: i32): f32 { return extreme<Max>(x, n, splat(-Infinity)) }
}
@rows @columns @final @unmanaged export class Min {
  @inline of(a: v128, b: v128): v128 { return f32x4.min(a, b) }
  @inline row(x: usize, n: i32): f32 { return extreme<Min>(x, n, splat(Infinity)) }
}

/** Returns the largest or smallest of n floats; `none` for an empty row. */
function extreme<F>(x: usize, n: i32, none: v128): f32 {
  let a = none, b = none
  for (; n >= 8; n -= 8, x += 2 * VEC) {
    a = changetype<F>(0).of(a, v128.load(x))
    b = changetype<F>(0).of(b, v128.load(x, VEC))
  }
  for (; n > 0; n -= 4, x += VEC) a = changetype<F>(0).of(a, select(firstLanes(n), v128.load(x), none))
  a = changetype<F>(0).of(a, b)
  a = changetype<F>(0).of(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1))
  return f32x4.extract_lane(changetype<F>(0).of(a, v128.shuffle<f32>(a, a, 1, 0, 3, 2)), 0)
}

@unmanaged export class RowsArgs {
  x: Address
  y: Address
  /** Elements of a row. */
  R: i32
  /** Segments of all rows. */
  segments: i32
  segmentsPerChunk: i32
  /** Elements of a segment. */
  segmentLength: i32
  segmentsPerRow: i32
}

/** Rows of R floats → one float per segment. */
@inline
export function rows<F>(args: RowsArgs, chunk: i32): void {
  const R = args.R
  const per = args.segmentsPerChunk
  const length = args.segmentLength
  const segments = args.segmentsPerRow
  const end = min(args.segments, (chunk + 1) * per)
  for (let i = chunk * per; i < end; ++i) {
    const row = i / segments
    const start = (i - row * segments) * length
    const from = args.x + ((<usize>row * R + start) << 2)
    store<f32>(args.y + (<usize>i << 2), changetype<F>(0).row(from, min(R - start, length)))
  }
}

/** `count` rows `step` bytes apart → one row at y, n floats; pairwise over eight rows. */
function joinRows<F>(x: usize, step: usize, count: i32, y: usize, n: i32): void {
  const f = changetype<F>(0)
  for (let i = 0; i < n; i += 4, x += VEC, y += VEC) {
    let sum = v128.load(x)
    let at = x + step
    let left = count - 1
    for (; left >= 8; left -= 8, at += 8 * step) {
      const two = f.of(v128.load(at), v128.load(at + step))
      const four = f.of(two, f.of(v128.load(at + 2 * step), v128.load(at + 3 * step)))
      const six = f.of(v128.load(at + 4 * step), v128.load(at + 5 * step))
      sum = f.of(sum, f.of(four, f.of(six, f.of(v128.load(at + 6 * step), v128.load(at + 7 * step)))))
    }
    for (; left > 0; --left, at += step) sum = f.of(sum, v128.load(at))
    if (i + 4 <= n) v128.store(y, sum)
    else storeFirst(y, sum, n - i)
  }
}

@unmanaged export class ColumnsArgs {
  x: Address
  y: Address
  R: i32
  inner: i32
  /** outer × segments × column blocks */
  units: i32
  unitsPerChunk: i32
  rowsPerSegment: i32
  segments: i32
  columnsPerBlock: i32
  columnBlocks: i32
}

/** (outer, R, inner) → (outer, segments, inner) */
@inline
export function columns<F>(args: ColumnsArgs, chunk: i32): void {
  const R = args.R
  const inner = args.inner
  const per = args.unitsPerChunk
  const segmentRows = args.rowsPerSegment
  const segments = args.segments
  const blocks = args.columnBlocks
  const end = min(args.units, (chunk + 1) * per)
  for (let unit = chunk * per; unit < end; ++unit) {
    const slot = unit / blocks
    const column = (unit - slot * blocks) * args.columnsPerBlock
    const outer = slot / segments
    const r = (slot - outer * segments) * segmentRows
    const x = args.x + (((<usize>outer * R + r) * inner + column) << 2)
    const y = args.y + ((<usize>slot * inner + column) << 2)
    joinRows<F>(x, <usize>inner << 2, min(R - r, segmentRows), y, min(inner - column, args.columnsPerBlock))
  }
}
