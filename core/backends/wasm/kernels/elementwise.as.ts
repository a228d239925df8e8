/**
 * Elementwise functions of one, two or three operands, the latter with broadcasting. Each function is a class of one
 * inlined method; its decorator, `@unary` or `@binary`, names the loop that the build compiles and exports with it.
 * Broadcasting costs nothing per element: the host collapses shapes into rows in which an operand has step 1 or 0.
 * Blocks are multiples of 64 bytes, so flat kernels write whole vectors.
 */

import { Address, Flag, Table, tableOf } from './arguments.as'
import { VEC, madd, splat, storeFirst } from './simd.as'
import {
  atan2, erf, exp, expm1, finite, geluExp, geluSlope, log, log1p, normalCdf, normalDensity, ones, select, sigmoid, softplus, tanh,
} from './math.as'
import { sine } from './sine.as'
import { offsetAt } from './walk.as'

@unmanaged export class UnaryArgs {
  x: Address
  y: Address
  /** Vectors of four elements. */
  vectors: i32
  vectorsPerChunk: i32
  /** Parameters of the function. */
  p: f32
  q: f32
}

/** y = f(x) */
@inline
export function unary<F>(args: UnaryArgs, chunk: i32): void {
  const per = args.vectorsPerChunk
  const first = <usize>chunk * per
  const shift = first * VEC
  const p = splat(args.p)
  const q = splat(args.q)
  let x = args.x + shift
  let y = args.y + shift
  const vectors = min(args.vectors - <i32>first, per)
  // Two places at once: the processor fetches ahead within a page only, so it waits at the start of each page of a stream.
  const half = <usize>(vectors >> 1) * VEC
  const end = y + half
  while (y < end) {
    v128.store(y, changetype<F>(0).of(v128.load(x), p, q))
    v128.store(y + half, changetype<F>(0).of(v128.load(x + half), p, q))
    x += VEC
    y += VEC
  }
  if ((vectors & 1) != 0) v128.store(y + half, changetype<F>(0).of(v128.load(x + half), p, q))
}

@unary @final @unmanaged export class Neg { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.neg(x) } }
@unary @final @unmanaged export class Abs { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.abs(x) } }
@unary @final @unmanaged export class Floor { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.floor(x) } }
@unary @final @unmanaged export class Round { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.nearest(x) } }
@unary @final @unmanaged export class Square { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, x) } }
@unary @final @unmanaged export class Sqrt { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.sqrt(x) } }
@unary @final @unmanaged export class Rsqrt { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(splat(1), f32x4.sqrt(x)) } }
@unary @final @unmanaged export class Reciprocal { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(splat(1), x) } }
@unary @final @unmanaged export class Exp { @inline of(x: v128, p: v128, q: v128): v128 { return exp(x) } }
@unary @final @unmanaged export class Expm1 { @inline of(x: v128, p: v128, q: v128): v128 { return expm1(x) } }
@unary @final @unmanaged export class Log { @inline of(x: v128, p: v128, q: v128): v128 { return log(x) } }
@unary @final @unmanaged export class Log1p { @inline of(x: v128, p: v128, q: v128): v128 { return log1p(x) } }
@unary @final @unmanaged export class Sin { @inline of(x: v128, p: v128, q: v128): v128 { return sine(x, 0) } }
@unary @final @unmanaged export class Cos { @inline of(x: v128, p: v128, q: v128): v128 { return sine(x, 1) } }
@unary @final @unmanaged export class Tanh { @inline of(x: v128, p: v128, q: v128): v128 { return tanh(x) } }
@unary @final @unmanaged export class Erf { @inline of(x: v128, p: v128, q: v128): v128 { return erf(x) } }
@unary @final @unmanaged export class Sigmoid { @inline of(x: v128, p: v128, q: v128): v128 { return sigmoid(x) } }
@unary @final @unmanaged export class Softplus { @inline of(x: v128, p: v128, q: v128): v128 { return softplus(x) } }
@unary @final @unmanaged export class Relu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.max(x, splat(0)) } }
@unary @final @unmanaged export class Silu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, sigmoid(x)) } }
@unary @final @unmanaged export class Gelu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, normalCdf(x)) } }
@unary @final @unmanaged export class Affine { @inline of(x: v128, p: v128, q: v128): v128 { return madd(x, p, q) } }
@unary @final @unmanaged export class Clamp { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.min(f32x4.max(x, p), q) } }
/** Casts. */
@unary @final @unmanaged export class ToFloat { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.convert_i32x4_s(x) } }
@unary @final @unmanaged export class ToInt { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.trunc_sat_f32x4_s(x) } }
/** ±1 with the sign of x; 0, −0 and NaN as they are. */
@unary @final @unmanaged export class Sign {
  @inline of(x: v128, p: v128, q: v128): v128 {
    const one = v128.or(splat(1), v128.and(x, splat(-0.0)))
    return select(f32x4.gt(f32x4.abs(x), splat(0)), one, x)
  }
}
/** x·s, s = 1/(1 + e^(−2u)) */
@unary @final @unmanaged export class GeluTanh {
  @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(x, f32x4.add(ones(), geluExp(x, f32x4.mul(x, x)))) }
}
@unary @final @unmanaged export class IsFinite {
  @inline of(x: v128, p: v128, q: v128): v128 { return v128.and(f32x4.lt(f32x4.abs(x), splat(Infinity)), splat(1)) }
}


/** x^p, in f64 and one at a time: rare, and a product of logarithm and exponent in f32 would lose digits. */
export function unaryPow(args: UnaryArgs, chunk: i32): void {
  const per = args.vectorsPerChunk << 2
  const first = chunk * per
  const p = <f64>args.p
  const x = args.x
  const y = args.y
  const end = min(args.vectors << 2, first + per)
  for (let i = <usize>first << 2; i < <usize>end << 2; i += 4)
    store<f32>(y + i, <f32>Math.pow(<f64>load<f32>(x + i), p))
}

@unmanaged class FillArgs {
  y: Address
  vectors: i32
  vectorsPerChunk: i32
  value: f32
}

/** Every element of y becomes `value`. */
export function fill(args: FillArgs, chunk: i32): void {
  fillWords(args.y, args.vectors, args.vectorsPerChunk, chunk, splat(args.value))
}

@unmanaged class FillIntsArgs {
  y: Address
  vectors: i32
  vectorsPerChunk: i32
  value: i32
}

/** The same for integers. */
export function fillInts(args: FillIntsArgs, chunk: i32): void {
  fillWords(args.y, args.vectors, args.vectorsPerChunk, chunk, i32x4.splat(args.value))
}

@inline
function fillWords(y: usize, vectors: i32, per: i32, chunk: i32, word: v128): void {
  const first = <usize>chunk * per
  y += first * VEC
  const end = y + <usize>min(vectors - <i32>first, per) * VEC
  for (; y < end; y += VEC) v128.store(y, word)
}

/** Elements of a row from which two places are taken at once. */
const FAR: i32 = 4096

/** One row of n results; an operand whose step is 0 stands still. */
function zipRow<F>(a: usize, aStep: i32, b: usize, bStep: i32, y: usize, n: i32): void {
  let i = 0
  if (aStep & bStep) {
    if (n >= FAR) {
      // Two places at once, as in unary.
      const half = (n >> 3) << 2
      const gap = <usize>half << 2
      for (; i < half; i += 4, a += VEC, b += VEC, y += VEC) {
        v128.store(y, changetype<F>(0).of(v128.load(a), v128.load(b)))
        v128.store(y + gap, changetype<F>(0).of(v128.load(a + gap), v128.load(b + gap)))
      }
      i = 2 * half
      a += gap
      b += gap
      y += gap
    }
    for (; i + 4 <= n; i += 4, a += VEC, b += VEC, y += VEC) {
      v128.store(y, changetype<F>(0).of(v128.load(a), v128.load(b)))
    }
    if (i == n) return
  }
  const stillA = v128.load32_splat(a)
  const stillB = v128.load32_splat(b)
  for (; i < n; i += 4, a += VEC, b += VEC, y += VEC) {
    const r = changetype<F>(0).of(aStep ? v128.load(a) : stillA, bStep ? v128.load(b) : stillB)
    if (i + 4 <= n) v128.store(y, r)
    else storeFirst(y, r, n - i)
  }
}

@unmanaged export class BinaryArgs {
  a: Address
  b: Address
  out: Address
  /** Elements of a row; along a row, an operand has step 1 or 0. */
  length: i32
  aStep: i32
  bStep: i32
  rows: i32
  rowsPerChunk: i32
  columnsPerChunk: i32
  columnChunks: i32
  /** Rows per outer index, and the bytes from row to row in a and b. */
  rowsPerOuter: i32
  aRowStep: usize
  bRowStep: usize
  /** Axes of the outer index: extent, bytes in a, bytes in b. */
  rank: i32
  table: Table
}

/** out = f(a, b) with broadcasting. */
@inline
export function binary<F>(args: BinaryArgs, chunk: i32): void {
  const length = args.length
  const aStep = args.aStep
  const bStep = args.bStep
  const columnChunks = args.columnChunks
  const mid = args.rowsPerOuter
  const rank = args.rank
  const table = tableOf(args)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * args.columnsPerChunk
  const columns = min(length - column, args.columnsPerChunk)
  let row = group * args.rowsPerChunk
  const end = min(args.rows, row + args.rowsPerChunk)
  while (row < end) {
    const outer = row / mid
    const m = row - outer * mid
    let a = args.a + offsetAt(table, rank, 2, 0, outer) + <usize>m * args.aRowStep
    let b = args.b + offsetAt(table, rank, 2, 1, outer) + <usize>m * args.bRowStep
    a += <usize>(column * aStep) << 2
    b += <usize>(column * bStep) << 2
    let y = args.out + ((<usize>row * length + column) << 2)
    const stop = min(end, row + mid - m)
    for (; row < stop; ++row) {
      zipRow<F>(a, aStep, b, bStep, y, columns)
      a += args.aRowStep
      b += args.bRowStep
      y += <usize>length << 2
    }
  }
}

/** 1 where the mask is set, else 0. */
@inline
function one(mask: v128): v128 {
  return v128.and(mask, splat(1))
}

@binary @final @unmanaged export class Add { @inline of(a: v128, b: v128): v128 { return f32x4.add(a, b) } }
@binary @final @unmanaged export class Sub { @inline of(a: v128, b: v128): v128 { return f32x4.sub(a, b) } }
@binary @final @unmanaged export class Mul { @inline of(a: v128, b: v128): v128 { return f32x4.mul(a, b) } }
@binary @final @unmanaged export class Div { @inline of(a: v128, b: v128): v128 { return f32x4.div(a, b) } }
@binary @final @unmanaged export class Maximum { @inline of(a: v128, b: v128): v128 { return f32x4.max(a, b) } }
@binary @final @unmanaged export class Minimum { @inline of(a: v128, b: v128): v128 { return f32x4.min(a, b) } }
@binary @final @unmanaged export class Equal { @inline of(a: v128, b: v128): v128 { return one(f32x4.eq(a, b)) } }
@binary @final @unmanaged export class Less { @inline of(a: v128, b: v128): v128 { return one(f32x4.lt(a, b)) } }
@binary @final @unmanaged export class LessEqual { @inline of(a: v128, b: v128): v128 { return one(f32x4.le(a, b)) } }
/** g (σ + xσ(1 − σ)) */
@binary @final @unmanaged export class SiluGrad {
  @inline of(g: v128, x: v128): v128 {
    const s = sigmoid(x)
    return f32x4.mul(g, madd(f32x4.mul(x, s), f32x4.sub(ones(), s), s))
  }
}
/** g (Φ + xφ) */
@binary @final @unmanaged export class GeluGrad {
  @inline of(g: v128, x: v128): v128 { return f32x4.mul(g, madd(x, normalDensity(x), normalCdf(x))) }
}
/** g (s + x·s(1 − s)·2u′), 1 − s = s·e^(−2u); in an order in which 0 meets an infinity only where x is one. */
@binary @final @unmanaged export class GeluTanhGrad {
  @inline of(g: v128, x: v128): v128 {
    const square = f32x4.mul(x, x)
    const e = geluExp(x, square)
    const s = f32x4.div(ones(), f32x4.add(ones(), e))
    return f32x4.mul(f32x4.mul(g, s), madd(f32x4.mul(x, f32x4.mul(s, finite(e))), geluSlope(square), ones()))
  }
}


/** a^b in f64, one at a time; see unaryPow. */
@binary @final @unmanaged export class Pow {
  @inline of(a: v128, b: v128): v128 {
    return f32x4(
      power(f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0)),
      power(f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1)),
      power(f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2)),
      power(f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3)),
    )
  }
}

function power(a: f32, b: f32): f32 {
  return <f32>Math.pow(<f64>a, <f64>b)
}

/** a − b⌊a/b⌋, rounded once, one element at a time. */
@binary @final @unmanaged export class Remainder {
  @inline of(a: v128, b: v128): v128 {
    return f32x4(
      remainder(f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0)),
      remainder(f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1)),
      remainder(f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2)),
      remainder(f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3)),
    )
  }
}

function remainder(a: f32, b: f32): f32 {
  const r = a % b
  return r != 0 && r < 0 != b < 0 ? r + b : r
}

@binary @final @unmanaged export class Atan2 { @inline of(y: v128, x: v128): v128 { return atan2(y, x) } }


@unmanaged class WhereArgs {
  condition: Address
  a: Address
  b: Address
  out: Address
  /** Elements of a row; along a row, an operand has step 1 or 0. */
  length: i32
  conditionStep: i32
  aStep: i32
  bStep: i32
  rows: i32
  rowsPerChunk: i32
  columnsPerChunk: i32
  columnChunks: i32
  isConditionInt: Flag
  /** Axes of the rows: extent, bytes in condition, bytes in a, bytes in b. */
  rank: i32
  table: Table
}

/** out = condition ≠ 0 ? a : b */
export function where(args: WhereArgs, chunk: i32): void {
  const length = args.length
  const per = args.rowsPerChunk
  const columnChunks = args.columnChunks
  const rank = args.rank
  const table = tableOf(args)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * args.columnsPerChunk
  const columns = min(length - column, args.columnsPerChunk)
  const cStep = args.conditionStep, aStep = args.aStep, bStep = args.bStep
  const isInt = args.isConditionInt
  const end = min(args.rows, (group + 1) * per)
  for (let row = group * per; row < end; ++row) {
    let c = args.condition + offsetAt(table, rank, 3, 0, row) + (<usize>(column * cStep) << 2)
    let a = args.a + offsetAt(table, rank, 3, 1, row) + (<usize>(column * aStep) << 2)
    let b = args.b + offsetAt(table, rank, 3, 2, row) + (<usize>(column * bStep) << 2)
    let y = args.out + ((<usize>row * length + column) << 2)
    const stillC = v128.load32_splat(c), stillA = v128.load32_splat(a), stillB = v128.load32_splat(b)
    for (let i = 0; i < columns; i += 4, c += VEC, a += VEC, b += VEC, y += VEC) {
      const condition = cStep ? v128.load(c) : stillC
      const mask = isInt ? i32x4.ne(condition, i32x4.splat(0)) : f32x4.ne(condition, splat(0))
      const r = select(mask, aStep ? v128.load(a) : stillA, bStep ? v128.load(b) : stillB)
      if (i + 4 <= columns) v128.store(y, r)
      else storeFirst(y, r, columns - i)
    }
  }
}
