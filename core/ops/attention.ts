/**
 * Attention with an additive bias: the definition in three lines, and the fused op that models use, which works on the
 * packed projection qkv and keeps no (T, T) matrix.
 */

import { aBoolean, aFiniteNumber, aTensor, checkFloats, checkOptions, checkTensor, orNull } from '../arguments.ts'
import { attentionLoops } from '../backends/cpu/attention.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { apply, applyMany, type Binary, defineManyOp, defineOp, type Unary } from '../op.ts'
import { broadcastShapes, checkShape, type Shape, ShapeError, sameShape, show } from '../shape.ts'
import { vjpOf } from '../tape.ts'
import { type Tensor, tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { add, mul } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { permute, reshape, split } from './movement.ts'
import { softmax } from './softmax.ts'
import { where } from './where.ts'

/** Options of `attention`. */
export interface ScaledAttentionOptions {
  /** Keys that take part: not 0, of any dtype, broadcastable to (…, T, S). A query without a key has the result 0. */
  readonly mask?: Tensor | null
  /** True if query i sees the keys 0 to i only. */
  readonly isCausal?: boolean
  /** Factor of q kᵀ; 1/√d by default. */
  readonly scale?: number
}

addLoops(attentionLoops)

/**
 * softmax(q kᵀ/√d + bias) v: q (…, T, d), k (…, S, d) and v (…, S, e), bias broadcastable to (…, T, S) or null → (…, T, e).
 * [Attention §3.2.1]; the bias as in [MDT §3.3]. Throws ShapeError.
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  bias: Tensor | null = null,
  options: ScaledAttentionOptions = {},
): Tensor {
  checkFloats('attention', bias === null ? { q, k, v } : { q, k, v, bias })
  checkOptions('attention', options, { mask: orNull(aTensor), isCausal: aBoolean, scale: aFiniteNumber })
  checkHeads(q.shape, k.shape, v.shape)
  const [T, S, d] = [q.shape.at(-2)!, k.shape.at(-2)!, q.shape.at(-1)!]
  const { mask = null, isCausal = false, scale = 1 / Math.sqrt(d) } = options
  const products = mul(matmul(q, k, { transposeB: true }), scale) // (…, T, S)
  for (const [name, t] of Object.entries({ bias, mask }))
    if (t !== null && !sameShape(broadcastShapes('attention', products.shape, t.shape), products.shape))
      throw new ShapeError(
        `attention: expected a ${name} that broadcasts to ${show(products.shape)}, got ${show(t.shape)}`,
      )
  const logits = bias === null ? products : add(products, bias)
  const seen = isCausal ? causal(mask, T, S, q) : mask
  if (seen === null) return matmul(softmax(logits), v) // (…, T, e)
  // A finite number, so that a row without a key is no NaN, in its gradient neither.
  const weights = softmax(where(seen, logits, q.dtype === 'f32' ? -3e38 : -1e308))
  return matmul(where(seen, weights, 0), v)
}

/** The mask (…, T, S) of the keys that are not in the future. */
function causal(mask: Tensor | null, T: number, S: number, { dtype, backend }: Tensor): Tensor {
  const past = Float64Array.from({ length: T * S }, (_, i) => (i % S <= Math.floor(i / S) ? 1 : 0))
  const seen = tensor(past, { shape: [T, S], dtype, backend })
  return mask === null ? seen : where(mask, seen, 0)
}

function checkHeads(q: Shape, k: Shape, v: Shape): void {
  const ranks = [q, k, v].every(({ length }) => length >= 2)
  if (!ranks || q.at(-1) !== k.at(-1) || k.at(-2) !== v.at(-2))
    throw new ShapeError(
      `attention: expected q [..., T, d], k [..., S, d] and v [..., S, e], got ${show(q)}, ${show(k)} and ${show(v)}`,
    )
}

interface Heads {
  readonly heads: number
}

function selfAttentionOf([qkv, bias]: readonly Tensor[], heads: number): Tensor {
  const [N, T, D3] = qkv.shape
  const d = D3 / (3 * heads)
  const parts = permute(reshape(qkv, [N, T, 3, heads, d]), [2, 0, 3, 1, 4]) // (3, N, h, T, d)
  const [q, k, v] = split(parts, 3, 0).map(part => reshape(part, [N, heads, T, d])) // (N, h, T, d)
  return reshape(permute(attention(q, k, v, bias ?? null), [0, 2, 1, 3]), [N, T, heads * d]) // (N, T, h·d)
}

function checkShapes(op: string, qkv: Shape, bias: Shape | undefined, heads: number): void {
  const [N, T, D3] = qkv
  if (!(Number.isInteger(heads) && heads >= 1))
    throw atCaller(new RangeError(`${op}: expected a number of heads from 1, got ${heads}`))
  if (qkv.length !== 3 || D3 % (3 * heads) !== 0)
    throw new ShapeError(`${op}: expected qkv [N, T, 3·${heads}·d], got ${show(qkv)}`)
  if (bias === undefined) return
  const wanted = [heads, T, T]
  if (show(bias) !== show(wanted) && show(bias) !== show([N, ...wanted]))
    throw new ShapeError(`${op}: bias must have shape ${show(wanted)} or ${show([N, ...wanted])}, got ${show(bias)}`)
}

const flops = (qkv: Tensor, products: number) => (2 * products * qkv.size * qkv.shape[1]) / 3

const selfAttentionOp = defineOp<Unary | Binary, Heads, Unary | Binary>({
  name: 'selfAttention',
  infer: ([qkv, bias], { heads }) => {
    checkShapes('selfAttention', qkv, bias, heads)
    return [qkv[0], qkv[1], qkv[2] / 3]
  },
  forward: (k, [qkv, bias], { heads }, out) => k.selfAttention?.(qkv, bias ?? null, heads, out),
  decompose: (x, { heads }) => selfAttentionOf(x, heads),
  save: x => x,
  vjp: (g, x, { heads }) => {
    let gs: readonly Tensor[] | undefined
    const grads = () => (gs ??= applyMany(selfAttentionGradOp, [g, ...x], { heads }))
    return [() => grads()[0], () => grads()[1]]
  },
  flops: ([qkv]) => flops(qkv, 2),
  samples: r => [
    { x: [r(2, 5, 18)], attrs: { heads: 2 } },
    { x: [r(2, 5, 18), r(2, 5, 5)], attrs: { heads: 2 } },
    { x: [r(2, 7, 12), r(2, 1, 7, 7)], attrs: { heads: 1 } },
    { x: [r(1, 1, 6)], attrs: { heads: 2 } },
    { x: [r(1, 67, 24), r(2, 67, 67)], attrs: { heads: 2 } },
  ],
})

const selfAttentionGradOp = defineManyOp<Binary | readonly [Tensor, Tensor, Tensor], Heads>({
  name: 'selfAttentionGrad',
  many: true,
  infer: ([g, ...x], { heads }) => {
    const [qkv, bias] = x
    checkShapes('selfAttentionGrad', qkv, bias, heads)
    checkShape('selfAttentionGrad', 'g', g, [qkv[0], qkv[1], qkv[2] / 3])
    return x
  },
  forward: (k, [g, qkv, bias], { heads }) => k.selfAttentionGrad?.(g, qkv, bias ?? null, heads),
  decompose: ([g, ...x], { heads }) => vjpOf(xs => selfAttentionOf(xs, heads), x, g),
  flops: ([, qkv]) => flops(qkv, 5),
  samples: r => [
    { x: [r(2, 5, 6), r(2, 5, 18)], attrs: { heads: 2 } },
    { x: [r(2, 5, 6), r(2, 5, 18), r(2, 5, 5)], attrs: { heads: 2 } },
    { x: [r(2, 7, 4), r(2, 7, 12), r(2, 1, 7, 7)], attrs: { heads: 1 } },
    { x: [r(1, 67, 8), r(1, 67, 24), r(2, 67, 67)], attrs: { heads: 2 } },
  ],
})

/**
 * Multi-head self-attention on a packed projection: qkv (N, T, 3·h·d), laid out (3, h, d) per token; bias (h, T, T) or
 * (N, h, T, T) or null → (N, T, h·d). Throws ShapeError.
 */
export function selfAttention(qkv: Tensor, bias: Tensor | null, heads: number): Tensor {
  checkTensor('selfAttention', 'qkv', qkv)
  if (bias !== null) checkTensor('selfAttention', 'bias', bias)
  return apply(selfAttentionOp, bias === null ? [qkv] : [qkv, bias], { heads })
}
