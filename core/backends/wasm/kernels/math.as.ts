/**
 * exp, log, tanh, erf and the activations that use them, four lanes at a time, to about 1e-7 of the true value (1e-6 at
 * worst). The polynomials of exponentials are minimax, by Remez' algorithm; the others are those of Cephes (S. Moshier,
 * single precision), and erf is the rational minimax approximation that Eigen uses. NaN and infinities propagate as in
 * IEEE 754. tests/core/wasm-values.test.ts holds the errors in units of the last place.
 * Constants are read from memory: V8 loads a vector of four equal floats in one instruction, but builds a constant in
 * three, in every iteration of a loop.
 */

import { madd, nmadd, splat } from './simd.as'

/** Entry `i` of a table of constants in all lanes. */
@inline
export function c(table: usize, i: usize = 0): v128 {
  return v128.load32_splat(table + (i << 2))
}

/** x where the mask is set, else y. */
@inline
export function select(mask: v128, x: v128, y: v128): v128 {
  return v128.bitselect(x, y, mask)
}

const ONE = memory.data<f32>([1])
const HALF = memory.data<f32>([0.5])
const LOG2_E = memory.data<f32>([1.44269504088896341])
/** ln 2 in two parts, the first with few bits, so that n times it is exact. */
const LN2 = memory.data<f32>([0.693359375, -2.12194440e-4])
/** Adding 1.5·2²³ rounds to the nearest whole number and leaves it in the low bits. */
const ROUND = memory.data<f32>([12582912])
/** The same with the exponent's bias: the low bits are those of 2ⁿ before the shift. */
export const ROUND_BIASED = memory.data<f32>([12582912 + 127])
const EXP_RANGE = memory.data<f32>([-104, 89])
/** Here 2ⁿ, put together from bits, is exactly 0 and infinity. */
const FLUSHED_RANGE = memory.data<f32>([-88, 89])
export const FLUSHED_RANGE2 = memory.data<f32>([-127, 128])
const LARGEST = memory.data<f32>([3.4028234663852886e38])
/** (eʳ − 1 − r)/r² for |r| ≤ ½ ln 2: minimax, to 3.1e-9 of eʳ. */
const EXP = memory.data<f32>([
  1.3814540580e-3, 8.3687454462e-3, 4.1668388993e-2, 1.6666521132e-1, 4.9999994040e-1,
])
/** (2ʳ − 1)/r for |r| ≤ ½: minimax, to 2.0e-9 of 2ʳ. */
export const EXP2 = memory.data<f32>([
  1.5353258641e-4, 1.3399003074e-3, 9.6184387803e-3, 5.5503319949e-2, 2.4022647738e-1, 6.9314718246e-1,
])
const BIAS = memory.data<i32>([127])

/** (eʳ − 1 − r)/r² for |r| ≤ ½ ln 2. */
@inline
function expPolynomial(r: v128): v128 {
  let p = madd(c(EXP), r, c(EXP, 1))
  p = madd(p, r, c(EXP, 2))
  p = madd(p, r, c(EXP, 3))
  return madd(p, r, c(EXP, 4))
}

/** eʳ − 1 for |r| ≤ ½ ln 2. */
@inline
function expm1Fraction(r: v128): v128 {
  return madd(expPolynomial(r), f32x4.mul(r, r), r)
}

/** eʳ for |r| ≤ ½ ln 2. */
@inline
function expFraction(r: v128): v128 {
  return madd(madd(expPolynomial(r), r, c(ONE)), r, c(ONE))
}

/** 2ⁿ for whole numbers −126 … 127 in the low bits of each lane; for −127 it is 0, for 128 infinity. */
@inline
function power2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, c(BIAS)), 23)
}

/** eˣ = 2ⁿ·eʳ with |r| ≤ ½ ln 2; 2ⁿ is applied in two parts, so that largest and subnormal results are right. */
@inline
export function exp(x: v128): v128 {
  // Beyond these the result is 0 or infinity anyway. pmin and pmax, one instruction each, keep a NaN that comes first.
  const clamped = f32x4.pmin(f32x4.pmax(x, c(EXP_RANGE)), c(EXP_RANGE, 1))
  const rounded = madd(clamped, c(LOG2_E), c(ROUND))
  const n = f32x4.sub(rounded, c(ROUND))
  const p = expFraction(nmadd(n, c(LN2, 1), nmadd(n, c(LN2), clamped)))
  const whole = i32x4.sub(rounded, c(ROUND))
  const half = i32x4.shr_s(whole, 1)
  return f32x4.mul(f32x4.mul(p, power2(half)), power2(i32x4.sub(whole, half)))
}

/** The same for x ≤ 0, as softmax needs it: from −87.7 on down it is 0. */
@inline
export function expNegative(x: v128): v128 {
  return expNormal(f32x4.pmax(x, c(FLUSHED_RANGE)))
}

/** The same for x of which 1 + eˣ is wanted: 0 from −87.7 on down, infinity from 88.4 on up. */
@inline
function expFlushed(x: v128): v128 {
  return expNormal(f32x4.pmin(f32x4.pmax(x, c(FLUSHED_RANGE)), c(FLUSHED_RANGE, 1)))
}

/** The same for −88 ≤ x ≤ 89, with 2ⁿ in one part. */
@inline
function expNormal(x: v128): v128 {
  const rounded = madd(x, c(LOG2_E), c(ROUND_BIASED))
  const n = f32x4.sub(rounded, c(ROUND_BIASED))
  return f32x4.mul(expFraction(nmadd(n, c(LN2, 1), nmadd(n, c(LN2), x))), i32x4.shl(rounded, 23))
}

/** 2ˣ where 1 + 2ˣ is wanted: 0 from −126.5 on down, infinity from 127.5 on up. */
@inline
function exp2Flushed(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, c(FLUSHED_RANGE2)), c(FLUSHED_RANGE2, 1))
  const rounded = f32x4.add(clamped, c(ROUND_BIASED))
  const r = f32x4.sub(clamped, f32x4.sub(rounded, c(ROUND_BIASED)))
  let p = madd(c(EXP2), r, c(EXP2, 1))
  p = madd(p, r, c(EXP2, 2))
  p = madd(p, r, c(EXP2, 3))
  p = madd(p, r, c(EXP2, 4))
  p = madd(p, r, c(EXP2, 5))
  return f32x4.mul(madd(p, r, c(ONE)), i32x4.shl(rounded, 23))
}

/** Below the first of these eˣ − 1 is −1, above the second it is eˣ. */
const EXPM1_RANGE = memory.data<f32>([-30, 88])

/** eˣ − 1 = 2ⁿ(eʳ − 1) + (2ⁿ − 1), without the cancellation of eˣ − 1 near 0. */
@inline
export function expm1(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, c(EXPM1_RANGE)), c(EXPM1_RANGE, 1))
  const rounded = madd(clamped, c(LOG2_E), c(ROUND))
  const n = f32x4.sub(rounded, c(ROUND))
  const q = expm1Fraction(nmadd(n, c(LN2, 1), nmadd(n, c(LN2), clamped)))
  const s = power2(i32x4.sub(rounded, c(ROUND)))
  const large = f32x4.gt(x, c(EXPM1_RANGE, 1))
  // The polynomial of −0 is 0; all its other values have the sign of x already.
  const y = v128.or(f32x4.add(f32x4.mul(s, q), f32x4.sub(s, c(ONE))), v128.and(x, c(SIGN)))
  return v128.any_true(large) ? select(large, exp(x), y) : y
}

const LOG = memory.data<f32>([
  7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
])
const SQRT_HALF = memory.data<f32>([0.707106781186547524])
const SMALLEST_NORMAL = memory.data<f32>([1.17549435e-38])
const TWO_23 = memory.data<f32>([8388608, 23])
const EXPONENT = memory.data<i32>([126, 0x007fffff])
const INFINITE = memory.data<f32>([Infinity, -Infinity])

/** Natural logarithm: x = 2ⁿ·m with √½ ≤ m < √2. log 0 = −∞, of negative numbers NaN. */
@inline
export function log(x: v128): v128 {
  // Subnormals are scaled into the normal range first.
  const tiny = f32x4.lt(x, c(SMALLEST_NORMAL))
  const scaled = select(tiny, f32x4.mul(x, c(TWO_23)), x)
  let n = f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_u(scaled, 23), c(EXPONENT)))
  n = f32x4.sub(n, v128.and(tiny, c(TWO_23, 1)))
  const half = v128.or(v128.and(scaled, c(EXPONENT, 1)), c(HALF)) // in [½, 1)
  const low = f32x4.lt(half, c(SQRT_HALF))
  n = f32x4.sub(n, v128.and(low, c(ONE)))
  const m = f32x4.sub(f32x4.add(half, v128.and(low, half)), c(ONE))
  const z = f32x4.mul(m, m)
  let p = madd(c(LOG), m, c(LOG, 1))
  p = madd(p, m, c(LOG, 2))
  p = madd(p, m, c(LOG, 3))
  p = madd(p, m, c(LOG, 4))
  p = madd(p, m, c(LOG, 5))
  p = madd(p, m, c(LOG, 6))
  p = madd(p, m, c(LOG, 7))
  p = madd(p, m, c(LOG, 8))
  p = f32x4.mul(f32x4.mul(p, m), z)
  p = madd(n, c(LN2, 1), p)
  p = nmadd(c(HALF), z, p)
  let y = madd(n, c(LN2), f32x4.add(m, p))
  y = select(f32x4.eq(x, splat(0)), c(INFINITE, 1), y)
  y = select(f32x4.eq(x, c(INFINITE)), x, y)
  return v128.or(y, v128.not(f32x4.ge(x, splat(0)))) // all bits set is a NaN
}

/** log(1 + x): the rounding of 1 + x is undone by the factor x / ((1 + x) − 1). */
@inline
export function log1p(x: v128): v128 {
  const w = f32x4.add(c(ONE), x)
  const rounded = f32x4.sub(w, c(ONE))
  const y = f32x4.mul(log(w), f32x4.div(x, rounded))
  return select(v128.or(f32x4.eq(rounded, splat(0)), f32x4.eq(x, c(INFINITE))), x, y)
}

/** The same for 0 ≤ u ≤ 1. */
@inline
function log1pUnit(u: v128): v128 {
  const w = f32x4.add(c(ONE), u)
  const rounded = f32x4.sub(w, c(ONE))
  return select(f32x4.eq(rounded, splat(0)), u, f32x4.div(f32x4.mul(log(w), u), rounded))
}

const TANH = memory.data<f32>([
  -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1,
])
const TANH_LIMIT = memory.data<f32>([0.625])
const SIGN = memory.data<f32>([-0.0])

/** tanh x: a polynomial for |x| < 0.625, else sign(x)·(1 − 2/(e^2|x| + 1)). */
@inline
export function tanh(x: v128): v128 {
  const size = f32x4.abs(x)
  const z = f32x4.mul(x, x)
  let p = madd(c(TANH), z, c(TANH, 1))
  p = madd(p, z, c(TANH, 2))
  p = madd(p, z, c(TANH, 3))
  p = madd(p, z, c(TANH, 4))
  p = madd(f32x4.mul(p, z), x, x)
  const e = expFlushed(f32x4.add(size, size))
  const tail = f32x4.sub(c(ONE), f32x4.div(f32x4.add(c(ONE), c(ONE)), f32x4.add(e, c(ONE))))
  // The polynomial of −0 is 0; all its other values have the sign of x already.
  return v128.or(select(f32x4.lt(size, c(TANH_LIMIT)), p, tail), v128.and(x, c(SIGN)))
}

const ATAN = memory.data<f32>([8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1])
/** π/4, π/2, π, and tan(π/8), beyond which the angle is taken from π/4. */
const ANGLES = memory.data<f32>([0.78539816339744831, 1.57079632679489662, 3.14159265358979324, 0.41421356237309505])

/** The angle of (x, y): that of the smaller over the larger coordinate, turned to its octant. */
@inline
export function atan2(y: v128, x: v128): v128 {
  const across = f32x4.abs(x)
  const up = f32x4.abs(y)
  const larger = f32x4.pmax(across, up)
  const smaller = f32x4.pmin(across, up)
  const ratio = v128.andnot(f32x4.div(smaller, larger), f32x4.eq(larger, splat(0)))
  const t = select(f32x4.eq(smaller, c(INFINITE)), c(ONE), ratio)
  const far = f32x4.gt(t, c(ANGLES, 3))
  const u = select(far, f32x4.div(f32x4.sub(t, c(ONE)), f32x4.add(t, c(ONE))), t)
  const z = f32x4.mul(u, u)
  let p = madd(c(ATAN), z, c(ATAN, 1))
  p = madd(p, z, c(ATAN, 2))
  p = madd(p, z, c(ATAN, 3))
  let angle = f32x4.add(v128.and(far, c(ANGLES)), madd(f32x4.mul(p, z), u, u))
  angle = select(f32x4.gt(up, across), f32x4.sub(c(ANGLES, 1), angle), angle)
  angle = select(i32x4.shr_s(x, 31), f32x4.sub(c(ANGLES, 2), angle), angle)
  const signed = v128.or(angle, v128.and(y, c(SIGN)))
  const sum = f32x4.add(x, y)
  const nan = v128.or(f32x4.ne(x, x), f32x4.ne(y, y))
  return select(nan, sum, signed)
}

const ERF = memory.data<f32>([
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
  -2.95459980854025e-3, -1.60960333262415e-2, -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3,
  -7.37332916720468e-3, -1.42647390514189e-2,
])
const ERF_RANGE = memory.data<f32>([-4, 4])
const ERF_BOUNDS = memory.data<f32>([-1, 1])

/** erf x = x·P(x²)/Q(x²) for |x| ≤ 4, beyond which it is ±1. Near 4 the quotient may round to more than 1. */
@inline
export function erf(x: v128): v128 {
  const y = f32x4.pmin(f32x4.pmax(x, c(ERF_RANGE)), c(ERF_RANGE, 1))
  const z = f32x4.mul(y, y)
  let p = madd(c(ERF), z, c(ERF, 1))
  p = madd(p, z, c(ERF, 2))
  p = madd(p, z, c(ERF, 3))
  p = madd(p, z, c(ERF, 4))
  p = madd(p, z, c(ERF, 5))
  p = madd(p, z, c(ERF, 6))
  let q = madd(c(ERF, 7), z, c(ERF, 8))
  q = madd(q, z, c(ERF, 9))
  q = madd(q, z, c(ERF, 10))
  q = madd(q, z, c(ERF, 11))
  return f32x4.pmin(f32x4.pmax(f32x4.div(f32x4.mul(y, p), q), c(ERF_BOUNDS)), c(ERF_BOUNDS, 1))
}

/** 1 / (1 + e⁻ˣ) */
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(c(ONE), f32x4.add(c(ONE), expFlushed(f32x4.neg(x))))
}

/** log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|) */
@inline
export function softplus(x: v128): v128 {
  return f32x4.add(f32x4.max(x, splat(0)), log1pUnit(exp(f32x4.neg(f32x4.abs(x)))))
}

const NORMAL = memory.data<f32>([0.70710678118654752, -0.5, 0.3989422804014327])

/** Below this, 1 + erf(x/√2) loses more digits than the approximation of the tail. */
const NORMAL_TAIL = memory.data<f32>([-1.5])

/** Φ(x), the normal distribution function: ½(1 + erf(x/√2)), or ½erfc(−x/√2) in the lower tail. */
@inline
export function normalCdf(x: v128): v128 {
  const low = f32x4.lt(x, c(NORMAL_TAIL))
  const y = madd(c(HALF), erf(f32x4.mul(x, c(NORMAL))), c(HALF))
  return v128.any_true(low) ? select(low, lowerTail(x), y) : y
}

/** The polynomial of log erfc by Chebyshev fitting (Press et al., Numerical Recipes, erfcc). */
const ERFC = memory.data<f32>([
  0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
  -1.26551223,
])
/** −1/(2√2) */
const ERFC_STEP = memory.data<f32>([-0.35355339059327379])

/** ½erfc(z) with z = −x/√2 ≥ 0: ½t·e^(P(t) − z²) with t = 1/(1 + z/2). Its relative error is below 1e-6 for x ≥ −5. */
function lowerTail(x: v128): v128 {
  const t = f32x4.div(c(ONE), madd(x, c(ERFC_STEP), c(ONE)))
  let p = madd(c(ERFC), t, c(ERFC, 1))
  p = madd(p, t, c(ERFC, 2))
  p = madd(p, t, c(ERFC, 3))
  p = madd(p, t, c(ERFC, 4))
  p = madd(p, t, c(ERFC, 5))
  p = madd(p, t, c(ERFC, 6))
  p = madd(p, t, c(ERFC, 7))
  p = madd(p, t, c(ERFC, 8))
  p = madd(p, t, c(ERFC, 9))
  return f32x4.mul(f32x4.mul(c(HALF), t), exp(madd(f32x4.mul(x, c(NORMAL, 1)), x, p)))
}

/** φ(x), its density: e^(−x²/2)/√(2π). */
@inline
export function normalDensity(x: v128): v128 {
  return f32x4.mul(expNegative(f32x4.mul(f32x4.mul(x, x), c(NORMAL, 1))), c(NORMAL, 2))
}

/** −2√(2/π)·log₂e times 0.044715 and 1; 2√(2/π) times 3·0.044715 and 1. */
const GELU = memory.data<f32>([
  -2 * 0.044715 * 0.7978845608028654 * 1.44269504088896341, -2 * 0.7978845608028654 * 1.44269504088896341,
  6 * 0.044715 * 0.7978845608028654, 2 * 0.7978845608028654,
])

/**
 * e^(−2u) with u = √(2/π)(x + 0.044715x³), of x and x². The tanh form of gelu is x·s with s = ½(1 + tanh u) =
 * 1/(1 + e^(−2u)), which keeps its digits where tanh is near −1.
 */
@inline
export function geluExp(x: v128, square: v128): v128 {
  return exp2Flushed(f32x4.mul(x, madd(square, c(GELU), c(GELU, 1))))
}

/** 2u′ = 2√(2/π)(1 + 3·0.044715x²) of x², or the largest finite number. */
@inline
export function geluSlope(square: v128): v128 {
  return finite(madd(square, c(GELU, 2), c(GELU, 3)))
}

/** x, where it is infinity the largest finite number: 0 times that is 0. */
@inline
export function finite(x: v128): v128 {
  return f32x4.pmin(x, c(LARGEST))
}

/** 1 in all lanes. */
@inline
export function ones(): v128 {
  return c(ONE)
}
