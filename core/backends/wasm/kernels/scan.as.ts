/**
 * Kernels that go along an axis in order: running sums, in f64 and rounded once each, and the order that sorts a row.
 */

import { Address, Flag } from './arguments.as'
import { VEC } from './simd.as'

@unmanaged class CumsumArgs {
  /** (outer, n, inner) */
  x: Address
  y: Address
  n: i32
  inner: i32
  /** outer × column blocks */
  units: i32
  unitsPerChunk: i32
  columnsPerBlock: i32
  columnBlocks: i32
  reverse: Flag
}

@inline
function scan<T>(args: CumsumArgs, chunk: i32): void {
  const n = args.n
  const inner = args.inner
  const per = args.unitsPerChunk
  const blocks = args.columnBlocks
  const stride = <usize>inner << 2
  const step = args.reverse ? 0 - stride : stride
  const end = min(args.units, (chunk + 1) * per)
  for (let unit = chunk * per; unit < end; ++unit) {
    const outer = unit / blocks
    const column = (unit - outer * blocks) * args.columnsPerBlock
    const columns = min(inner - column, args.columnsPerBlock)
    let at = (<usize>outer * n * inner + column) << 2
    if (args.reverse) at += <usize>(n - 1) * stride
    let x = args.x + at
    let y = args.y + at
    let i = 0
    for (; i + 4 <= columns; i += 4, x += VEC, y += VEC) scanFour<T>(x, y, step, n)
    for (; i < columns; ++i, x += 4, y += 4) scanOne<T>(x, y, step, n)
  }
}

/** Running sums of four columns of n rows, `step` bytes apart. */
@inline
function scanFour<T>(x: usize, y: usize, step: usize, n: i32): void {
  if (isInteger<T>()) {
    let sums = i32x4.splat(0)
    for (let k = 0; k < n; ++k, x += step, y += step) {
      sums = i32x4.add(sums, v128.load(x))
      v128.store(y, sums)
    }
  } else {
    let low = f64x2.splat(0)
    let high = low
    for (let k = 0; k < n; ++k, x += step, y += step) {
      const v = v128.load(x)
      low = f64x2.add(low, f64x2.promote_low_f32x4(v))
      high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(v, v, 2, 3, 0, 1)))
      v128.store(y, v128.shuffle<f64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2))
    }
  }
}

@inline
function scanOne<T>(x: usize, y: usize, step: usize, n: i32): void {
  if (isInteger<T>()) {
    let sum = 0
    for (let k = 0; k < n; ++k, x += step, y += step) {
      sum += load<i32>(x)
      store<i32>(y, sum)
    }
  } else {
    let sum: f64 = 0
    for (let k = 0; k < n; ++k, x += step, y += step) {
      sum += <f64>load<f32>(x)
      store<f32>(y, <f32>sum)
    }
  }
}

export function cumsum(args: CumsumArgs, chunk: i32): void { scan<f32>(args, chunk) }
export function cumsumInts(args: CumsumArgs, chunk: i32): void { scan<i32>(args, chunk) }

/** Rows up to this length are sorted by insertion. */
const SHORT: i32 = 48
/** Counts of four digits of eight bits, in bytes. */
const COUNTS: usize = 4 * 256 * 4

@unmanaged class ArgsortArgs {
  /** (rows, n) */
  x: Address
  y: Address
  /** 12 n + 4096 bytes for each chunk. */
  scratch: Address
  n: i32
  rows: i32
  rowsPerChunk: i32
  isInt: Flag
  descending: Flag
}

/** The positions that sort each row, in a stable order. */
export function argsort(args: ArgsortArgs, chunk: i32): void {
  const n = args.n
  const per = args.rowsPerChunk
  const bytes = <usize>n << 2
  const keys = args.scratch + <usize>chunk * (3 * bytes + COUNTS)
  const flip: u32 = args.descending ? 0xffffffff : 0
  const end = min(args.rows, (chunk + 1) * per)
  for (let row = chunk * per; row < end; ++row) {
    const x = args.x + <usize>row * bytes
    const order = args.y + <usize>row * bytes
    for (let i: usize = 0; i < <usize>n; ++i) {
      const bits = load<u32>(x + (i << 2))
      store<u32>(keys + (i << 2), (args.isInt ? bits ^ 0x80000000 : floatKey(bits)) ^ flip)
      store<u32>(order + (i << 2), <u32>i)
    }
    if (n <= SHORT) insert(keys, order, n)
    else sortDigits(keys, order, keys + bytes, keys + 2 * bytes, keys + 3 * bytes, n)
  }
}

/** The bits of a float as an unsigned number of the same order: −0 as 0, and NaN as the largest. */
@inline
function floatKey(bits: u32): u32 {
  const size = bits & 0x7fffffff
  if (size > 0x7f800000) return 0xffffffff
  return bits > 0x80000000 ? ~bits : size | 0x80000000
}

/** Insertion sort of n keys and what belongs to them. */
function insert(keys: usize, order: usize, n: i32): void {
  const end = <usize>n << 2
  for (let i: usize = 4; i < end; i += 4) {
    const key = load<u32>(keys + i)
    const place = load<u32>(order + i)
    let j = i
    for (; j > 0 && load<u32>(keys + j - 4) > key; j -= 4) {
      store<u32>(keys + j, load<u32>(keys + j - 4))
      store<u32>(order + j, load<u32>(order + j - 4))
    }
    store<u32>(keys + j, key)
    store<u32>(order + j, place)
  }
}

/** Radix sort by four digits, the lowest first. A digit that all keys share needs no pass. */
function sortDigits(keys: usize, order: usize, otherKeys: usize, otherOrder: usize, counts: usize, n: i32): void {
  const end = <usize>n << 2
  memory.fill(counts, 0, COUNTS)
  for (let i: usize = 0; i < end; i += 4) {
    const key = load<u32>(keys + i)
    count(counts, key & 255)
    count(counts + 1024, (key >>> 8) & 255)
    count(counts + 2048, (key >>> 16) & 255)
    count(counts + 3072, key >>> 24)
  }
  const result = order
  for (let digit: u32 = 0; digit < 4; ++digit) {
    const places = counts + (digit << 10)
    const shift = digit << 3
    if (load<u32>(places + (((load<u32>(keys) >>> shift) & 255) << 2)) == <u32>n) continue
    // Counts become the first places of each digit, in bytes.
    let total: u32 = 0
    for (let k: usize = 0; k < 1024; k += 4) {
      const own = load<u32>(places + k)
      store<u32>(places + k, total)
      total += own << 2
    }
    for (let i: usize = 0; i < end; i += 4) {
      const key = load<u32>(keys + i)
      const at = places + (((key >>> shift) & 255) << 2)
      const to = load<u32>(at)
      store<u32>(at, to + 4)
      store<u32>(otherKeys + to, key)
      store<u32>(otherOrder + to, load<u32>(order + i))
    }
    const k = keys
    keys = otherKeys
    otherKeys = k
    const o = order
    order = otherOrder
    otherOrder = o
  }
  if (order != result) memory.copy(result, order, end)
}

@inline
function count(counts: usize, digit: u32): void {
  const at = counts + (digit << 2)
  store<u32>(at, load<u32>(at) + 1)
}
