/**
 * Kernels of an optimizer step, for many tensors in one pass: the squared norm and updates. A chunk is a line of
 * a table that the host writes: a piece of one row, as addresses and a length. Blocks are multiples of 64 bytes, so whole
 * vectors are read and written. Where the scalar `finite` is 0 nothing is written.
 */

import { Address, Flag } from './arguments.as'
import { VEC, madd, nmadd, splat } from './simd.as'
import { rowSquares } from './reduce.as'

/** A line of a table. */
@inline
function lineOf<L>(table: usize, chunk: i32): L {
  return changetype<L>(table + <usize>chunk * offsetof<L>())
}

// ---- the squared norm -----------------------------------------------------------------------------------------------

@unmanaged class SquaresLine {
  x: usize
  floats: i32
}

@unmanaged class SquaresArgs {
  table: Address
  /** An f64 per line. */
  slots: Address
}

/** slots[chunk] = Σ x², in f64. */
export function squares(args: SquaresArgs, chunk: i32): void {
  const line = lineOf<SquaresLine>(args.table, chunk)
  store<f64>(args.slots + (<usize>chunk << 3), rowSquares(line.x, line.floats))
}

@unmanaged class SumSlotsArgs {
  slots: Address
  n: i32
  out: Address
}

/** out = Σ slots, in order. */
export function sumSlots(args: SumSlotsArgs, chunk: i32): void {
  let sum: f64 = 0
  for (let i = 0; i < args.n; ++i) sum += load<f64>(args.slots + (<usize>i << 3))
  store<f32>(args.out, <f32>sum)
}

// ---- assignment and averages ----------------------------------------------------------------------------------------

/** Of target ← f(target, source). */
@unmanaged class PairLine {
  target: usize
  source: usize
  vectors: i32
}

@unmanaged class AssignArgs {
  table: Address
  finite: Address
}

/** target ← source */
export function assign(args: AssignArgs, chunk: i32): void {
  if (load<f32>(args.finite) == 0) return
  const line = lineOf<PairLine>(args.table, chunk)
  memory.copy(line.target, line.source, <usize>line.vectors * VEC)
}

@unmanaged class LerpArgs {
  table: Address
  finite: Address
  weight: f32
}

/** target ← target + weight(source − target) */
export function lerp(args: LerpArgs, chunk: i32): void {
  if (load<f32>(args.finite) == 0) return
  const line = lineOf<PairLine>(args.table, chunk)
  let y = line.target
  let x = line.source
  const weight = splat(args.weight)
  for (let n = line.vectors; n > 0; --n, x += VEC, y += VEC) {
    const was = v128.load(y)
    v128.store(y, madd(weight, f32x4.sub(v128.load(x), was), was))
  }
}

// ---- AdamW ----------------------------------------------------------------------------------------------------------

@unmanaged class AdamWLine {
  p: usize
  g: usize
  m: usize
  v: usize
  /** The largest v so far, or 0. */
  vmax: usize
  vectors: i32
}

@unmanaged class AdamWArgs {
  table: Address
  finite: Address
  clip: Address
  /** 1 − β₁^t and 1 − β₂^t. */
  correction1: Address
  correction2: Address
  lr: f32
  /** βᵢ and 1 − βᵢ. */
  beta1: f32
  rest1: f32
  beta2: f32
  rest2: f32
  eps: f32
  /** 1 − lr · weight decay. */
  keep: f32
  /** −1 to ascend the gradient, else 1. */
  sign: f32
}

/**
 * m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← keep·p − lr/c₁ · m/(√v/√c₂ + eps), g times the clip factor. With vmax
 * the step divides by the largest v so far.
 */
export function adamW(args: AdamWArgs, chunk: i32): void {
  if (load<f32>(args.finite) == 0) return
  const line = lineOf<AdamWLine>(args.table, chunk)
  let p = line.p
  let g = line.g
  let m = line.m
  let v = line.v
  let vmax = line.vmax
  const clip = splat(args.sign * load<f32>(args.clip))
  const step = splat(args.lr / load<f32>(args.correction1))
  const root = splat(sqrt(load<f32>(args.correction2)))
  const beta1 = splat(args.beta1), rest1 = splat(args.rest1)
  const beta2 = splat(args.beta2), rest2 = splat(args.rest2)
  const eps = splat(args.eps)
  const keep = splat(args.keep)
  for (let n = line.vectors; n > 0; --n) {
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

// ---- Adan -----------------------------------------------------------------------------------------------------------

@unmanaged class AdanLine {
  p: usize
  g: usize
  m: usize
  d: usize
  v: usize
  /** The gradient of the step before. */
  before: usize
  /** The scalar that is 0 in the first step. */
  started: usize
  vectors: i32
}

@unmanaged class AdanArgs {
  table: Address
  finite: Address
  clip: Address
  /** 1 − βᵢ^t. */
  correction1: Address
  correction2: Address
  correction3: Address
  lr: f32
  /** βᵢ and 1 − βᵢ. */
  beta1: f32
  rest1: f32
  beta2: f32
  rest2: f32
  beta3: f32
  rest3: f32
  eps: f32
  /** Factors of p before the step and after it. */
  keep: f32
  shrink: f32
}

/**
 * With g times the clip factor, c = g − before (0 in the first step) and h = g + β₂c: m ← β₁m + (1 − β₁)g,
 * d ← β₂d + (1 − β₂)c, v ← β₃v + (1 − β₃)h², p ← (keep·p − lr(m/c₁ + β₂d/c₂)/(√v/√c₃ + eps)) · shrink.
 */
export function adan(args: AdanArgs, chunk: i32): void {
  if (load<f32>(args.finite) == 0) return
  const line = lineOf<AdanLine>(args.table, chunk)
  let p = line.p
  let g = line.g
  let m = line.m
  let d = line.d
  let v = line.v
  let before = line.before
  const first = load<f32>(line.started) == 0
  const clip = v128.load32_splat(args.clip)
  const c1 = v128.load32_splat(args.correction1), c2 = v128.load32_splat(args.correction2)
  const root = splat(sqrt(load<f32>(args.correction3)))
  const lr = splat(args.lr)
  const beta1 = splat(args.beta1), rest1 = splat(args.rest1)
  const beta2 = splat(args.beta2), rest2 = splat(args.rest2)
  const beta3 = splat(args.beta3), rest3 = splat(args.rest3)
  const eps = splat(args.eps)
  const keep = splat(args.keep), shrink = splat(args.shrink)
  for (let n = line.vectors; n > 0; --n) {
    const gi = f32x4.mul(clip, v128.load(g))
    const change = first ? splat(0) : f32x4.sub(gi, v128.load(before))
    const ahead = madd(beta2, change, gi)
    const mi = madd(beta1, v128.load(m), f32x4.mul(rest1, gi))
    const di = madd(beta2, v128.load(d), f32x4.mul(rest2, change))
    const vi = madd(beta3, v128.load(v), f32x4.mul(f32x4.mul(rest3, ahead), ahead))
    const top = f32x4.add(f32x4.div(mi, c1), f32x4.div(f32x4.mul(beta2, di), c2))
    const direction = f32x4.div(top, f32x4.add(f32x4.div(f32x4.sqrt(vi), root), eps))
    v128.store(m, mi)
    v128.store(d, di)
    v128.store(v, vi)
    v128.store(before, gi)
    v128.store(p, f32x4.mul(nmadd(lr, direction, f32x4.mul(keep, v128.load(p))), shrink))
    p += VEC
    g += VEC
    m += VEC
    d += VEC
    v += VEC
    before += VEC
  }
}

// ---- SGD ------------------------------------------------------------------------------------------------------------

@unmanaged class SgdLine {
  p: usize
  g: usize
  /** The momentum buffer. */
  b: usize
  /** The scalar that is 0 in the first step, or 0 where the first step is like the others. */
  started: usize
  vectors: i32
}

@unmanaged class SgdArgs {
  table: Address
  finite: Address
  clip: Address
  lr: f32
  momentum: f32
  /** 1 − dampening. */
  rest: f32
  decay: f32
  /** −1 to ascend the gradient, else 1. */
  sign: f32
  nesterov: Flag
}

/**
 * With g times the clip factor, plus decay·p: b ← momentum·b + rest·g (g in the first step), p ← p − lr·b, or with
 * Nesterov's momentum p ← p − lr(g + momentum·b).
 */
export function sgd(args: SgdArgs, chunk: i32): void {
  if (load<f32>(args.finite) == 0) return
  const line = lineOf<SgdLine>(args.table, chunk)
  let p = line.p
  let g = line.g
  let b = line.b
  const first = line.started != 0 && load<f32>(line.started) == 0
  const clip = splat(args.sign * load<f32>(args.clip))
  const lr = splat(args.lr)
  const momentum = splat(args.momentum), rest = splat(args.rest)
  const decays = args.decay != 0
  const decay = splat(args.decay)
  const nesterov = args.nesterov != 0
  for (let n = line.vectors; n > 0; --n, p += VEC, g += VEC, b += VEC) {
    const pi = v128.load(p)
    let gi = f32x4.mul(clip, v128.load(g))
    if (decays) gi = madd(decay, pi, gi)
    const bi = first ? gi : madd(momentum, v128.load(b), f32x4.mul(rest, gi))
    v128.store(b, bi)
    v128.store(p, nmadd(lr, nesterov ? madd(momentum, bi, gi) : bi, pi))
  }
}
