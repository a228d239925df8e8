/**
 * Multi-head attention between two sequences, under the parameter names of PyTorch's `nn.MultiheadAttention`. What the models
 * of this repository use, self-attention on a packed projection, is attention.ts.
 */

import { aBoolean, aCount, checkOptions } from '../core/arguments.ts'
import {
  attention,
  full,
  linear,
  matmul,
  mul,
  ones,
  permute,
  reshape,
  ShapeError,
  slice,
  softmax,
  type Tensor,
  tril,
  where,
  zeros,
} from '../core/index.ts'
import { show } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import { constantZero, type Init, uniform, xavierUniform } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Linear } from './linear.ts'
import { Module, parameter } from './module.ts'

/** Options of `MultiHeadAttention`. */
export interface MultiHeadAttentionOptions {
  /** Biases of all projections. Default true. */
  readonly bias?: boolean
  /** Widths of keys and values. Default: that of queries. */
  readonly kdim?: number
  readonly vdim?: number
}

/** Which keys a query sees. */
export interface MultiHeadAttentionMasks {
  /** Not 0 where a query sees a key, of any dtype, broadcastable to (N, h, T, S). PyTorch's module has the opposite sense. */
  readonly mask?: Tensor
  /** True if query i sees keys 0 … i. Default false. */
  readonly isCausal?: boolean
}

/** softmax(q kᵀ/√d) v per head, between linear layers of queries, keys, values and the result. [Attention §3.2.2] */
export class MultiHeadAttention extends Module {
  /** (3·D, D): projections of queries, keys and values, one above the other; null if their widths differ. */
  readonly in_proj_weight: Tensor | null
  /** (D, D), (D, kdim) and (D, vdim) if the widths differ, else null. */
  readonly q_proj_weight: Tensor | null
  readonly k_proj_weight: Tensor | null
  readonly v_proj_weight: Tensor | null
  /** (3·D), null without biases. */
  readonly in_proj_bias: Tensor | null
  readonly out_proj: Linear
  readonly heads: number

  /** Throws RangeError unless the heads divide the width D. */
  constructor(D: number, heads: number, init: Init, options: MultiHeadAttentionOptions = {}) {
    super()
    checkLayer('MultiHeadAttention', { D, heads }, init)
    checkOptions('MultiHeadAttention', options, { bias: aBoolean, kdim: aCount, vdim: aCount })
    if (!(Number.isInteger(heads) && heads >= 1 && D % heads === 0))
      throw atCaller(new RangeError(`MultiHeadAttention: expected heads that divide the width ${D}, got ${heads}`))
    const { bias = true, kdim = D, vdim = D } = options
    const packed = kdim === D && vdim === D
    const weight = (rows: number, columns: number) => parameter(xavierUniform([rows, columns], init))
    this.heads = heads
    this.in_proj_weight = packed ? weight(3 * D, D) : null
    this.q_proj_weight = packed ? null : weight(D, D)
    this.k_proj_weight = packed ? null : weight(D, kdim)
    this.v_proj_weight = packed ? null : weight(D, vdim)
    this.in_proj_bias = bias ? parameter(constantZero([3 * D], init)) : null
    this.out_proj = new Linear(D, D, init, { weight: uniform(1 / Math.sqrt(D)), bias: bias ? constantZero : false })
  }

  /**
   * Queries (N, T, D), keys (N, S, kdim) and values (N, S, vdim) → (N, T, D); keys are the queries unless given, values the
   * keys. A query that sees no key has the result of an attention of 0. Throws ShapeError.
   */
  forward(query: Tensor, key = query, value = key, { mask, isCausal = false }: MultiHeadAttentionMasks = {}): Tensor {
    const [N, T, D] = query.shape
    const [, S] = key.shape
    const ranks = [query, key, value].every(({ shape }) => shape.length === 3 && shape[0] === N)
    if (!ranks || value.shape[1] !== S || D !== this.out_proj.weight.shape[0])
      throw new ShapeError(
        `MultiHeadAttention: expected queries [N, T, ${this.out_proj.weight.shape[0]}], keys [N, S, kdim] and values ` +
          `[N, S, vdim], got ${show(query.shape)}, ${show(key.shape)} and ${show(value.shape)}`,
      )
    const weights = [this.q_proj_weight, this.k_proj_weight, this.v_proj_weight]
    const [q, k, v] = [query, key, value].map((x, i) => {
      const y = linear(x, weights[i] ?? part(this.in_proj_weight!, i), this.in_proj_bias && part(this.in_proj_bias, i))
      return permute(reshape(y, [N, x.shape[1], this.heads, D / this.heads]), [0, 2, 1, 3]) // (N, h, T, d)
    })
    const seen = isCausal ? past(T, S, query, mask) : mask
    const y = seen === undefined ? attention(q, k, v) : maskedAttention(q, k, v, seen) // (N, h, T, d)
    return this.out_proj.forward(reshape(permute(y, [0, 2, 1, 3]), [N, T, D]))
  }
}

/** Part i of three equal parts along the first axis. */
function part(x: Tensor, i: number): Tensor {
  const D = x.shape[0] / 3
  return slice(x, 0, i * D, (i + 1) * D)
}

/** `attention` of the keys that are seen. */
function maskedAttention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor): Tensor {
  const { dtype, backend } = q
  const number = (value: number) => full([], value, { dtype, backend })
  const logits = mul(matmul(q, k, { transposeB: true }), 1 / Math.sqrt(q.shape.at(-1)!)) // (N, h, T, S)
  // A finite number, so that a query without a key is no NaN, nor is its gradient.
  const weights = softmax(where(seen, logits, number(dtype === 'f32' ? -3e38 : -1e308)))
  return matmul(where(seen, weights, number(0)), v)
}

/** Keys that are seen and no later than the query: (T, S), or broadcast with a mask. */
function past(T: number, S: number, { dtype, backend }: Tensor, mask: Tensor | undefined): Tensor {
  const seen = tril(ones([T, S], { dtype, backend }))
  return mask === undefined ? seen : where(mask, seen, zeros([], { dtype, backend }))
}
