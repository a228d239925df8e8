/**
 * exp, log, tanh, erf and what activations make of them, four lanes at a time, to about 1e-7 of the true value (1e-6 at
 * worst). Polynomials are those of Cephes (S. Moshier, single precision); erf is the rational minimax approximation that
 * Eigen uses. NaN comes out as NaN and infinities as they should.
 * Constants are read from memory: V8 loads a vector of four equal floats in one instruction, but builds a constant in
 * three, and does so in every round of a loop. Next: sine.as.ts.
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
const EXP_RANGE = memory.data<f32>([-104, 89])
const NORMAL_RANGE = memory.data<f32>([-87.3])
/** Here 2ⁿ, put together from bits, is exactly 0 and infinity. */
const FLUSHED_RANGE = memory.data<f32>([-88, 89])
const LARGEST = memory.data<f32>([3.4028234663852886e38])
const EXP = memory.data<f32>([
  1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
])
const BIAS = memory.data<i32>([127])

/** eʳ for |r| ≤ ½ ln 2. */
@inline
function expFraction(r: v128): v128 {
  let p = madd(c(EXP), r, c(EXP, 1))
  p = madd(p, r, c(EXP, 2))
  p = madd(p, r, c(EXP, 3))
  p = madd(p, r, c(EXP, 4))
  p = madd(p, r, c(EXP, 5))
  return f32x4.add(madd(p, f32x4.mul(r, r), r), c(ONE))
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

/** The same for x ≤ 0, as softmax needs it: from −87.3 on down it is 0. */
@inline
export function expNegative(x: v128): v128 {
  return v128.andnot(expNormal(f32x4.pmax(x, c(NORMAL_RANGE))), f32x4.lt(x, c(NORMAL_RANGE)))
}

/** The same for x of which 1 + eˣ is wanted: 0 from −87.7 on down, infinity from 88.4 on up. */
@inline
function expFlushed(x: v128): v128 {
  return expNormal(f32x4.pmin(f32x4.pmax(x, c(FLUSHED_RANGE)), c(FLUSHED_RANGE, 1)))
}

/** The same for −88 ≤ x ≤ 89, with 2ⁿ in one part. */
@inline
function expNormal(x: v128): v128 {
  const rounded = madd(x, c(LOG2_E), c(ROUND))
  const n = f32x4.sub(rounded, c(ROUND))
  return f32x4.mul(expFraction(nmadd(n, c(LN2, 1), nmadd(n, c(LN2), x))), power2(rounded))
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

/** log(1 + u) for 0 ≤ u ≤ 1: the rounding of 1 + u is undone by the factor u / ((1 + u) − 1). */
@inline
export function log1p(u: v128): v128 {
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
  // The sum that ends the polynomial makes −0 a 0.
  return v128.or(select(f32x4.lt(size, c(TANH_LIMIT)), p, tail), v128.and(x, c(SIGN)))
}

const ERF = memory.data<f32>([
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
  -2.95459980854025e-3, -1.60960333262415e-2, -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3,
  -7.37332916720468e-3, -1.42647390514189e-2,
])
const ERF_RANGE = memory.data<f32>([-4, 4])

/** erf x = x·P(x²)/Q(x²) for |x| ≤ 4, beyond which it is ±1. Near there the quotient may round to more than 1. */
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
  return f32x4.pmin(f32x4.pmax(f32x4.div(f32x4.mul(y, p), q), f32x4.neg(c(ONE))), c(ONE))
}

/** 1 / (1 + e⁻ˣ) */
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(c(ONE), f32x4.add(c(ONE), expFlushed(f32x4.neg(x))))
}

/** log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|) */
@inline
export function softplus(x: v128): v128 {
  return f32x4.add(f32x4.max(x, splat(0)), log1p(exp(f32x4.neg(f32x4.abs(x)))))
}

const NORMAL = memory.data<f32>([0.70710678118654752, -0.5, 0.3989422804014327])

/** φ(x), the density of the normal distribution: e^(−x²/2)/√(2π). */
@inline
export function normalDensity(x: v128): v128 {
  return f32x4.mul(expNegative(f32x4.mul(f32x4.mul(x, x), c(NORMAL, 1))), c(NORMAL, 2))
}

/** 0.35, then the polynomial P below, highest power first. */
const MILLS = memory.data<f32>([
  0.35, -0.0730581099, 0.3608839843, -0.6409814832, 0.3989914306, -0.0579283993, 0.2644695939, 0.3003763974,
  0.350581724, 0.3499789594,
])

/**
 * Φ(x), the normal distribution function, given the density φ(x). Φ(−z) = φ(z)·t·P(t) for z ≥ 0, t = 1/(1 + 0.35z): P is
 * a fit of Mills' ratio over t with a relative error of 3e-8 for z ≤ 14. ½(1 + erf) would cancel in the lower tail.
 */
@inline
export function normalCdf(x: v128, density: v128): v128 {
  const t = f32x4.div(c(ONE), madd(f32x4.abs(x), c(MILLS), c(ONE)))
  const s = f32x4.mul(t, t)
  let even = madd(c(MILLS, 1), s, c(MILLS, 3))
  let odd = madd(c(MILLS, 2), s, c(MILLS, 4))
  even = madd(even, s, c(MILLS, 5))
  odd = madd(odd, s, c(MILLS, 6))
  even = madd(even, s, c(MILLS, 7))
  odd = madd(odd, s, c(MILLS, 8))
  even = madd(even, s, c(MILLS, 9))
  const tail = f32x4.mul(f32x4.mul(density, t), madd(odd, t, even))
  return select(f32x4.lt(x, splat(0)), tail, f32x4.sub(c(ONE), tail))
}

/** −2√(2/π) times 0.044715 and 1; 2√(2/π) times 3·0.044715 and 1. */
const GELU = memory.data<f32>([
  -2 * 0.044715 * 0.7978845608028654, -2 * 0.7978845608028654, 6 * 0.044715 * 0.7978845608028654,
  2 * 0.7978845608028654,
])

/**
 * e^(−2u) with u = √(2/π)(x + 0.044715x³). The tanh form of gelu is x·s with s = ½(1 + tanh u) = 1/(1 + e^(−2u)), which
 * keeps its digits where tanh is near −1.
 */
@inline
export function geluExp(x: v128): v128 {
  const cubic = madd(f32x4.mul(x, x), c(GELU), c(GELU, 1))
  return expFlushed(f32x4.mul(x, cubic))
}

/** 2u′ = 2√(2/π)(1 + 3·0.044715x²), or the largest finite number. */
@inline
export function geluSlope(x: v128): v128 {
  return finite(madd(f32x4.mul(x, x), c(GELU, 2), c(GELU, 3)))
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
