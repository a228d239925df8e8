/**
 * One value in, one value out, and two or three in, one out with broadcasting. Each function is a class with one
 * inlined method, so that one loop serves all: `map` for flat arrays, `zip` for broadcast operands. Broadcasting costs
 * nothing per element: the host folds shapes into rows in which an operand either runs along or stands still.
 * Blocks are multiples of 64 bytes, so flat kernels write whole vectors. Next: reduce.as.ts.
 */

import { VEC, arg, madd, number, pointer, splat, storeFirst } from './simd.as'
import {
  erf, exp, finite, geluExp, geluSlope, log, normalCdf, normalDensity, ones, select, sigmoid, softplus, tanh,
} from './math.as'
import { sine } from './sine.as'
import { offsetAt } from './walk.as'

/** args: 0 x, 1 y, 2 vectors, 3 vectors per chunk, 4 p, 5 q */
@inline
function map<F>(args: usize, chunk: i32): void {
  const per = arg(args, 3)
  const first = <usize>chunk * per
  const shift = first * VEC
  const p = v128.load32_splat(args, 16)
  const q = v128.load32_splat(args, 20)
  let x = pointer(args, 0) + shift
  let y = pointer(args, 1) + shift
  const end = y + <usize>min(arg(args, 2) - <i32>first, per) * VEC
  while (y < end) {
    v128.store(y, changetype<F>(0).of(v128.load(x), p, q))
    x += VEC
    y += VEC
  }
}

@final @unmanaged class Neg { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.neg(x) } }
@final @unmanaged class Abs { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.abs(x) } }
@final @unmanaged class Floor { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.floor(x) } }
@final @unmanaged class Square { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, x) } }
@final @unmanaged class Sqrt { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.sqrt(x) } }
@final @unmanaged class Rsqrt { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(splat(1), f32x4.sqrt(x)) } }
@final @unmanaged class Reciprocal { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(splat(1), x) } }
@final @unmanaged class Exp { @inline of(x: v128, p: v128, q: v128): v128 { return exp(x) } }
@final @unmanaged class Log { @inline of(x: v128, p: v128, q: v128): v128 { return log(x) } }
@final @unmanaged class Sin { @inline of(x: v128, p: v128, q: v128): v128 { return sine(x, 0) } }
@final @unmanaged class Cos { @inline of(x: v128, p: v128, q: v128): v128 { return sine(x, 1) } }
@final @unmanaged class Tanh { @inline of(x: v128, p: v128, q: v128): v128 { return tanh(x) } }
@final @unmanaged class Erf { @inline of(x: v128, p: v128, q: v128): v128 { return erf(x) } }
@final @unmanaged class Sigmoid { @inline of(x: v128, p: v128, q: v128): v128 { return sigmoid(x) } }
@final @unmanaged class Softplus { @inline of(x: v128, p: v128, q: v128): v128 { return softplus(x) } }
@final @unmanaged class Relu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.max(x, splat(0)) } }
@final @unmanaged class Silu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, sigmoid(x)) } }
@final @unmanaged class Gelu { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.mul(x, normalCdf(x)) } }
@final @unmanaged class Affine { @inline of(x: v128, p: v128, q: v128): v128 { return madd(x, p, q) } }
@final @unmanaged class Clamp { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.min(f32x4.max(x, p), q) } }
@final @unmanaged class AffineInt { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.add(i32x4.mul(x, p), q) } }
@final @unmanaged class NegInt { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.neg(x) } }
@final @unmanaged class ToFloat { @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.convert_i32x4_s(x) } }
@final @unmanaged class ToInt { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.trunc_sat_f32x4_s(x) } }
/** ±1 with the sign of x; 0, −0 and NaN as they are. */
@final @unmanaged class Sign {
  @inline of(x: v128, p: v128, q: v128): v128 {
    const one = v128.or(splat(1), v128.and(x, splat(-0.0)))
    return select(f32x4.gt(f32x4.abs(x), splat(0)), one, x)
  }
}
/** x·s, s = 1/(1 + e^(−2u)) */
@final @unmanaged class GeluTanh {
  @inline of(x: v128, p: v128, q: v128): v128 { return f32x4.div(x, f32x4.add(ones(), geluExp(x))) }
}
@final @unmanaged class IsFinite {
  @inline of(x: v128, p: v128, q: v128): v128 { return v128.and(f32x4.lt(f32x4.abs(x), splat(Infinity)), splat(1)) }
}

export function unaryNeg(args: usize, chunk: i32): void { map<Neg>(args, chunk) }
export function unaryAbs(args: usize, chunk: i32): void { map<Abs>(args, chunk) }
export function unarySign(args: usize, chunk: i32): void { map<Sign>(args, chunk) }
export function unaryFloor(args: usize, chunk: i32): void { map<Floor>(args, chunk) }
export function unarySquare(args: usize, chunk: i32): void { map<Square>(args, chunk) }
export function unarySqrt(args: usize, chunk: i32): void { map<Sqrt>(args, chunk) }
export function unaryRsqrt(args: usize, chunk: i32): void { map<Rsqrt>(args, chunk) }
export function unaryReciprocal(args: usize, chunk: i32): void { map<Reciprocal>(args, chunk) }
export function unaryExp(args: usize, chunk: i32): void { map<Exp>(args, chunk) }
export function unaryLog(args: usize, chunk: i32): void { map<Log>(args, chunk) }
export function unarySin(args: usize, chunk: i32): void { map<Sin>(args, chunk) }
export function unaryCos(args: usize, chunk: i32): void { map<Cos>(args, chunk) }
export function unaryTanh(args: usize, chunk: i32): void { map<Tanh>(args, chunk) }
export function unaryErf(args: usize, chunk: i32): void { map<Erf>(args, chunk) }
export function unarySigmoid(args: usize, chunk: i32): void { map<Sigmoid>(args, chunk) }
export function unarySoftplus(args: usize, chunk: i32): void { map<Softplus>(args, chunk) }
export function unaryRelu(args: usize, chunk: i32): void { map<Relu>(args, chunk) }
export function unarySilu(args: usize, chunk: i32): void { map<Silu>(args, chunk) }
export function unaryGelu(args: usize, chunk: i32): void { map<Gelu>(args, chunk) }
export function unaryGeluTanh(args: usize, chunk: i32): void { map<GeluTanh>(args, chunk) }
export function unaryAffine(args: usize, chunk: i32): void { map<Affine>(args, chunk) }
export function unaryClamp(args: usize, chunk: i32): void { map<Clamp>(args, chunk) }
export function unaryIsFinite(args: usize, chunk: i32): void { map<IsFinite>(args, chunk) }
export function unaryAffineInt(args: usize, chunk: i32): void { map<AffineInt>(args, chunk) }
export function unaryNegInt(args: usize, chunk: i32): void { map<NegInt>(args, chunk) }
export function castToFloat(args: usize, chunk: i32): void { map<ToFloat>(args, chunk) }
export function castToInt(args: usize, chunk: i32): void { map<ToInt>(args, chunk) }

/** x^p, in f64 and one at a time: rare, and a product of logarithm and exponent in f32 would lose digits. */
export function unaryPow(args: usize, chunk: i32): void {
  const per = arg(args, 3) << 2
  const first = chunk * per
  const p = <f64>number(args, 4)
  const x = pointer(args, 0)
  const y = pointer(args, 1)
  const end = min(arg(args, 2) << 2, first + per)
  for (let i = <usize>first << 2; i < <usize>end << 2; i += 4)
    store<f32>(y + i, <f32>Math.pow(<f64>load<f32>(x + i), p))
}

/** Every word of y. args: 0 y, 1 vectors, 2 vectors per chunk, 3 word */
export function fill(args: usize, chunk: i32): void {
  const per = arg(args, 2)
  const first = <usize>chunk * per
  const word = v128.load32_splat(args, 12)
  let y = pointer(args, 0) + first * VEC
  const end = y + <usize>min(arg(args, 1) - <i32>first, per) * VEC
  for (; y < end; y += VEC) v128.store(y, word)
}

/** One row of n results; an operand whose step is 0 stands still. */
function zipRow<F>(a: usize, aStep: i32, b: usize, bStep: i32, y: usize, n: i32): void {
  let i = 0
  if (aStep & bStep) {
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

/**
 * args: 0 a, 1 b, 2 out, 3 row length, 4 aStep, 5 bStep (0 or 1), 6 rows, 7 rows per chunk, 8 columns per chunk,
 * 9 column chunks, 10 rows per outer index, 11 bytes from row to row in a, 12 in b, 13 rank of the outer index,
 * 14 … its table (extent, bytes in a, bytes in b).
 */
@inline
function zip<F>(args: usize, chunk: i32): void {
  const length = arg(args, 3)
  const aStep = arg(args, 4)
  const bStep = arg(args, 5)
  const per = arg(args, 7)
  const columnChunks = arg(args, 9)
  const mid = arg(args, 10)
  const rank = arg(args, 13)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * arg(args, 8)
  const columns = min(length - column, arg(args, 8))
  let row = group * per
  const end = min(arg(args, 6), row + per)
  while (row < end) {
    const outer = row / mid
    const m = row - outer * mid
    let a = pointer(args, 0) + offsetAt(args + 56, rank, 2, 0, outer) + <usize>m * pointer(args, 11)
    let b = pointer(args, 1) + offsetAt(args + 56, rank, 2, 1, outer) + <usize>m * pointer(args, 12)
    a += <usize>(column * aStep) << 2
    b += <usize>(column * bStep) << 2
    let y = pointer(args, 2) + ((<usize>row * length + column) << 2)
    const stop = min(end, row + mid - m)
    for (; row < stop; ++row) {
      zipRow<F>(a, aStep, b, bStep, y, columns)
      a += pointer(args, 11)
      b += pointer(args, 12)
      y += <usize>length << 2
    }
  }
}

/** 1 where the mask is set, else 0. */
@inline
function one(mask: v128): v128 {
  return v128.and(mask, splat(1))
}

@final @unmanaged class Add { @inline of(a: v128, b: v128): v128 { return f32x4.add(a, b) } }
@final @unmanaged class Sub { @inline of(a: v128, b: v128): v128 { return f32x4.sub(a, b) } }
@final @unmanaged class Mul { @inline of(a: v128, b: v128): v128 { return f32x4.mul(a, b) } }
@final @unmanaged class Div { @inline of(a: v128, b: v128): v128 { return f32x4.div(a, b) } }
@final @unmanaged class Maximum { @inline of(a: v128, b: v128): v128 { return f32x4.max(a, b) } }
@final @unmanaged class Minimum { @inline of(a: v128, b: v128): v128 { return f32x4.min(a, b) } }
@final @unmanaged class Equal { @inline of(a: v128, b: v128): v128 { return one(f32x4.eq(a, b)) } }
@final @unmanaged class Less { @inline of(a: v128, b: v128): v128 { return one(f32x4.lt(a, b)) } }
@final @unmanaged class LessEqual { @inline of(a: v128, b: v128): v128 { return one(f32x4.le(a, b)) } }
@final @unmanaged class AddInt { @inline of(a: v128, b: v128): v128 { return i32x4.add(a, b) } }
@final @unmanaged class SubInt { @inline of(a: v128, b: v128): v128 { return i32x4.sub(a, b) } }
@final @unmanaged class MulInt { @inline of(a: v128, b: v128): v128 { return i32x4.mul(a, b) } }
@final @unmanaged class MaximumInt { @inline of(a: v128, b: v128): v128 { return i32x4.max_s(a, b) } }
@final @unmanaged class MinimumInt { @inline of(a: v128, b: v128): v128 { return i32x4.min_s(a, b) } }
// A mask of integers is −1 or 0.
@final @unmanaged class EqualInt { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.eq(a, b)) } }
@final @unmanaged class LessInt { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.lt_s(a, b)) } }
@final @unmanaged class LessEqualInt { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.le_s(a, b)) } }
/** g (σ + xσ(1 − σ)) */
@final @unmanaged class SiluGrad {
  @inline of(g: v128, x: v128): v128 {
    const s = sigmoid(x)
    return f32x4.mul(g, madd(f32x4.mul(x, s), f32x4.sub(ones(), s), s))
  }
}
/** g (Φ + xφ) */
@final @unmanaged class GeluGrad {
  @inline of(g: v128, x: v128): v128 { return f32x4.mul(g, madd(x, normalDensity(x), normalCdf(x))) }
}
/** g (s + x·s(1 − s)·2u′), 1 − s = s·e^(−2u); in an order in which 0 meets an infinity only where x is one. */
@final @unmanaged class GeluTanhGrad {
  @inline of(g: v128, x: v128): v128 {
    const e = geluExp(x)
    const s = f32x4.div(ones(), f32x4.add(ones(), e))
    return f32x4.mul(f32x4.mul(g, s), madd(f32x4.mul(x, f32x4.mul(s, finite(e))), geluSlope(x), ones()))
  }
}

export function binaryAdd(args: usize, chunk: i32): void { zip<Add>(args, chunk) }
export function binarySub(args: usize, chunk: i32): void { zip<Sub>(args, chunk) }
export function binaryMul(args: usize, chunk: i32): void { zip<Mul>(args, chunk) }
export function binaryDiv(args: usize, chunk: i32): void { zip<Div>(args, chunk) }
export function binaryMaximum(args: usize, chunk: i32): void { zip<Maximum>(args, chunk) }
export function binaryMinimum(args: usize, chunk: i32): void { zip<Minimum>(args, chunk) }
export function binaryEqual(args: usize, chunk: i32): void { zip<Equal>(args, chunk) }
export function binaryLess(args: usize, chunk: i32): void { zip<Less>(args, chunk) }
export function binaryLessEqual(args: usize, chunk: i32): void { zip<LessEqual>(args, chunk) }
export function binarySiluGrad(args: usize, chunk: i32): void { zip<SiluGrad>(args, chunk) }
export function binaryGeluGrad(args: usize, chunk: i32): void { zip<GeluGrad>(args, chunk) }
export function binaryGeluTanhGrad(args: usize, chunk: i32): void { zip<GeluTanhGrad>(args, chunk) }
export function binaryAddInt(args: usize, chunk: i32): void { zip<AddInt>(args, chunk) }
export function binarySubInt(args: usize, chunk: i32): void { zip<SubInt>(args, chunk) }
export function binaryMulInt(args: usize, chunk: i32): void { zip<MulInt>(args, chunk) }
export function binaryMaximumInt(args: usize, chunk: i32): void { zip<MaximumInt>(args, chunk) }
export function binaryMinimumInt(args: usize, chunk: i32): void { zip<MinimumInt>(args, chunk) }
export function binaryEqualInt(args: usize, chunk: i32): void { zip<EqualInt>(args, chunk) }
export function binaryLessInt(args: usize, chunk: i32): void { zip<LessInt>(args, chunk) }
export function binaryLessEqualInt(args: usize, chunk: i32): void { zip<LessEqualInt>(args, chunk) }

/** a^b in f64, one at a time; see unaryPow. */
@final @unmanaged class Pow {
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

export function binaryPow(args: usize, chunk: i32): void { zip<Pow>(args, chunk) }

/**
 * condition ≠ 0 ? a : b. args: 0 condition, 1 a, 2 b, 3 out, 4 row length, 5–7 steps (0 or 1), 8 rows, 9 rows per
 * chunk, 10 columns per chunk, 11 column chunks, 12 whether the condition is i32, 13 rank of the outer index,
 * 14 … its table (extent, bytes in the condition, in a, in b); each row is an outer index of its own.
 */
export function where(args: usize, chunk: i32): void {
  const length = arg(args, 4)
  const per = arg(args, 9)
  const columnChunks = arg(args, 11)
  const rank = arg(args, 13)
  const group = chunk / columnChunks
  const column = (chunk - group * columnChunks) * arg(args, 10)
  const columns = min(length - column, arg(args, 10))
  const cStep = arg(args, 5), aStep = arg(args, 6), bStep = arg(args, 7)
  const isInt = arg(args, 12)
  const end = min(arg(args, 8), (group + 1) * per)
  for (let row = group * per; row < end; ++row) {
    let c = pointer(args, 0) + offsetAt(args + 56, rank, 3, 0, row) + (<usize>(column * cStep) << 2)
    let a = pointer(args, 1) + offsetAt(args + 56, rank, 3, 1, row) + (<usize>(column * aStep) << 2)
    let b = pointer(args, 2) + offsetAt(args + 56, rank, 3, 2, row) + (<usize>(column * bStep) << 2)
    let y = pointer(args, 3) + ((<usize>row * length + column) << 2)
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
