/**
 * Products of at most 8 rows with a weight, as of a condition with the layers that modulate: out[m, n] = Σ_k a[m, k]·w[n, k]
 * + bias[n]. Each weight is used so rarely that packing it, as gemm.as.ts does, costs more than the products. If rows of a
 * and of w both are contiguous along k (`fewRows`), four lanes of k are multiplied at a time, with 4×2 sums in registers.
 * If w is contiguous along n (`fewRowsAlong`), rows of w are added to rows of the result, four at a time. A long k is
 * divided into passes, each a sum of its own, as in gemm.as.ts.
 */

import { Address, OptionalAddress } from './arguments.as'
import { VEC, WORD, firstLanes, madd, splat, storeFirst } from './simd.as'

/** Steps of k in a pass of `fewRows`: each of four lanes sums every fourth product. */
const PASS: i32 = 2048

/** Rows of a weight that are fetched at once. */
const FETCHED: i32 = 16

/**
 * Reads one word of each cache line of `rows` rows of `bytes` bytes, `step` bytes apart, the rows in turns. A weight comes
 * from memory, and sixteen streams at once bring it sooner than the two or four of a tile.
 */
function fetch(from: usize, rows: i32, step: usize, bytes: usize): i32 {
  let seen: i32 = 0
  for (let at: usize = 0; at < bytes; at += 64) {
    let line = from + at
    for (let i = 0; i < rows; ++i, line += step) seen |= load<i32>(line)
  }
  return seen
}

/** The sums of four vectors' lanes, as one vector. */
@inline
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7))
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7))
  return f32x4.add(v128.shuffle<f64>(ab, cd, 0, 2), v128.shuffle<f64>(ab, cd, 1, 3))
}

/** Up to four floats of a vector, `step` bytes apart. */
@inline
function storeDown(to: usize, step: usize, v: v128, count: i32): void {
  store<f32>(to, f32x4.extract_lane(v, 0))
  if (count > 1) store<f32>(to + step, f32x4.extract_lane(v, 1))
  if (count > 2) store<f32>(to + 2 * step, f32x4.extract_lane(v, 2))
  if (count > 3) store<f32>(to + 3 * step, f32x4.extract_lane(v, 3))
}

/** The same of up to four floats, as a vector. */
@inline
function loadDown(from: usize, step: usize, count: i32): v128 {
  return f32x4(
    load<f32>(from),
    count > 1 ? load<f32>(from + step) : 0,
    count > 2 ? load<f32>(from + 2 * step) : 0,
    count > 3 ? load<f32>(from + 3 * step) : 0,
  )
}

/**
 * K floats of rows from a on (`rows` ≤ 4 of them, `step` bytes apart) times two rows of w (w1 = w where there is one),
 * plus two floats at `bias`, or plus what out held. bias = 0: none.
 */
function tile(
  a: usize, step: usize, w: usize, w1: usize, K: i32, rows: i32, out: usize, outStep: usize, bias: usize, two: bool,
  accumulate: bool,
): void {
  // Rows that do not exist are read from row 0 and never stored.
  let a1 = rows > 1 ? a + step : a
  let a2 = rows > 2 ? a + 2 * step : a
  let a3 = rows > 3 ? a + 3 * step : a
  let c00 = splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00
  const end = a + (<usize>(K & ~3) << 2)
  while (a < end) {
    const w0 = v128.load(w)
    const w8 = v128.load(w1)
    let x = v128.load(a)
    c00 = madd(x, w0, c00)
    c01 = madd(x, w8, c01)
    x = v128.load(a1)
    c10 = madd(x, w0, c10)
    c11 = madd(x, w8, c11)
    x = v128.load(a2)
    c20 = madd(x, w0, c20)
    c21 = madd(x, w8, c21)
    x = v128.load(a3)
    c30 = madd(x, w0, c30)
    c31 = madd(x, w8, c31)
    a += VEC
    a1 += VEC
    a2 += VEC
    a3 += VEC
    w += VEC
    w1 += VEC
  }
  if ((K & 3) != 0) {
    const mask = firstLanes(K & 3)
    const w0 = v128.and(v128.load(w), mask)
    const w8 = v128.and(v128.load(w1), mask)
    let x = v128.and(v128.load(a), mask)
    c00 = madd(x, w0, c00)
    c01 = madd(x, w8, c01)
    x = v128.and(v128.load(a1), mask)
    c10 = madd(x, w0, c10)
    c11 = madd(x, w8, c11)
    x = v128.and(v128.load(a2), mask)
    c20 = madd(x, w0, c20)
    c21 = madd(x, w8, c21)
    x = v128.and(v128.load(a3), mask)
    c30 = madd(x, w0, c30)
    c31 = madd(x, w8, c31)
  }
  let left = sums(c00, c10, c20, c30)
  if (bias != 0) left = f32x4.add(left, splat(load<f32>(bias)))
  if (accumulate) left = f32x4.add(loadDown(out, outStep, rows), left)
  storeDown(out, outStep, left, rows)
  if (!two) return
  let right = sums(c01, c11, c21, c31)
  if (bias != 0) right = f32x4.add(right, splat(load<f32>(bias, 4)))
  if (accumulate) right = f32x4.add(loadDown(out + 4, outStep, rows), right)
  storeDown(out + 4, outStep, right, rows)
}

@unmanaged class FewRowsArgs {
  /** (M, K) */
  a: Address
  /** (N, K) */
  w: Address
  /** (M, N) */
  out: Address
  bias: OptionalAddress
  M: i32
  N: i32
  K: i32
  /** An even number. */
  columnsPerChunk: i32
}

/** out = a wᵀ + bias, for some columns. */
export function fewRows(args: FewRowsArgs, chunk: i32): void {
  const M = args.M
  const N = args.N
  const K = args.K
  const step = <usize>K << 2
  const outStep = <usize>N << 2
  const end = min(N, (chunk + 1) * args.columnsPerChunk)
  const first = chunk * args.columnsPerChunk
  for (let n = first; n < end; n += 2) {
    if (((n - first) & (FETCHED - 1)) == 0) fetch(args.w + <usize>n * step, min(end - n, FETCHED), step, <usize>min(K, PASS) << 2)
    const two = n + 1 < N
    const column = <usize>n << 2
    let bias = args.bias != 0 ? args.bias + column : 0
    let k = 0
    do {
      const a = args.a + (<usize>k << 2)
      const w = args.w + <usize>n * step + (<usize>k << 2)
      const length = min(K - k, PASS)
      for (let m = 0; m < M; m += 4) {
        const out = args.out + <usize>m * outStep + column
        const rows = min(M - m, 4)
        tile(a + <usize>m * step, step, w, two ? w + step : w, length, rows, out, outStep, bias, two, k > 0)
      }
      bias = 0
      k += PASS
    } while (k < K)
  }
}

/** n floats: to += Σ x_i·b_i over four rows of b, `step` bytes apart, and four factors x_i. */
function addFour(b: usize, step: usize, x0: v128, x1: v128, x2: v128, x3: v128, to: usize, n: i32): void {
  const b1 = b + step
  const b2 = b1 + step
  const b3 = b2 + step
  let at: usize = 0
  for (; n > 0; n -= 4, at += VEC) {
    let sum = madd(x0, v128.load(b + at), v128.load(to + at))
    sum = madd(x1, v128.load(b1 + at), sum)
    sum = madd(x2, v128.load(b2 + at), sum)
    sum = madd(x3, v128.load(b3 + at), sum)
    if (n >= 4) v128.store(to + at, sum)
    else storeFirst(to + at, sum, n)
  }
}

/** n floats: to += x·b */
function addOne(b: usize, x: v128, to: usize, n: i32): void {
  for (; n > 0; n -= 4, b += VEC, to += VEC) {
    const sum = madd(x, v128.load(b), v128.load(to))
    if (n >= 4) v128.store(to, sum)
    else storeFirst(to, sum, n)
  }
}

@unmanaged class FewRowsAlongArgs {
  /** Rows of a are `rowStep` bytes apart, their elements `kStep`. */
  a: Address
  rowStep: usize
  kStep: usize
  /** Rows of b are `bStep` bytes apart, their elements side by side. */
  b: Address
  bStep: usize
  /** (passes, M, N) */
  out: Address
  /** Added in the first pass. */
  bias: OptionalAddress
  M: i32
  N: i32
  K: i32
  columnsPerChunk: i32
  chunksPerPass: i32
  /** Steps of k in a pass. */
  stepsPerPass: i32
}

/** out = a b + bias, for some columns in one pass over a part of k. */
export function fewRowsAlong(args: FewRowsAlongArgs, chunk: i32): void {
  const rowStep = args.rowStep
  const kStep = args.kStep
  const step = args.bStep
  const M = args.M
  const N = args.N
  const pass = chunk / args.chunksPerPass
  const n = (chunk - pass * args.chunksPerPass) * args.columnsPerChunk
  const columns = min(N - n, args.columnsPerChunk)
  const shift = <usize>n << 2
  const outStep = <usize>N << 2
  const out = args.out + <usize>pass * M * outStep + shift
  for (let m = 0; m < M; ++m) {
    const row = out + <usize>m * outStep
    if (args.bias != 0 && pass == 0) memory.copy(row, args.bias + shift, <usize>columns * WORD)
    else memory.fill(row, 0, <usize>columns * WORD)
  }
  let k = pass * args.stepsPerPass
  const end = min(args.K, k + args.stepsPerPass)
  for (const first = k; k + 4 <= end; k += 4) {
    const b = args.b + <usize>k * step + shift
    if (((k - first) & (FETCHED - 1)) == 0) fetch(b, min(end - k, FETCHED), step, <usize>columns << 2)
    let a = args.a + <usize>k * kStep
    let to = out
    for (let m = 0; m < M; ++m, a += rowStep, to += outStep) {
      const x0 = v128.load32_splat(a)
      const x1 = v128.load32_splat(a + kStep)
      const x2 = v128.load32_splat(a + 2 * kStep)
      addFour(b, step, x0, x1, x2, v128.load32_splat(a + 3 * kStep), to, columns)
    }
  }
  for (; k < end; ++k) {
    const b = args.b + <usize>k * step + shift
    const a = args.a + <usize>k * kStep
    for (let m = 0; m < M; ++m) {
      addOne(b, v128.load32_splat(a + <usize>m * rowStep), out + <usize>m * outStep, columns)
    }
  }
}
