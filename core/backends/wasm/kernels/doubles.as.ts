/**
 * Linear algebra in f64, of which core/doubles.ts has the meaning in plain loops. Products are as those of gemm.as.ts:
 * both operands lie in panels of four rows, k after k, and a 4×4 tile of the result stays in registers while k runs.
 * The host packs the panels and pads all sizes to multiples of four, so no kernel knows about edges.
 */

import { Address, Flag } from './arguments.as'
import { VEC } from './simd.as'

/** Bytes of one f64. */
const WIDE: usize = 8
/** Bytes of four of them: one k of a panel. */
const STEP: usize = 32
/** Operation on the finished tile. */
const ADD: i32 = 0
const SUBTRACT: i32 = 1
/** Digits of 24 bits: products of high ones, of high with low ones, of low ones. */
const HIGH: i32 = 2
const MIDDLE: i32 = 3
const LOW: i32 = 4

@inline
function splat2(x: f64): v128 {
  return f64x2.splat(x)
}

@inline
function madd2(a: v128, b: v128, c: v128): v128 {
  // RELAXED is set by the build.
  if (RELAXED) return f64x2.relaxed_madd(a, b, c)
  else return f64x2.add(f64x2.mul(a, b), c)
}

@inline
function addTo(to: usize, v: v128): void {
  v128.store(to, f64x2.add(v128.load(to), v))
}

/** Two numbers of a tile into the result at `to` or, of exact sums, `to` and `low`. */
@inline
function keep(mode: i32, to: usize, low: usize, v: v128): void {
  if (mode == ADD || mode == HIGH) addTo(to, v)
  else if (mode == SUBTRACT) v128.store(to, f64x2.sub(v128.load(to), v))
  else if (mode == MIDDLE) {
    const carried = f64x2.nearest(f64x2.mul(v, splat2(1.0 / 16777216.0)))
    addTo(to, carried)
    addTo(low, f64x2.mul(f64x2.sub(v, f64x2.mul(carried, splat2(16777216.0))), splat2(16777216.0)))
  } else {
    const all = f64x2.add(v128.load(low), v)
    const carried = f64x2.nearest(f64x2.mul(all, splat2(1.0 / 281474976710656.0)))
    v128.store(low, f64x2.sub(all, f64x2.mul(carried, splat2(281474976710656.0))))
    addTo(to, carried)
  }
}

/** A panel of a times one of b, K long, and then, unless a1 is 0, a1 times b1 too, into a 4×4 tile. */
function tile(a: usize, b: usize, a1: usize, b1: usize, K: i32, to: usize, low: usize, stride: usize, mode: i32): void {
  let c00 = splat2(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00
  let end = a + <usize>K * STEP
  while (true) {
    while (a < end) {
      const left = v128.load(b)
      const right = v128.load(b, VEC)
      let x = v128.load64_splat(a)
      c00 = madd2(x, left, c00)
      c01 = madd2(x, right, c01)
      x = v128.load64_splat(a, 8)
      c10 = madd2(x, left, c10)
      c11 = madd2(x, right, c11)
      x = v128.load64_splat(a, 16)
      c20 = madd2(x, left, c20)
      c21 = madd2(x, right, c21)
      x = v128.load64_splat(a, 24)
      c30 = madd2(x, left, c30)
      c31 = madd2(x, right, c31)
      a += STEP
      b += STEP
    }
    if (a1 == 0) break
    a = a1
    b = b1
    end = a1 + <usize>K * STEP
    a1 = 0
  }
  keep(mode, to, low, c00)
  keep(mode, to + VEC, low + VEC, c01)
  keep(mode, to + stride, low + stride, c10)
  keep(mode, to + stride + VEC, low + stride + VEC, c11)
  keep(mode, to + 2 * stride, low + 2 * stride, c20)
  keep(mode, to + 2 * stride + VEC, low + 2 * stride + VEC, c21)
  keep(mode, to + 3 * stride, low + 3 * stride, c30)
  keep(mode, to + 3 * stride + VEC, low + 3 * stride + VEC, c31)
}

@unmanaged class AddProductArgs {
  /** Panels of four rows, K long. */
  a: Address
  b: Address
  panelsOfA: i32
  panelsOfB: i32
  /** Panels of a that one chunk takes. */
  panelsPerChunk: i32
  K: i32
  /** Bytes from row to row of c. */
  c: Address
  stride: usize
  subtract: Flag
  /** Computes only the tiles on and above the diagonal. */
  upper: Flag
}

/** c ± a bᵀ */
export function addProduct(args: AddProductArgs, chunk: i32): void {
  const K = args.K
  const panel = <usize>K * STEP
  const stride = args.stride
  const mode = args.subtract ? SUBTRACT : ADD
  const first = chunk * args.panelsPerChunk
  const end = min(first + args.panelsPerChunk, args.panelsOfA)
  for (let j = args.upper ? first : 0; j < args.panelsOfB; ++j) {
    const b = args.b + <usize>j * panel
    const last = args.upper ? min(end, j + 1) : end
    for (let i = first; i < last; ++i) {
      const to = args.c + (<usize>i << 2) * stride + (<usize>j << 5)
      tile(args.a + <usize>i * panel, b, 0, 0, K, to, 0, stride, mode)
    }
  }
}

@unmanaged class AddSquaresArgs {
  /** Panels of the high and the low digits. */
  high: Address
  low: Address
  panels: i32
  panelsPerChunk: i32
  rows: i32
  /** Rows that may be added up at a time. */
  exactRows: i32
  /** High and low sums, and the bytes from row to row. */
  highSums: Address
  lowSums: Address
  stride: usize
}

/** Adds the products of all pairs of columns, each in two digits. */
export function addSquares(args: AddSquaresArgs, chunk: i32): void {
  const K = args.rows
  const panel = <usize>K * STEP
  const stride = args.stride
  const high = args.high
  const low = args.low
  const first = chunk * args.panelsPerChunk
  for (let j = first; j < args.panels; ++j) {
    const last = min(first + args.panelsPerChunk, j + 1)
    for (let i = first; i < last; ++i) {
      const place = (<usize>i << 2) * stride + (<usize>j << 5)
      const to = args.highSums + place
      const toLow = args.lowSums + place
      for (let k = 0; k < K; k += args.exactRows) {
        const rows = min(args.exactRows, K - k)
        const from = <usize>i * panel + <usize>k * STEP
        const with_ = <usize>j * panel + <usize>k * STEP
        tile(high + from, high + with_, 0, 0, rows, to, toLow, stride, HIGH)
        tile(high + from, low + with_, low + from, high + with_, rows, to, toLow, stride, MIDDLE)
        tile(low + from, low + with_, 0, 0, rows, to, toLow, stride, LOW)
      }
    }
  }
}

@unmanaged class MultiplyArgs {
  /** (M, N), rows `stride` bytes apart. */
  A: Address
  stride: usize
  M: i32
  N: i32
  x: Address
  y: Address
  rowsPerChunk: i32
}

/** y = A x */
export function multiply(args: MultiplyArgs, chunk: i32): void {
  const stride = args.stride
  const N = args.N
  const per = args.rowsPerChunk
  const end = min(args.M, (chunk + 1) * per)
  for (let i = chunk * per; i < end; i += 4) {
    const count = end - i
    const a0 = args.A + <usize>i * stride
    const a1 = count > 1 ? a0 + stride : a0
    const a2 = count > 2 ? a0 + 2 * stride : a0
    const a3 = count > 3 ? a0 + 3 * stride : a0
    let s0 = splat2(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0
    let x = args.x
    let at: usize = 0
    const whole = <usize>(N & ~3) * WIDE
    for (; at < whole; at += STEP, x += STEP) {
      const left = v128.load(x)
      const right = v128.load(x, VEC)
      s0 = madd2(v128.load(a0 + at), left, s0)
      t0 = madd2(v128.load(a0 + at, VEC), right, t0)
      s1 = madd2(v128.load(a1 + at), left, s1)
      t1 = madd2(v128.load(a1 + at, VEC), right, t1)
      s2 = madd2(v128.load(a2 + at), left, s2)
      t2 = madd2(v128.load(a2 + at, VEC), right, t2)
      s3 = madd2(v128.load(a3 + at), left, s3)
      t3 = madd2(v128.load(a3 + at, VEC), right, t3)
    }
    s0 = f64x2.add(s0, t0)
    s1 = f64x2.add(s1, t1)
    s2 = f64x2.add(s2, t2)
    s3 = f64x2.add(s3, t3)
    let r0 = f64x2.extract_lane(s0, 0) + f64x2.extract_lane(s0, 1)
    let r1 = f64x2.extract_lane(s1, 0) + f64x2.extract_lane(s1, 1)
    let r2 = f64x2.extract_lane(s2, 0) + f64x2.extract_lane(s2, 1)
    let r3 = f64x2.extract_lane(s3, 0) + f64x2.extract_lane(s3, 1)
    for (let j = N & ~3; j < N; ++j, at += WIDE, x += WIDE) {
      const v = load<f64>(x)
      r0 += load<f64>(a0 + at) * v
      r1 += load<f64>(a1 + at) * v
      r2 += load<f64>(a2 + at) * v
      r3 += load<f64>(a3 + at) * v
    }
    const y = args.y + <usize>i * WIDE
    store<f64>(y, r0)
    if (count > 1) store<f64>(y + WIDE, r1)
    if (count > 2) store<f64>(y + 2 * WIDE, r2)
    if (count > 3) store<f64>(y + 3 * WIDE, r3)
  }
}

@unmanaged class MultiplyTransposedArgs {
  /** (M, N), rows `stride` bytes apart. */
  A: Address
  stride: usize
  M: i32
  N: i32
  x: Address
  /** (chunks, N) */
  slots: Address
  rowsPerChunk: i32
}

/** slots[chunk] = Aᵀ x over the rows of the chunk */
export function multiplyTransposed(args: MultiplyTransposedArgs, chunk: i32): void {
  const stride = args.stride
  const N = args.N
  const per = args.rowsPerChunk
  const end = min(args.M, (chunk + 1) * per)
  const slot = args.slots + <usize>chunk * <usize>N * WIDE
  memory.fill(slot, 0, <usize>N * WIDE)
  for (let i = chunk * per; i < end; i += 4) {
    const count = end - i
    const x = args.x + <usize>i * WIDE
    const x0 = load<f64>(x)
    const x1 = count > 1 ? load<f64>(x + WIDE) : 0
    const x2 = count > 2 ? load<f64>(x + 2 * WIDE) : 0
    const x3 = count > 3 ? load<f64>(x + 3 * WIDE) : 0
    const v0 = splat2(x0), v1 = splat2(x1), v2 = splat2(x2), v3 = splat2(x3)
    const a0 = args.A + <usize>i * stride
    const a1 = count > 1 ? a0 + stride : a0
    const a2 = count > 2 ? a0 + 2 * stride : a0
    const a3 = count > 3 ? a0 + 3 * stride : a0
    let at: usize = 0
    const whole = <usize>(N & ~1) * WIDE
    for (; at < whole; at += VEC) {
      let sum = v128.load(slot + at)
      sum = madd2(v128.load(a0 + at), v0, sum)
      sum = madd2(v128.load(a1 + at), v1, sum)
      sum = madd2(v128.load(a2 + at), v2, sum)
      sum = madd2(v128.load(a3 + at), v3, sum)
      v128.store(slot + at, sum)
    }
    if ((N & 1) != 0) {
      const last = load<f64>(a0 + at) * x0 + load<f64>(a1 + at) * x1 + load<f64>(a2 + at) * x2 + load<f64>(a3 + at) * x3
      store<f64>(slot + at, load<f64>(slot + at) + last)
    }
  }
}
