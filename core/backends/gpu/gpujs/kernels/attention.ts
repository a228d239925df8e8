/**
 * Self-attention on a packed projection qkv (N, T, 3·h·d), split as (3, h, d). The probabilities (N, h, T, T) are
 * stored between kernels. Used where webgpu/wgsl/attention.ts is not.
 */

import type { BackendKernels, FusedKernels, Operand } from '../../../../backend.ts'
import { sizeOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'
import type { ReduceMiddle } from './reduce.ts'

declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function element(outer: number, rows: number, row: number, width: number, column: number): number
declare function place(i: number, s: number, j: number, t: number, k: number, u: number): number

/** q kᵀ/√d + bias per (n, head, i, j). `each` is T·T·h if every example has its own bias, else 0. */
// biome-ignore format: one group of parameters a line
function attentionScores(
  this: Thread, qkv: Elements, bias: Elements, T: number, h: number, d: number, each: number, scale: number,
): number {
  const n = quotient(this.thread.x, T * T * h)
  const head = along(this.thread.x, h, T * T)
  const i = along(this.thread.x, T, T)
  const j = remainder(this.thread.x, T)
  let total = 0
  for (let k = 0; k < d; k++) {
    total +=
      qkv[element(element(n, T, i, 3, 0), h, head, d, k)] * qkv[element(element(n, T, j, 3, 1), h, head, d, k)]
  }
  return total * scale + bias[place(n, each, element(head, T, i, T, j), 1, 0, 0)]
}

/** The same without a bias. */
function attentionScoresPlain(this: Thread, qkv: Elements, T: number, h: number, d: number, scale: number): number {
  const n = quotient(this.thread.x, T * T * h)
  const head = along(this.thread.x, h, T * T)
  const i = along(this.thread.x, T, T)
  const j = remainder(this.thread.x, T)
  let total = 0
  for (let k = 0; k < d; k++) {
    total += qkv[element(element(n, T, i, 3, 0), h, head, d, k)] * qkv[element(element(n, T, j, 3, 1), h, head, d, k)]
  }
  return total * scale
}

/** Σ over j of p (N, h, T, T) ⊙ v → (N, T, h·d). */
function attentionMix(this: Thread, p: Elements, qkv: Elements, T: number, h: number, d: number): number {
  const n = quotient(this.thread.x, T * h * d)
  const i = along(this.thread.x, T, h * d)
  const head = along(this.thread.x, h, d)
  const k = remainder(this.thread.x, d)
  let total = 0
  for (let j = 0; j < T; j++) {
    total += p[element(element(n, h, head, T, i), T, j, 1, 0)] * qkv[element(element(n, T, j, 3, 2), h, head, d, k)]
  }
  return total
}

/** Gradient of the probabilities: g (N, T, h·d) vᵀ. */
function probabilityGrad(this: Thread, g: Elements, qkv: Elements, T: number, h: number, d: number): number {
  const n = quotient(this.thread.x, T * T * h)
  const head = along(this.thread.x, h, T * T)
  const i = along(this.thread.x, T, T)
  const j = remainder(this.thread.x, T)
  let total = 0
  for (let k = 0; k < d; k++) {
    total += g[element(element(n, T, i, h, head), 1, 0, d, k)] * qkv[element(element(n, T, j, 3, 2), h, head, d, k)]
  }
  return total
}

/** gqkv from the probabilities p and the gradient s of the scores: q's third is s k/√d, k's sᵀ q/√d, v's pᵀ g. */
// biome-ignore format: one group of parameters a line
function qkvGrad(
  this: Thread, g: Elements, qkv: Elements, p: Elements, s: Elements, T: number, h: number, d: number, scale: number,
): number {
  const n = quotient(this.thread.x, T * 3 * h * d)
  const t = along(this.thread.x, T, 3 * h * d)
  const third = along(this.thread.x, 3, h * d)
  const head = along(this.thread.x, h, d)
  const k = remainder(this.thread.x, d)
  let total = 0
  if (third === 0) {
    for (let j = 0; j < T; j++) {
      total += s[element(element(n, h, head, T, t), T, j, 1, 0)] * qkv[element(element(n, T, j, 3, 1), h, head, d, k)]
    }
    return total * scale
  }
  if (third === 1) {
    for (let i = 0; i < T; i++) {
      total += s[element(element(n, h, head, T, i), T, t, 1, 0)] * qkv[element(element(n, T, i, 3, 0), h, head, d, k)]
    }
    return total * scale
  }
  for (let i = 0; i < T; i++) {
    total += p[element(element(n, h, head, T, i), T, t, 1, 0)] * g[element(element(n, T, i, h, head), 1, 0, d, k)]
  }
  return total
}

export function createAttentionKernels(
  { launch, free }: Launcher,
  { softmax, softmaxGrad }: Pick<FusedKernels, 'softmax' | 'softmaxGrad'>,
  reduceMiddle: ReduceMiddle,
) {
  /** softmax(q kᵀ/√d + bias), (N, h, T, T). */
  function probabilities(qkv: Operand, bias: Operand | null, h: number) {
    const [N, T, D3] = qkv.shape
    const d = D3 / (3 * h)
    coordinate('selfAttention', Math.max(T, N * h))
    const square = { dtype: qkv.dtype, shape: [N, h, T, T] } as const
    const each = bias !== null && bias.shape.length === 4 ? h * T * T : 0
    const scale = 1 / Math.sqrt(d)
    const scores =
      bias === null
        ? launch({ key: 'attentionScoresPlain', kernel: attentionScoresPlain }, [qkv], square, [T, h, d], [scale])
        : launch({ key: 'attentionScores', kernel: attentionScores }, [qkv, bias], square, [T, h, d, each], [scale])
    const p = { ...square, storage: softmax({ ...square, storage: scores }, square) }
    free(scores)
    return { N, T, d, scale, square, p }
  }

  return {
    selfAttention(qkv, bias, heads, out) {
      const { T, d, p } = probabilities(qkv, bias, heads)
      const y = launch({ key: 'attentionMix', kernel: attentionMix }, [p, qkv], out, [T, heads, d])
      free(p.storage)
      return y
    },

    selfAttentionGrad(g, qkv, bias, heads) {
      const { N, T, d, scale, square, p } = probabilities(qkv, bias, heads)
      const gp = launch({ key: 'probabilityGrad', kernel: probabilityGrad }, [g, qkv], square, [T, heads, d])
      const s = { ...square, storage: softmaxGrad({ ...square, storage: gp }, p, square) }
      free(gp)
      const gqkv = launch({ key: 'qkvGrad', kernel: qkvGrad }, [g, qkv, p, s], qkv, [T, heads, d], [scale])
      free(p.storage)
      if (bias === null) {
        free(s.storage)
        return [gqkv]
      }
      if (bias.shape.length === 4) return [gqkv, s.storage]
      const gbias = reduceMiddle('sum', s, N, sizeOf(bias.shape), bias)
      free(s.storage)
      return [gqkv, gbias]
    },
  } satisfies Partial<BackendKernels>
}
