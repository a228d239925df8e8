/**
 * What an optimizer step does to memory, for many tensors in one pass: squared norm, AdamW, moving averages. A chunk is
 * a line of a table that the host writes; blocks are multiples of 64 bytes, so whole vectors are read and written.
 * Where the scalar `finite` is 0 nothing is written. Next: unfold.as.ts.
 */

import { VEC, arg, madd, number, pointer, splat } from './simd.as'
import { rowSquares } from './reduce.as'

/** slots[chunk] = Σ x², in f64. args: 0 table of (x, floats), 1 slots */
export function squares(args: usize, chunk: i32): void {
  const line = pointer(args, 0) + (<usize>chunk << 3)
  store<f64>(pointer(args, 1) + (<usize>chunk << 3), rowSquares(load<u32>(line), load<i32>(line, 4)))
}

/** out = Σ slots, in order. args: 0 slots, 1 n, 2 out */
export function sumSlots(args: usize, chunk: i32): void {
  let sum: f64 = 0
  for (let i = 0; i < arg(args, 1); ++i) sum += load<f64>(pointer(args, 0) + (<usize>i << 3))
  store<f32>(pointer(args, 2), <f32>sum)
}

/**
 * m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p(1 − lr·decay) − lr/c₁ · m/(√v/√c₂ + eps), g times the clip factor.
 * args: 0 table of (p, g, m, v, vectors), 1 finite, 2 clip, 3 c₁, 4 c₂ (addresses), then numbers: 5 lr, 6 β₁, 7 1 − β₁,
 * 8 β₂, 9 1 − β₂, 10 eps, 11 1 − lr·decay
 */
export function adamW(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + <usize>chunk * 20
  let p = <usize>load<u32>(line)
  let g = <usize>load<u32>(line, 4)
  let m = <usize>load<u32>(line, 8)
  let v = <usize>load<u32>(line, 12)
  const clip = v128.load32_splat(pointer(args, 2))
  const step = splat(number(args, 5) / load<f32>(pointer(args, 3)))
  const root = splat(sqrt(load<f32>(pointer(args, 4))))
  const beta1 = splat(number(args, 6)), rest1 = splat(number(args, 7))
  const beta2 = splat(number(args, 8)), rest2 = splat(number(args, 9))
  const eps = splat(number(args, 10))
  const keep = splat(number(args, 11))
  for (let n = load<i32>(line, 16); n > 0; --n) {
    const gi = f32x4.mul(clip, v128.load(g))
    const mi = madd(beta1, v128.load(m), f32x4.mul(rest1, gi))
    const vi = madd(beta2, v128.load(v), f32x4.mul(f32x4.mul(rest2, gi), gi))
    const bottom = f32x4.add(f32x4.div(f32x4.sqrt(vi), root), eps)
    v128.store(m, mi)
    v128.store(v, vi)
    v128.store(p, f32x4.sub(f32x4.mul(keep, v128.load(p)), f32x4.div(f32x4.mul(step, mi), bottom)))
    p += VEC
    g += VEC
    m += VEC
    v += VEC
  }
}

/** y ← y + weight(x − y). args: 0 table of (y, x, vectors), 1 finite (address), 2 weight */
export function lerp(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + <usize>chunk * 12
  let y = <usize>load<u32>(line)
  let x = <usize>load<u32>(line, 4)
  const weight = splat(number(args, 2))
  for (let n = load<i32>(line, 8); n > 0; --n, x += VEC, y += VEC) {
    const was = v128.load(y)
    v128.store(y, madd(weight, f32x4.sub(v128.load(x), was), was))
  }
}
