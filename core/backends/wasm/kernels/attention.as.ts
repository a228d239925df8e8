/**
 * Multi-head self-attention on the packed projection qkv (N, T, 3, h, d), one head of one picture at a time, in blocks
 * of query rows: scores = q kᵀ, their softmax with scale and bias, times v. Each product runs on packed panels as in
 * gemm.as.ts. No T × T matrix outlives its block: the gradient computes the probabilities again from qkv.
 */

import { Address, OptionalAddress } from './arguments.as'
import { VEC, WORD, firstLanes, madd, maxLane, splat, storeFirst, sumLanes } from './simd.as'
import { expNegative, select } from './math.as'
import { multiplyPacked, packColumns, packRows } from './gemm.as'
import { thread } from './threads.as'

/**
 * A row of scores → e^(score·scale + bias − largest); returns the sum. Lanes between T and the next multiple of four
 * become 0, so what follows may run over whole vectors. bias = 0: none.
 */
function softmaxRow(s: usize, bias: usize, T: i32, scale: v128): f32 {
  // A NaN is passed over by pmax and comes back with its exponential.
  let top = splat(-Infinity), other = top
  let at: usize = 0
  let left = T
  if (bias != 0) {
    for (; left >= 4; left -= 4, at += VEC) {
      const v = madd(v128.load(s + at), scale, v128.load(bias + at))
      v128.store(s + at, v)
      top = f32x4.pmax(top, v)
    }
  } else {
    for (; left >= 8; left -= 8, at += 2 * VEC) {
      top = f32x4.pmax(top, v128.load(s + at))
      other = f32x4.pmax(other, v128.load(s + at, VEC))
    }
    for (; left >= 4; left -= 4, at += VEC) top = f32x4.pmax(top, v128.load(s + at))
  }
  if (left > 0) {
    let v = v128.load(s + at)
    if (bias != 0) v = madd(v, scale, v128.load(bias + at))
    v = select(firstLanes(left), v, splat(-Infinity))
    v128.store(s + at, v)
    top = f32x4.pmax(top, v)
    at += VEC
  }
  top = splat(maxLane(f32x4.pmax(top, other)))
  // With a bias the scale is in the scores already.
  const rest = bias != 0 ? splat(1) : scale
  let sum = splat(0)
  for (let end = s + at; s < end; s += VEC) {
    const e = expNegative(f32x4.mul(f32x4.sub(v128.load(s), top), rest))
    v128.store(s, e)
    sum = f32x4.add(sum, e)
  }
  return sumLanes(sum)
}

/** n floats times a factor, in place. */
function scaleRow(x: usize, n: i32, factor: f32): void {
  const f = splat(factor)
  let i = 0
  for (; i + 4 <= n; i += 4, x += VEC) v128.store(x, f32x4.mul(v128.load(x), f))
  for (; i < n; ++i, x += WORD) store<f32>(x, load<f32>(x) * factor)
}

@inline
function roundUp(n: i32, to: i32): i32 {
  return (n + to - 1) & -to
}

@unmanaged class AttentionArgs {
  /** (N, T, 3, heads, d) */
  qkv: Address
  /** (heads, T, T) for all pictures, or (N, heads, T, T). */
  bias: OptionalAddress
  /** (N, T, heads, d) */
  out: Address
  T: i32
  heads: i32
  d: i32
  /** Bytes from picture to picture in the bias, 0 where pictures share it. */
  biasStep: usize
  /** Query rows per block. */
  rowsPerBlock: i32
  scale: f32
  scratch: Address
  threadBytes: usize
}

/**
 * A chunk is (picture, head). Scratch of a thread: packed k (8⌈T/8⌉·d), packed v (T·8⌈d/8⌉), a block of scores
 * (rows × 8⌈T/8⌉), packed rows (rows × max(T, d)).
 */
export function attention(args: AttentionArgs, chunk: i32): void {
  const T = args.T
  const heads = args.heads
  const d = args.d
  const block = args.rowsPerBlock
  const n = chunk / heads
  const head = chunk - n * heads
  const scale = splat(args.scale)
  const width = <usize>(heads * d) << 2 // bytes of a token in the result
  const token = 3 * width
  const q = args.qkv + <usize>n * <usize>T * token + (<usize>(head * d) << 2)
  const out = args.out + <usize>n * <usize>T * width + (<usize>(head * d) << 2)
  const biasStep = <usize>T << 2
  let bias = args.bias
  if (bias != 0) bias += <usize>n * args.biasStep + <usize>head * <usize>T * biasStep
  const scoreStep = <usize>roundUp(T, 8) << 2
  const packedK = args.scratch + <usize>thread * args.threadBytes
  const packedV = packedK + scoreStep * d
  const scores = packedV + (<usize>roundUp(d, 8) << 2) * T
  const packed = scores + <usize>block * scoreStep
  packColumns(q + width, token, WORD, T, d, packedK)
  packColumns(q + 2 * width, WORD, token, d, T, packedV)
  for (let i = 0; i < T; i += block) {
    const rows = min(T - i, block)
    packRows(q + <usize>i * token, token, WORD, rows, d, packed)
    multiplyPacked(packed, packedK, rows, T, d, scores, scoreStep, 0, false)
    for (let r = 0; r < rows; ++r) {
      const row = scores + <usize>r * scoreStep
      const sum = softmaxRow(row, bias != 0 ? bias + <usize>(i + r) * biasStep : 0, T, scale)
      scaleRow(row, T, 1 / sum)
    }
    packRows(scores, scoreStep, WORD, rows, T, packed)
    multiplyPacked(packed, packedV, rows, d, T, out + <usize>i * width, width, 0, false)
  }
}

/**
 * p: a row of exponentials → probabilities P, times `factor`. gp: the gradient by P → that of the products q·k,
 * P ⊙ (gP − Σ P ⊙ gP)·scale; before the scale it is the gradient of the bias, which is written to gbias or added there.
 * gbias = 0: none.
 */
function softmaxGradRow(p: usize, gp: usize, T: i32, factor: v128, scale: v128, gbias: usize, accumulate: bool): void {
  let dot = splat(0)
  let at: usize = 0
  let left = T
  for (; left >= 4; left -= 4, at += VEC) {
    const v = f32x4.mul(v128.load(p + at), factor)
    v128.store(p + at, v)
    dot = madd(v, v128.load(gp + at), dot)
  }
  if (left > 0) {
    const g = v128.and(v128.load(gp + at), firstLanes(left))
    const v = f32x4.mul(v128.load(p + at), factor)
    v128.store(gp + at, g)
    v128.store(p + at, v)
    dot = madd(v, g, dot)
    at += VEC
  }
  const total = splat(sumLanes(dot))
  if (gbias == 0) {
    for (const end = gp + at; gp < end; gp += VEC, p += VEC) {
      v128.store(gp, f32x4.mul(f32x4.mul(v128.load(p), scale), f32x4.sub(v128.load(gp), total)))
    }
    return
  }
  for (left = T; left > 0; left -= 4, gp += VEC, p += VEC, gbias += VEC) {
    const v = f32x4.mul(v128.load(p), f32x4.sub(v128.load(gp), total))
    const sum = accumulate ? f32x4.add(v, v128.load(gbias)) : v
    if (left >= 4) v128.store(gbias, sum)
    else storeFirst(gbias, sum, left)
    v128.store(gp, f32x4.mul(v, scale))
  }
}

@unmanaged class AttentionGradArgs {
  /** Gradient of the result (N, T, heads, d). */
  g: Address
  /** (N, T, 3, heads, d), as its gradient gqkv. */
  qkv: Address
  /** (heads, T, T) for all pictures, or (N, heads, T, T). */
  bias: OptionalAddress
  gqkv: Address
  /** One slot (T, T) per chunk; absent where the bias is. */
  gbias: OptionalAddress
  N: i32
  T: i32
  heads: i32
  d: i32
  /** Bytes from picture to picture in the bias, 0 where pictures share it. */
  biasStep: usize
  picturesPerGroup: i32
  /** Query rows per block. */
  rowsPerBlock: i32
  scale: f32
  scratch: Address
  threadBytes: usize
}

/**
 * A chunk is (group of pictures, head). The gradient of a bias that pictures share is summed over the group in slot
 * `chunk`, in the order of pictures. Scratch: see `sizes` in launch/attention.ts.
 */
export function attentionGrad(args: AttentionGradArgs, chunk: i32): void {
  const T = args.T
  const heads = args.heads
  const d = args.d
  const perGroup = args.picturesPerGroup
  const block = args.rowsPerBlock
  const group = chunk / heads
  const head = chunk - group * heads
  const scale = splat(args.scale)
  const width = <usize>(heads * d) << 2
  const token = 3 * width
  const biasStep = <usize>T << 2
  const scoreStep = <usize>roundUp(T, 8) << 2
  const wide = <usize>roundUp(d, 8) << 2
  const kColumns = args.scratch + <usize>thread * args.threadBytes // kᵀ: d × T
  const vColumns = kColumns + scoreStep * d // vᵀ: d × T
  const kRows = vColumns + scoreStep * d // k: T × d
  const few = kRows + wide * T // rows of q or g: block × d
  const P = few + wide * block
  const gP = P + scoreStep * block
  const packed = gP + scoreStep * block
  const gbias = args.gbias != 0 ? args.gbias + <usize>chunk * <usize>T * biasStep : 0
  const end = min(args.N, (group + 1) * perGroup)
  for (let n = group * perGroup; n < end; ++n) {
    const shift = <usize>n * <usize>T * token + (<usize>(head * d) << 2)
    const q = args.qkv + shift
    const k = q + width
    const gq = args.gqkv + shift
    const g = args.g + <usize>n * <usize>T * width + (<usize>(head * d) << 2)
    const bias = args.bias != 0
      ? args.bias + <usize>n * args.biasStep + <usize>head * <usize>T * biasStep
      : 0
    packColumns(k, token, WORD, T, d, kColumns)
    packColumns(k + width, token, WORD, T, d, vColumns)
    packColumns(k, WORD, token, d, T, kRows)
    for (let i = 0; i < T; i += block) {
      const rows = min(T - i, block)
      const qi = q + <usize>i * token
      const gi = g + <usize>i * width
      // P = softmax(q kᵀ·scale + bias), gP = g vᵀ
      packRows(qi, token, WORD, rows, d, packed)
      multiplyPacked(packed, kColumns, rows, T, d, P, scoreStep, 0, false)
      packRows(gi, width, WORD, rows, d, packed)
      multiplyPacked(packed, vColumns, rows, T, d, gP, scoreStep, 0, false)
      for (let r = 0; r < rows; ++r) {
        const row = P + <usize>r * scoreStep
        const sum = softmaxRow(row, bias != 0 ? bias + <usize>(i + r) * biasStep : 0, T, scale)
        const to = gbias != 0 ? gbias + <usize>(i + r) * biasStep : 0
        softmaxGradRow(row, gP + <usize>r * scoreStep, T, splat(1 / sum), scale, to, n > group * perGroup)
      }
      // gv += Pᵀ g
      packRows(P, WORD, scoreStep, T, rows, packed)
      packColumns(gi, WORD, width, d, rows, few)
      multiplyPacked(packed, few, T, d, rows, gq + 2 * width, token, 0, i > 0)
      // gk += gSᵀ q·scale
      packRows(gP, WORD, scoreStep, T, rows, packed)
      packColumns(qi, WORD, token, d, rows, few)
      multiplyPacked(packed, few, T, d, rows, gq + width, token, 0, i > 0)
      // gq = gS k·scale
      packRows(gP, scoreStep, WORD, rows, T, packed)
      multiplyPacked(packed, kRows, rows, d, T, gq + <usize>i * token, token, 0, false)
    }
  }
}
