/**
 * Multi-head self-attention on a joint projection, softmax(q kᵀ/√d + bias) v, and its gradient, one head after the other
 * with the whole T × T matrix of probabilities written out. qkv is (N, T, 3·h·d), split as (3, h, d).
 */

import type { BackendKernels, Operand } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function attentionLoops(host: Host) {
  return {
    selfAttention(qkv, bias, heads, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(qkv.storage), host.view(y)]
      const B = bias === null ? null : host.view(bias.storage)
      eachHead(qkv, bias, heads, ({ T, d, D, q, k, v, result, biasAt }) => {
        const P = probabilities(X, q, k, B, biasAt, T, d, D)
        const row = new Float64Array(d)
        for (let i = 0; i < T; i++) {
          row.fill(0)
          for (let j = 0; j < T; j++) addScaled(row, 0, P[i * T + j], X, v + j * 3 * D, d)
          Y.set(row, result + i * D)
        }
      })
      return y
    },

    selfAttentionGrad(g, qkv, bias, heads) {
      const gqkv = output(host, qkv)
      const gbias = bias === null ? null : output(host, bias)
      const [G, X] = [host.view(g.storage), host.view(qkv.storage)]
      const B = bias === null ? null : host.view(bias.storage)
      const sums = new Float64Array(sizeOf(qkv.shape))
      const biasSums = new Float64Array(bias === null ? 0 : sizeOf(bias.shape))
      eachHead(qkv, bias, heads, ({ T, d, D, q, k, v, result, biasAt }) => {
        const P = probabilities(X, q, k, B, biasAt, T, d, D)
        const gP = new Float64Array(T)
        const scale = 1 / Math.sqrt(d)
        for (let i = 0; i < T; i++) {
          const gi = result + i * D
          let mean = 0 // Σ_j P_ij gP_ij, the row's softmax term
          for (let j = 0; j < T; j++) {
            gP[j] = dot(G, gi, X, v + j * 3 * D, d)
            mean += P[i * T + j] * gP[j]
          }
          for (let j = 0; j < T; j++) {
            const gScore = P[i * T + j] * (gP[j] - mean)
            if (bias !== null) biasSums[biasAt + i * T + j] += gScore
            addScaled(sums, q + i * 3 * D, gScore * scale, X, k + j * 3 * D, d)
            addScaled(sums, k + j * 3 * D, gScore * scale, X, q + i * 3 * D, d)
            addScaled(sums, v + j * 3 * D, P[i * T + j], G, gi, d)
          }
        }
      })
      host.view(gqkv).set(sums)
      if (gbias === null) return [gqkv]
      host.view(gbias).set(biasSums)
      return [gqkv, gbias]
    },
  } satisfies Partial<BackendKernels>
}

/** Where one head of one example lies: token i's query begins at q + 3·D·i, and its result at result + D·i. */
interface Head {
  readonly T: number
  readonly d: number
  readonly D: number
  readonly q: number
  readonly k: number
  readonly v: number
  readonly result: number
  readonly biasAt: number
}

function eachHead(qkv: Operand, bias: Operand | null, heads: number, each: (head: Head) => void): void {
  const [N, T, width] = qkv.shape
  const D = width / 3
  const d = D / heads
  const biasPerExample = bias !== null && sizeOf(bias.shape) === N * heads * T * T
  for (let n = 0; n < N; n++) {
    for (let h = 0; h < heads; h++) {
      const q = n * T * 3 * D + h * d
      const biasAt = ((biasPerExample ? n * heads : 0) + h) * T * T
      each({ T, d, D, q, k: q + D, v: q + 2 * D, result: n * T * D + h * d, biasAt })
    }
  }
}

/** softmax(q kᵀ/√d + bias) of one head, (T, T). */
function probabilities(
  x: TypedArray,
  q: number,
  k: number,
  bias: TypedArray | null,
  biasAt: number,
  T: number,
  d: number,
  D: number,
): Float64Array {
  const P = new Float64Array(T * T)
  const scale = 1 / Math.sqrt(d)
  for (let i = 0; i < T; i++) {
    let max = -Infinity
    for (let j = 0; j < T; j++) {
      const score = dot(x, q + i * 3 * D, x, k + j * 3 * D, d) * scale + (bias === null ? 0 : bias[biasAt + i * T + j])
      P[i * T + j] = score
      max = Math.max(max, score)
    }
    let sum = 0
    for (let j = 0; j < T; j++) {
      P[i * T + j] = Math.exp(P[i * T + j] - max)
      sum += P[i * T + j]
    }
    for (let j = 0; j < T; j++) P[i * T + j] /= sum
  }
  return P
}

function dot(a: TypedArray, i: number, b: TypedArray, j: number, n: number): number {
  let sum = 0
  for (let k = 0; k < n; k++) sum += a[i + k] * b[j + k]
  return sum
}

/** y[at …] += s · x[from …], n elements. */
function addScaled(y: Float64Array, at: number, s: number, x: TypedArray, from: number, n: number): void {
  for (let k = 0; k < n; k++) y[at + k] += s * x[from + k]
}
