/**
 * Attention with an additive bias: the definition in three lines, and the fused op that models use, which works on the
 * packed projection qkv and keeps no (T, T) matrix. Next: loss.ts.
 */

import { attentionLoops } from '../backends/cpu/attention.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { apply, applyMany, type Binary, checkFloat, defineManyOp, defineOp, type Unary } from '../op.ts'
import { checkShape, type Shape, ShapeError, show } from '../shape.ts'
import { vjpOf } from '../tape.ts'
import type { Tensor } from '../tensor.ts'
import { add, mul } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { permute, reshape, split } from './movement.ts'
import { softmax } from './softmax.ts'

addLoops(attentionLoops)

/**
 * softmax(q kᵀ/√d + bias) v: q (…, T, d), k and v (…, S, d), bias broadcastable to (…, T, S) or null → (…, T, d).
 * [Attention §3.2.1]; the bias as in [MDT §3.3].
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | null = null): Tensor {
  checkFloat('attention', q, k, v)
  const logits = mul(matmul(q, k, { transposeB: true }), 1 / Math.sqrt(q.shape.at(-1)!)) // (…, T, S)
  return matmul(softmax(bias === null ? logits : add(logits, bias)), v) // (…, T, d)
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
    throw new RangeError(`${op}: expected a number of heads from 1, got ${heads}`)
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
  return apply(selfAttentionOp, bias === null ? [qkv] : [qkv, bias], { heads })
}
