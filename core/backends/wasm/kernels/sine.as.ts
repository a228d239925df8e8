/**
 * sin and cos, four lanes at a time: x is reduced to |r| ≤ π/4 in f64, and polynomials of Cephes (S. Moshier, single
 * precision) do the rest.
 */

import { c, select } from './math.as'
import { madd } from './simd.as'

const SINE = memory.data<f32>([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1])
const COSINE = memory.data<f32>([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5, 1])

/** 2²⁷. Up to here the rounding of n·π/2 costs less than 1e-8, and n is well within i32. */
const NEAR = memory.data<f32>([134217728])

/** 2/π, and π/2 in two parts. */
const HALF_PI = memory.data<f64>([0.63661977236758134, 1.57079632673412561417, 6.07710050650619224932e-11])

/** Two lanes of x − n·π/2 and of n, the nearest multiple, in f64. */
@inline
function quadrants(x: v128): v128 {
  return f64x2.nearest(f64x2.mul(x, v128.load64_splat(HALF_PI)))
}

@inline
function remainder(x: v128, n: v128): v128 {
  const r = f64x2.sub(x, f64x2.mul(n, v128.load64_splat(HALF_PI, 8)))
  return f64x2.sub(r, f64x2.mul(n, v128.load64_splat(HALF_PI, 16)))
}

/** sin(x + quarter·π/2): sine for quarter 0, cosine for 1. */
@inline
export function sine(x: v128, quarter: i32): v128 {
  const far = f32x4.gt(f32x4.abs(x), c(NEAR))
  const y = nearSine(x, quarter)
  return v128.any_true(far) ? select(far, farSine(x, quarter), y) : y
}

/** The same of any x, one at a time: rare, and the f64 functions reduce x by as many digits of π as it takes. */
function farSine(x: v128, quarter: i32): v128 {
  return f32x4(
    scalarSine(f32x4.extract_lane(x, 0), quarter),
    scalarSine(f32x4.extract_lane(x, 1), quarter),
    scalarSine(f32x4.extract_lane(x, 2), quarter),
    scalarSine(f32x4.extract_lane(x, 3), quarter),
  )
}

function scalarSine(x: f32, quarter: i32): f32 {
  return <f32>(quarter ? Math.cos(<f64>x) : Math.sin(<f64>x))
}

/** The same for |x| ≤ 2²⁷. */
@inline
function nearSine(x: v128, quarter: i32): v128 {
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
  let s = madd(c(SINE), z, c(SINE, 1))
  s = madd(s, z, c(SINE, 2))
  s = madd(f32x4.mul(s, z), r, r)
  let k = madd(c(COSINE), z, c(COSINE, 1))
  k = madd(k, z, c(COSINE, 2))
  k = madd(f32x4.mul(k, z), z, madd(c(COSINE, 3), z, c(COSINE, 4)))
  // Odd quarters take the other function, quarters 2 and 3 the other sign.
  const odd = i32x4.shr_s(i32x4.shl(n, 31), 31)
  const sign = i32x4.shl(i32x4.shr_u(n, 1), 31)
  const y = v128.xor(select(odd, k, s), sign)
  // The remainder of −0 is 0.
  return quarter == 0 ? select(f32x4.eq(x, f32x4.splat(0)), x, y) : y
}
