/**
 * What an optimizer step does to memory, for many tensors in one pass: squared norm and updates. A chunk is a line of
 * a table that the host writes; blocks are multiples of 64 bytes, so whole vectors are read and written.
 * Where the scalar `finite` is 0 nothing is written. Next: unfold.as.ts.
 */

import { VEC, arg, madd, nmadd, number, pointer, splat } from './simd.as'
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

/** y ← x. args: 0 table of (y, x, bytes), 1 finite (address) */
export function assign(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + <usize>chunk * 12
  memory.copy(<usize>load<u32>(line), <usize>load<u32>(line, 4), <usize>load<u32>(line, 8))
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

/**
 * m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p(1 − lr·decay) − lr/c₁ · m/(√v/√c₂ + eps), g times ± the clip factor. With
 * a fifth address, that of the largest v so far, it takes the place of v in the step.
 * args: 0 table of (p, g, m, v, vmax or 0, vectors), 1 finite, 2 clip, 3 c₁, 4 c₂ (addresses), then numbers: 5 lr, 6 β₁,
 * 7 1 − β₁, 8 β₂, 9 1 − β₂, 10 eps, 11 1 − lr·decay, 12 sign of g
 */
export function adamW(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + <usize>chunk * 24
  let p = <usize>load<u32>(line)
  let g = <usize>load<u32>(line, 4)
  let m = <usize>load<u32>(line, 8)
  let v = <usize>load<u32>(line, 12)
  let vmax = <usize>load<u32>(line, 16)
  const clip = splat(number(args, 12) * load<f32>(pointer(args, 2)))
  const step = splat(number(args, 5) / load<f32>(pointer(args, 3)))
  const root = splat(sqrt(load<f32>(pointer(args, 4))))
  const beta1 = splat(number(args, 6)), rest1 = splat(number(args, 7))
  const beta2 = splat(number(args, 8)), rest2 = splat(number(args, 9))
  const eps = splat(number(args, 10))
  const keep = splat(number(args, 11))
  for (let n = load<i32>(line, 20); n > 0; --n) {
    const gi = f32x4.mul(clip, v128.load(g))
    const mi = madd(beta1, v128.load(m), f32x4.mul(rest1, gi))
    const vi = madd(beta2, v128.load(v), f32x4.mul(f32x4.mul(rest2, gi), gi))
    let largest = vi
    if (vmax != 0) {
      largest = f32x4.max(v128.load(vmax), vi)
      v128.store(vmax, largest)
      vmax += VEC
    }
    const bottom = f32x4.add(f32x4.div(f32x4.sqrt(largest), root), eps)
    v128.store(m, mi)
    v128.store(v, vi)
    v128.store(p, f32x4.sub(f32x4.mul(keep, v128.load(p)), f32x4.div(f32x4.mul(step, mi), bottom)))
    p += VEC
    g += VEC
    m += VEC
    v += VEC
  }
}

/**
 * With g times the clip factor, c = g − b (0 in the first step) and h = g + β₂c: m ← β₁m + (1 − β₁)g, d ← β₂d + (1 − β₂)c,
 * v ← β₃v + (1 − β₃)h², b ← g, p ← (keep·p − lr(m/c₁ + β₂d/c₂)/(√v/√c₃ + eps)) · shrink.
 * args: 0 table of (p, g, m, d, v, b, started, vectors), 1 finite, 2 clip, 3 c₁, 4 c₂, 5 c₃ (addresses), then numbers: 6 lr,
 * 7 β₁, 8 1 − β₁, 9 β₂, 10 1 − β₂, 11 β₃, 12 1 − β₃, 13 eps, 14 keep, 15 shrink
 */
export function adan(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + (<usize>chunk << 5)
  let p = <usize>load<u32>(line)
  let g = <usize>load<u32>(line, 4)
  let m = <usize>load<u32>(line, 8)
  let d = <usize>load<u32>(line, 12)
  let v = <usize>load<u32>(line, 16)
  let b = <usize>load<u32>(line, 20)
  const first = load<f32>(<usize>load<u32>(line, 24)) == 0
  const clip = v128.load32_splat(pointer(args, 2))
  const c1 = v128.load32_splat(pointer(args, 3)), c2 = v128.load32_splat(pointer(args, 4))
  const root = splat(sqrt(load<f32>(pointer(args, 5))))
  const lr = splat(number(args, 6))
  const beta1 = splat(number(args, 7)), rest1 = splat(number(args, 8))
  const beta2 = splat(number(args, 9)), rest2 = splat(number(args, 10))
  const beta3 = splat(number(args, 11)), rest3 = splat(number(args, 12))
  const eps = splat(number(args, 13))
  const keep = splat(number(args, 14)), shrink = splat(number(args, 15))
  for (let n = load<i32>(line, 28); n > 0; --n) {
    const gi = f32x4.mul(clip, v128.load(g))
    const change = first ? splat(0) : f32x4.sub(gi, v128.load(b))
    const ahead = madd(beta2, change, gi)
    const mi = madd(beta1, v128.load(m), f32x4.mul(rest1, gi))
    const di = madd(beta2, v128.load(d), f32x4.mul(rest2, change))
    const vi = madd(beta3, v128.load(v), f32x4.mul(f32x4.mul(rest3, ahead), ahead))
    const top = f32x4.add(f32x4.div(mi, c1), f32x4.div(f32x4.mul(beta2, di), c2))
    const direction = f32x4.div(top, f32x4.add(f32x4.div(f32x4.sqrt(vi), root), eps))
    v128.store(m, mi)
    v128.store(d, di)
    v128.store(v, vi)
    v128.store(b, gi)
    v128.store(p, f32x4.mul(nmadd(lr, direction, f32x4.mul(keep, v128.load(p))), shrink))
    p += VEC
    g += VEC
    m += VEC
    d += VEC
    v += VEC
    b += VEC
  }
}

/**
 * With g times ± the clip factor plus decay·p: b ← momentum·b + rest·g (g in the first step), p ← p − lr·b, or with
 * Nesterov's momentum p ← p − lr(g + momentum·b).
 * args: 0 table of (p, g, b, started or 0, vectors), 1 finite, 2 clip (addresses), then numbers: 3 lr, 4 momentum, 5 rest,
 * 6 decay, 7 sign of g; 8 whether Nesterov's (an integer)
 */
export function sgd(args: usize, chunk: i32): void {
  if (load<f32>(pointer(args, 1)) == 0) return
  const line = pointer(args, 0) + <usize>chunk * 20
  let p = <usize>load<u32>(line)
  let g = <usize>load<u32>(line, 4)
  let b = <usize>load<u32>(line, 8)
  const started = <usize>load<u32>(line, 12)
  const first = started != 0 && load<f32>(started) == 0
  const clip = splat(number(args, 7) * load<f32>(pointer(args, 2)))
  const lr = splat(number(args, 3))
  const momentum = splat(number(args, 4)), rest = splat(number(args, 5))
  const decays = number(args, 6) != 0
  const decay = splat(number(args, 6))
  const nesterov = arg(args, 8) != 0
  for (let n = load<i32>(line, 16); n > 0; --n, p += VEC, g += VEC, b += VEC) {
    const pi = v128.load(p)
    let gi = f32x4.mul(clip, v128.load(g))
    if (decays) gi = madd(decay, pi, gi)
    const bi = first ? gi : madd(momentum, v128.load(b), f32x4.mul(rest, gi))
    v128.store(b, bi)
    v128.store(p, nmadd(lr, nesterov ? madd(momentum, bi, gi) : bi, pi))
  }
}
