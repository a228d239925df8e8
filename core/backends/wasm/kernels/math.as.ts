/**
 * exp, log, sin, cos, tanh, erf and what activations make of them, four lanes at a time, to about 1e-7 of the true
 * value (1e-6 at worst). Polynomials are those of Cephes (S. Moshier, single precision); erf is the rational minimax
 * approximation that Eigen uses. NaN comes out as NaN and infinities as they should. Next: elementwise.as.ts.
 */

import { madd, nmadd, splat } from './simd.as'

/** x where the mask is set, else y. */
@inline
export function select(mask: v128, x: v128, y: v128): v128 {
  return v128.bitselect(x, y, mask)
}

/** 2ⁿ for integer lanes −126 … 127. */
@inline
function power2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, i32x4.splat(127)), 23)
}

/** eˣ = 2ⁿ·eʳ with |r| ≤ ½ ln 2; ln 2 is subtracted in two parts, and 2ⁿ applied in two so that subnormals are right. */
@inline
export function exp(x: v128): v128 {
  // Beyond these the result is 0 or infinity anyway. min and max keep NaN.
  const clamped = f32x4.min(f32x4.max(x, splat(-104)), splat(89))
  const n = f32x4.nearest(f32x4.mul(clamped, splat(1.44269504088896341)))
  const r = nmadd(n, splat(-2.12194440e-4), nmadd(n, splat(0.693359375), clamped))
  let p = madd(splat(1.9875691500e-4), r, splat(1.3981999507e-3))
  p = madd(p, r, splat(8.3334519073e-3))
  p = madd(p, r, splat(4.1665795894e-2))
  p = madd(p, r, splat(1.6666665459e-1))
  p = madd(p, r, splat(5.0000001201e-1))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), splat(1))
  const whole = i32x4.trunc_sat_f32x4_s(n)
  const half = i32x4.shr_s(whole, 1)
  return f32x4.mul(f32x4.mul(p, power2(half)), power2(i32x4.sub(whole, half)))
}

/** The same for x ≤ 0, as softmax and erf need it: below −87 it is 0. */
@inline
export function expNegative(x: v128): v128 {
  const clamped = f32x4.max(x, splat(-87.3))
  const n = f32x4.nearest(f32x4.mul(clamped, splat(1.44269504088896341)))
  const r = nmadd(n, splat(-2.12194440e-4), nmadd(n, splat(0.693359375), clamped))
  let p = madd(splat(1.9875691500e-4), r, splat(1.3981999507e-3))
  p = madd(p, r, splat(8.3334519073e-3))
  p = madd(p, r, splat(4.1665795894e-2))
  p = madd(p, r, splat(1.6666665459e-1))
  p = madd(p, r, splat(5.0000001201e-1))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), splat(1))
  const y = f32x4.mul(p, power2(i32x4.trunc_sat_f32x4_s(n)))
  return v128.andnot(y, f32x4.lt(x, splat(-87.3)))
}

/** Natural logarithm: x = 2ⁿ·m with √½ ≤ m < √2. log 0 = −∞, of negative numbers NaN. */
@inline
export function log(x: v128): v128 {
  // Subnormals are scaled into the normal range first.
  const tiny = f32x4.lt(x, splat(1.17549435e-38))
  const scaled = select(tiny, f32x4.mul(x, splat(8388608)), x)
  let n = f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_u(scaled, 23), i32x4.splat(126)))
  n = f32x4.sub(n, v128.and(tiny, splat(23)))
  const half = v128.or(v128.and(scaled, i32x4.splat(0x007fffff)), splat(0.5)) // in [½, 1)
  const low = f32x4.lt(half, splat(0.707106781186547524))
  n = f32x4.sub(n, v128.and(low, splat(1)))
  const m = f32x4.sub(f32x4.add(half, v128.and(low, half)), splat(1))
  const z = f32x4.mul(m, m)
  let p = madd(splat(7.0376836292e-2), m, splat(-1.1514610310e-1))
  p = madd(p, m, splat(1.1676998740e-1))
  p = madd(p, m, splat(-1.2420140846e-1))
  p = madd(p, m, splat(1.4249322787e-1))
  p = madd(p, m, splat(-1.6668057665e-1))
  p = madd(p, m, splat(2.0000714765e-1))
  p = madd(p, m, splat(-2.4999993993e-1))
  p = madd(p, m, splat(3.3333331174e-1))
  p = f32x4.mul(f32x4.mul(p, m), z)
  p = madd(n, splat(-2.12194440e-4), p)
  p = nmadd(splat(0.5), z, p)
  let y = madd(n, splat(0.693359375), f32x4.add(m, p))
  y = select(f32x4.eq(x, splat(0)), splat(-Infinity), y)
  y = select(f32x4.eq(x, splat(Infinity)), x, y)
  return v128.or(y, v128.not(f32x4.ge(x, splat(0)))) // all bits set is a NaN
}

/** log(1 + u) for 0 ≤ u ≤ 1: the rounding of 1 + u is undone by the factor u / ((1 + u) − 1). */
@inline
export function log1p(u: v128): v128 {
  const w = f32x4.add(splat(1), u)
  const rounded = f32x4.sub(w, splat(1))
  return select(f32x4.eq(rounded, splat(0)), u, f32x4.div(f32x4.mul(log(w), u), rounded))
}

/** tanh x: a polynomial for |x| < 0.625, else sign(x)·(1 − 2/(e^2|x| + 1)). */
@inline
export function tanh(x: v128): v128 {
  const size = f32x4.abs(x)
  const z = f32x4.mul(x, x)
  let p = madd(splat(-5.70498872745e-3), z, splat(2.06390887954e-2))
  p = madd(p, z, splat(-5.37397155531e-2))
  p = madd(p, z, splat(1.33314422036e-1))
  p = madd(p, z, splat(-3.33332819422e-1))
  p = madd(f32x4.mul(p, z), x, x)
  const e = exp(f32x4.min(f32x4.add(size, size), splat(40)))
  const tail = f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(e, splat(1))))
  const signed = v128.or(tail, v128.and(x, splat(-0.0)))
  return select(f32x4.lt(size, splat(0.625)), p, signed)
}

/** erf x = x·P(x²)/Q(x²) for |x| ≤ 4, beyond which it is ±1. */
@inline
export function erf(x: v128): v128 {
  const y = f32x4.min(f32x4.max(x, splat(-4)), splat(4))
  const z = f32x4.mul(y, y)
  let p = madd(splat(-2.72614225801306e-10), z, splat(2.77068142495902e-8))
  p = madd(p, z, splat(-2.10102402082508e-6))
  p = madd(p, z, splat(-5.69250639462346e-5))
  p = madd(p, z, splat(-7.34990630326855e-4))
  p = madd(p, z, splat(-2.95459980854025e-3))
  p = madd(p, z, splat(-1.60960333262415e-2))
  let q = madd(splat(-1.45660718464996e-5), z, splat(-2.13374055278905e-4))
  q = madd(q, z, splat(-1.68282697438203e-3))
  q = madd(q, z, splat(-7.37332916720468e-3))
  q = madd(q, z, splat(-1.42647390514189e-2))
  return f32x4.div(f32x4.mul(y, p), q)
}

/** 1 / (1 + e⁻ˣ) */
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp(f32x4.neg(x))))
}

/** log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|) */
@inline
export function softplus(x: v128): v128 {
  return f32x4.add(f32x4.max(x, splat(0)), log1p(exp(f32x4.neg(f32x4.abs(x)))))
}

/** Φ(x), the normal distribution function: ½(1 + erf(x/√2)). */
@inline
export function normalCdf(x: v128): v128 {
  return madd(splat(0.5), erf(f32x4.mul(x, splat(0.70710678118654752))), splat(0.5))
}

/**
 * e^(−2u) with u = √(2/π)(x + 0.044715x³). The tanh form of gelu is x·s with s = ½(1 + tanh u) = 1/(1 + e^(−2u)), which
 * keeps its digits where tanh is near −1. Limited, so that its product with s is finite.
 */
@inline
export function geluExp(x: v128): v128 {
  const cubic = madd(f32x4.mul(x, x), splat(-2 * 0.044715 * 0.7978845608028654), splat(-2 * 0.7978845608028654))
  return exp(f32x4.min(f32x4.mul(x, cubic), splat(80)))
}

/** Two lanes of x − n·π/2 and of n, the nearest multiple, in f64: exact enough for any x that an f32 index reaches. */
@inline
function quadrants(x: v128): v128 {
  return f64x2.nearest(f64x2.mul(x, f64x2.splat(0.63661977236758134)))
}

@inline
function remainder(x: v128, n: v128): v128 {
  const r = f64x2.sub(x, f64x2.mul(n, f64x2.splat(1.57079632673412561417)))
  return f64x2.sub(r, f64x2.mul(n, f64x2.splat(6.07710050650619224932e-11)))
}

/** sin(x + quarter·π/2): sine for quarter 0, cosine for 1. */
@inline
export function sine(x: v128, quarter: i32): v128 {
  const low = f64x2.promote_low_f32x4(x)
  const high = f64x2.promote_low_f32x4(v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  const nLow = quadrants(low)
  const nHigh = quadrants(high)
  const rLow = f32x4.demote_f64x2_zero(remainder(low, nLow))
  const rHigh = f32x4.demote_f64x2_zero(remainder(high, nHigh))
  const r = v128.shuffle<f64>(rLow, rHigh, 0, 2)
  const whole = v128.shuffle<f64>(i32x4.trunc_sat_f64x2_s_zero(nLow), i32x4.trunc_sat_f64x2_s_zero(nHigh), 0, 2)
  const n = i32x4.add(whole, i32x4.splat(quarter))
  const z = f32x4.mul(r, r)
  let s = madd(splat(-1.9515295891e-4), z, splat(8.3321608736e-3))
  s = madd(s, z, splat(-1.6666654611e-1))
  s = madd(f32x4.mul(s, z), r, r)
  let c = madd(splat(2.443315711809948e-5), z, splat(-1.388731625493765e-3))
  c = madd(c, z, splat(4.166664568298827e-2))
  c = madd(f32x4.mul(c, z), z, nmadd(splat(0.5), z, splat(1)))
  // Odd quarters take the other function, quarters 2 and 3 the other sign.
  const odd = i32x4.ne(v128.and(n, i32x4.splat(1)), i32x4.splat(0))
  const sign = i32x4.shl(v128.and(n, i32x4.splat(2)), 30)
  return v128.xor(select(odd, c, s), sign)
}
