/**
 * Vector helpers of all kernels: four f32 lanes, a fused multiply-add that becomes mul + add in the plain build, and
 * partial vectors for the end of a row. The build sets RELAXED to 1 or 0; the other branch is not compiled.
 * Kernels may read up to 15 bytes past a row, since the allocator keeps the end of memory free. They never write there.
 */

/** Bytes of one f32 or i32. */
export const WORD: usize = 4
/** Bytes of four of them. */
export const VEC: usize = 16

@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x)
}

/** a·b + c */
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  // RELAXED is set by the build.
  if (RELAXED) return f32x4.relaxed_madd(a, b, c)
  else return f32x4.add(f32x4.mul(a, b), c)
}

/** c − a·b */
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  // RELAXED is set by the build.
  if (RELAXED) return f32x4.relaxed_nmadd(a, b, c)
  else return f32x4.sub(c, f32x4.mul(a, b))
}

/** All bits set in the first `count` lanes (0 to 4). */
@inline
export function firstLanes(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count))
}

/** Writes the first `count` lanes (1 to 3) and nothing else. */
@inline
export function storeFirst(to: usize, v: v128, count: i32): void {
  if (count == 1) v128.store32_lane(to, v, 0)
  else {
    v128.store64_lane(to, v, 0)
    if (count == 3) v128.store32_lane(to, v, 2, 8)
  }
}

/** (a₀ + a₂) + (a₁ + a₃) */
@inline
export function sumLanes(a: v128): f32 {
  const pairs = f32x4.add(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1))
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1)
}

/** The largest lane; NaN wins. */
@inline
export function maxLane(a: v128): f32 {
  const pairs = f32x4.max(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1))
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1))
}
