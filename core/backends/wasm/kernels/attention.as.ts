/**
 * Multi-head self-attention on the packed projection qkv (N, T, 3, h, d), one head of one picture at a time, in panels of
 * 8 queries. Scores are computed transposed, scores[key, query] = k·q, so that a panel (T, 8) has one query per lane:
 * softmax needs no sum across lanes, and the panel is already packed for its product with v (gemm.as.ts). No T × T matrix
 * is ever stored: the gradient computes the probabilities again from qkv, and keeps those of at most 64 queries.
 */

import { Address, OptionalAddress } from './arguments.as'
import { VEC, WORD, madd, splat } from './simd.as'
import { EXP2, FLUSHED_RANGE2, ROUND_BIASED, c, ones } from './math.as'
import { multiplyPacked, packColumns, packRows, storeTransposed, wholeTiles } from './gemm.as'
import { thread } from './threads.as'

/** Queries of a panel, and bytes of its rows. */
const PANEL: i32 = 8
const ROW: usize = 2 * VEC

const LOG2_E: f32 = 1.44269504088896341

@inline
function roundUp(n: i32, to: i32): i32 {
  return (n + to - 1) & -to
}

/** out (4·tiles, 8) = packed rows × a packed panel of 8 columns. */
@inline
function multiplyPanel(a: usize, b: usize, tiles: i32, K: i32, out: usize): void {
  wholeTiles(a, b, b + <usize>K * ROW, tiles, K, out, ROW, 0, false)
}

/** Rows of d floats, `fromStep` bytes apart → rows `step` bytes apart. */
function copyRows(from: usize, fromStep: usize, rows: i32, d: i32, to: usize, step: usize): void {
  for (; rows > 0; --rows, from += fromStep, to += step) memory.copy(to, from, <usize>d << 2)
}

/** The first `rows` ≤ 8 columns of x (d, 8) → rows of d floats at `to`, `step` bytes apart, times a factor per column. */
function storeQueries(x: usize, d: i32, left: v128, right: v128, rows: i32, to: usize, step: usize): void {
  let i = 0
  if (rows == PANEL) {
    for (; i + 4 <= d; i += 4, x += 4 * ROW, to += VEC) {
      storeTransposed(
        f32x4.mul(v128.load(x), left), f32x4.mul(v128.load(x, 32), left),
        f32x4.mul(v128.load(x, 64), left), f32x4.mul(v128.load(x, 96), left), to, step,
      )
      storeTransposed(
        f32x4.mul(v128.load(x, 16), right), f32x4.mul(v128.load(x, 48), right),
        f32x4.mul(v128.load(x, 80), right), f32x4.mul(v128.load(x, 112), right), to + 4 * step, step,
      )
    }
  }
  for (; i < d; ++i, x += ROW, to += WORD) {
    v128.store(x, f32x4.mul(v128.load(x), left))
    v128.store(x, f32x4.mul(v128.load(x, VEC), right), VEC)
    for (let r: usize = 0; r < <usize>rows; ++r) store<f32>(to + r * step, load<f32>(x + (r << 2)))
  }
}

/** Four vectors at x, `step` bytes apart: x = x·factor + the transpose of the rows a, b, d and e. */
@inline
function addTransposed(a: v128, b: v128, d: v128, e: v128, x: usize, step: usize, factor: v128): void {
  const ab0 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
  const ab1 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
  const de0 = v128.shuffle<f32>(d, e, 0, 4, 1, 5)
  const de1 = v128.shuffle<f32>(d, e, 2, 6, 3, 7)
  v128.store(x, madd(v128.load(x), factor, v128.shuffle<f64>(ab0, de0, 0, 2)))
  x += step
  v128.store(x, madd(v128.load(x), factor, v128.shuffle<f64>(ab0, de0, 1, 3)))
  x += step
  v128.store(x, madd(v128.load(x), factor, v128.shuffle<f64>(ab1, de1, 0, 2)))
  x += step
  v128.store(x, madd(v128.load(x), factor, v128.shuffle<f64>(ab1, de1, 1, 3)))
}

/** Scores (T, 8) → scores·scale + bias: `rows` ≤ 8 queries have rows of T floats at `bias`, `step` bytes apart. */
function addBias(s: usize, T: i32, scale: v128, bias: usize, step: usize, rows: i32): void {
  // Queries that do not exist read the row of the last one.
  const b1 = bias + <usize>min(1, rows - 1) * step, b2 = bias + <usize>min(2, rows - 1) * step
  const b3 = bias + <usize>min(3, rows - 1) * step, b4 = bias + <usize>min(4, rows - 1) * step
  const b5 = bias + <usize>min(5, rows - 1) * step, b6 = bias + <usize>min(6, rows - 1) * step
  const b7 = bias + <usize>min(7, rows - 1) * step
  let at: usize = 0
  let left = T
  for (; left >= 4; left -= 4, at += VEC, s += 4 * ROW) {
    addTransposed(v128.load(bias + at), v128.load(b1 + at), v128.load(b2 + at), v128.load(b3 + at), s, ROW, scale)
    addTransposed(v128.load(b4 + at), v128.load(b5 + at), v128.load(b6 + at), v128.load(b7 + at), s + VEC, ROW, scale)
  }
  for (; left > 0; --left, at += WORD, s += ROW) {
    const low = f32x4(load<f32>(bias + at), load<f32>(b1 + at), load<f32>(b2 + at), load<f32>(b3 + at))
    const high = f32x4(load<f32>(b4 + at), load<f32>(b5 + at), load<f32>(b6 + at), load<f32>(b7 + at))
    v128.store(s, madd(v128.load(s), scale, low))
    v128.store(s, madd(v128.load(s, VEC), scale, high), VEC)
  }
}

/**
 * Scores s (T, 8) → 2^((s − largest)·factor), the largest of each column. Writes the sums of the columns to `sums`, 8
 * floats, and, where g (T, 8) is given, the sums of the products with g behind them.
 */
@inline
function exponentials(s: usize, T: i32, factor: v128, sums: usize, g: usize): void {
  // A NaN is passed over by pmax and comes back with its exponential.
  let top0 = splat(-Infinity), top1 = top0, other0 = top0, other1 = top0
  const end = s + <usize>T * ROW
  let at = s
  if ((T & 1) != 0) {
    top0 = f32x4.pmax(top0, v128.load(at))
    top1 = f32x4.pmax(top1, v128.load(at, VEC))
    at += ROW
  }
  for (; at < end; at += 2 * ROW) {
    top0 = f32x4.pmax(top0, v128.load(at))
    top1 = f32x4.pmax(top1, v128.load(at, VEC))
    other0 = f32x4.pmax(other0, v128.load(at, 32))
    other1 = f32x4.pmax(other1, v128.load(at, 48))
  }
  top0 = f32x4.pmax(top0, other0)
  top1 = f32x4.pmax(top1, other1)
  let sum0 = splat(0), sum1 = sum0, dot0 = sum0, dot1 = sum0
  for (at = s; at < end; at += ROW) {
    // As exp2Flushed of math.as.ts, of two vectors, which share the constants.
    let k = c(FLUSHED_RANGE2)
    let x = f32x4.pmax(f32x4.mul(f32x4.sub(v128.load(at), top0), factor), k)
    let y = f32x4.pmax(f32x4.mul(f32x4.sub(v128.load(at, VEC), top1), factor), k)
    k = c(ROUND_BIASED)
    const n = f32x4.add(x, k)
    const m = f32x4.add(y, k)
    x = f32x4.sub(x, f32x4.sub(n, k))
    y = f32x4.sub(y, f32x4.sub(m, k))
    k = c(EXP2)
    let l = c(EXP2, 1)
    let p = madd(k, x, l)
    let q = madd(k, y, l)
    k = c(EXP2, 2)
    p = madd(p, x, k)
    q = madd(q, y, k)
    k = c(EXP2, 3)
    p = madd(p, x, k)
    q = madd(q, y, k)
    k = c(EXP2, 4)
    p = madd(p, x, k)
    q = madd(q, y, k)
    k = c(EXP2, 5)
    p = madd(p, x, k)
    q = madd(q, y, k)
    k = ones()
    p = f32x4.mul(madd(p, x, k), i32x4.shl(n, 23))
    q = f32x4.mul(madd(q, y, k), i32x4.shl(m, 23))
    v128.store(at, p)
    v128.store(at, q, VEC)
    sum0 = f32x4.add(sum0, p)
    sum1 = f32x4.add(sum1, q)
    if (g != 0) {
      dot0 = madd(p, v128.load(g), dot0)
      dot1 = madd(q, v128.load(g, VEC), dot1)
      g += ROW
    }
  }
  v128.store(sums, sum0)
  v128.store(sums, sum1, VEC)
  if (g != 0) {
    v128.store(sums, dot0, 2 * VEC)
    v128.store(sums, dot1, 3 * VEC)
  }
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
  scale: f32
  scratch: Address
  threadBytes: usize
}

/** A chunk is (picture, head). Scratch of a thread: see `forwardFloats` in launch/attention.ts. */
export function attention(args: AttentionArgs, chunk: i32): void {
  const T = args.T
  const heads = args.heads
  const d = args.d
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
  const factor = bias != 0 ? splat(LOG2_E) : splat(args.scale * LOG2_E)
  const sums = args.scratch + <usize>thread * args.threadBytes
  const packedK = sums + 2 * ROW // panels of 4 keys
  const packedV = packedK + (<usize>(roundUp(T, 4) * d) << 2) // panels of 4 columns of v
  const packedQ = packedV + (<usize>(roundUp(d, 4) * T) << 2)
  const scores = packedQ + <usize>d * ROW
  const keyTiles = (T + 3) >> 2
  const columnTiles = (d + 3) >> 2
  const result = scores + <usize>keyTiles * (4 * ROW)
  packRows(q + width, token, WORD, T, d, packedK)
  packRows(q + 2 * width, WORD, token, d, T, packedV)
  for (let i = 0; i < T; i += PANEL) {
    const rows = min(T - i, PANEL)
    packColumns(q + <usize>i * token, token, WORD, rows, d, packedQ)
    multiplyPanel(packedK, packedQ, keyTiles, d, scores)
    if (bias != 0) addBias(scores, T, scale, bias + <usize>i * biasStep, biasStep, rows)
    exponentials(scores, T, factor, sums, 0)
    multiplyPanel(packedV, scores, columnTiles, T, result)
    const left = f32x4.div(ones(), v128.load(sums))
    const right = f32x4.div(ones(), v128.load(sums, VEC))
    storeQueries(result, d, left, right, rows, out + <usize>i * width, width)
  }
}

/**
 * e (T, 8): exponentials → probabilities P = e·f. g (T, 8): the gradient by P → P ⊙ (g − t)·scale, where t = Σ P ⊙ g of
 * each column: the gradient by the scores. Both halves of f and t.
 */
function softmaxGradPanel(
  e: usize, g: usize, T: i32, f0: v128, f1: v128, t0: v128, t1: v128, scale: v128,
): void {
  for (const end = e + <usize>T * ROW; e < end; e += ROW, g += ROW) {
    const p = f32x4.mul(v128.load(e), f0)
    const q = f32x4.mul(v128.load(e, VEC), f1)
    v128.store(e, p)
    v128.store(e, q, VEC)
    v128.store(g, f32x4.mul(f32x4.mul(p, f32x4.sub(v128.load(g), t0)), scale))
    v128.store(g, f32x4.mul(f32x4.mul(q, f32x4.sub(v128.load(g, VEC), t1)), scale), VEC)
  }
}

/**
 * x (T, 8), of which `rows` ≤ 8 columns exist → rows of T floats at `to`, `step` bytes apart, or added to what they hold.
 * Then x is multiplied by `scale`.
 */
function takeBiasGrad(x: usize, T: i32, rows: i32, to: usize, step: usize, accumulate: bool, scale: v128): void {
  let key = 0
  if (rows == PANEL) {
    const one = ones()
    for (; key + 4 <= T; key += 4, x += 4 * ROW, to += VEC) {
      const a = v128.load(x), b = v128.load(x, 32), d = v128.load(x, 64), e = v128.load(x, 96)
      const f = v128.load(x, 16), g = v128.load(x, 48), h = v128.load(x, 80), i = v128.load(x, 112)
      if (accumulate) {
        addTransposed(a, b, d, e, to, step, one)
        addTransposed(f, g, h, i, to + 4 * step, step, one)
      } else {
        storeTransposed(a, b, d, e, to, step)
        storeTransposed(f, g, h, i, to + 4 * step, step)
      }
      for (let at: usize = 0; at < 4 * ROW; at += VEC) v128.store(x + at, f32x4.mul(v128.load(x + at), scale))
    }
  }
  for (; key < T; ++key, x += ROW, to += WORD) {
    for (let r: usize = 0; r < <usize>rows; ++r) {
      const v = load<f32>(x + (r << 2))
      const at = to + r * step
      store<f32>(at, accumulate ? load<f32>(at) + v : v)
    }
    v128.store(x, f32x4.mul(v128.load(x), scale))
    v128.store(x, f32x4.mul(v128.load(x, VEC), scale), VEC)
  }
}

/**
 * Panels (T, 8) of `queries` queries, `step` bytes apart → rows of keys, packed as packRows does: for every 4 keys, for
 * each query, four floats. What is written of queries that do not exist is overwritten by the next keys.
 */
function packKeys(panels: usize, step: usize, T: i32, queries: i32, to: usize): void {
  for (let key = 0; key < T; key += 4, panels += 4 * ROW, to += <usize>queries * VEC) {
    let x = panels
    let t = to
    for (let i = 0; i < queries; i += PANEL, x += step, t += PANEL * VEC) {
      storeTransposed(v128.load(x), v128.load(x, 32), v128.load(x, 64), v128.load(x, 96), t, VEC)
      storeTransposed(v128.load(x, 16), v128.load(x, 48), v128.load(x, 80), v128.load(x, 112), t + 4 * VEC, VEC)
    }
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
  /** Queries per block, a multiple of 8. */
  block: i32
  scale: f32
  scratch: Address
  threadBytes: usize
}

/**
 * A chunk is (group of pictures, head). The gradient of a bias that pictures share is summed over the group in slot
 * `chunk`, in the order of pictures. Scratch: see `backwardFloats` in launch/attention.ts.
 */
export function attentionGrad(args: AttentionGradArgs, chunk: i32): void {
  const T = args.T
  const heads = args.heads
  const d = args.d
  const perGroup = args.picturesPerGroup
  const block = args.block
  const group = chunk / heads
  const head = chunk - group * heads
  const scale = splat(args.scale)
  const one = ones()
  const width = <usize>(heads * d) << 2
  const token = 3 * width
  const biasStep = <usize>T << 2
  const wide = <usize>roundUp(d, 4) << 2
  const keyBytes = <usize>(roundUp(T, 4) * d) << 2
  const keyTiles = (T + 3) >> 2
  const columnTiles = (d + 3) >> 2
  const panelBytes = <usize>keyTiles * (4 * ROW)
  const sums = args.scratch + <usize>thread * args.threadBytes
  const kKeys = sums + 2 * ROW // k and v in panels of 4 keys
  const vKeys = kKeys + keyBytes
  const kColumns = vKeys + keyBytes // k in panels of 4 columns
  const panel = kColumns + (<usize>(roundUp(d, 4) * T) << 2) // of q or g, then of gq
  const P = panel + <usize>roundUp(d, 4) * ROW
  const gP = P + panelBytes * (block >> 3)
  const few = gP + panelBytes * (block >> 3) // g or q, a block in panels of 8 columns
  const packed = few + (<usize>(roundUp(d, 8) * block) << 2)
  // With several blocks, gradients of k and v are summed in scratch: in gqkv, rows lie pages apart.
  const several = T > block
  const kSums = packed + (<usize>(roundUp(T, 4) * block + 4 * PANEL) << 2)
  const vSums = kSums + <usize>T * wide
  const shared = args.bias != 0
  const factor = shared ? splat(LOG2_E) : splat(args.scale * LOG2_E)
  const gbias = args.gbias != 0 ? args.gbias + <usize>chunk * <usize>T * biasStep : 0
  const end = min(args.N, (group + 1) * perGroup)
  for (let n = group * perGroup; n < end; ++n) {
    const shift = <usize>n * <usize>T * token + (<usize>(head * d) << 2)
    const q = args.qkv + shift
    const k = q + width
    const gq = args.gqkv + shift
    const g = args.g + <usize>n * <usize>T * width + (<usize>(head * d) << 2)
    const bias = shared ? args.bias + <usize>n * args.biasStep + <usize>head * <usize>T * biasStep : 0
    packRows(k, token, WORD, T, d, kKeys)
    packRows(k + width, token, WORD, T, d, vKeys)
    packRows(k, WORD, token, d, T, kColumns)
    for (let i = 0; i < T; i += block) {
      const queries = min(T - i, block)
      const qi = q + <usize>i * token
      const gi = g + <usize>i * width
      let p = P
      let gp = gP
      for (let j = 0; j < queries; j += PANEL, p += panelBytes, gp += panelBytes) {
        const rows = min(queries - j, PANEL)
        // P = softmax(k q·scale + bias), gP = v g, of 8 queries
        packColumns(qi + <usize>j * token, token, WORD, rows, d, panel)
        multiplyPanel(kKeys, panel, keyTiles, d, p)
        packColumns(gi + <usize>j * width, width, WORD, rows, d, panel)
        multiplyPanel(vKeys, panel, keyTiles, d, gp)
        if (shared) addBias(p, T, scale, bias + <usize>(i + j) * biasStep, biasStep, rows)
        exponentials(p, T, factor, sums, gp)
        const f0 = f32x4.div(one, v128.load(sums))
        const f1 = f32x4.div(one, v128.load(sums, VEC))
        const t0 = f32x4.mul(v128.load(sums, 2 * VEC), f0)
        const t1 = f32x4.mul(v128.load(sums, 3 * VEC), f1)
        softmaxGradPanel(p, gp, T, f0, f1, t0, t1, gbias != 0 ? one : scale)
        if (gbias != 0) {
          takeBiasGrad(gp, T, rows, gbias + <usize>(i + j) * biasStep, biasStep, n > group * perGroup, scale)
        }
        // gq = gS k
        multiplyPanel(kColumns, gp, columnTiles, T, panel)
        storeQueries(panel, d, one, one, rows, gq + <usize>(i + j) * token, token)
      }
      // gv += Pᵀ g
      packKeys(P, panelBytes, T, queries, packed)
      packColumns(gi, WORD, width, d, queries, few)
      if (several) multiplyPacked(packed, few, T, d, queries, vSums, wide, 0, i > 0)
      else multiplyPacked(packed, few, T, d, queries, gq + 2 * width, token, 0, false)
      // gk += gSᵀ q
      packKeys(gP, panelBytes, T, queries, packed)
      packColumns(qi, WORD, token, d, queries, few)
      if (several) multiplyPacked(packed, few, T, d, queries, kSums, wide, 0, i > 0)
      else multiplyPacked(packed, few, T, d, queries, gq + width, token, 0, false)
    }
    if (several) {
      copyRows(kSums, wide, T, d, gq + width, token)
      copyRows(vSums, wide, T, d, gq + 2 * width, token)
    }
  }
}
