/**
 * Runs one block of the small trained model value by value, and asks for the gradient of the loss by each of them. Models
 * fuse these steps; a test holds both ways equal. Used by studio.ts.
 */

import {
  add,
  concat,
  geluTanh,
  gradients,
  layerNorm,
  matmul,
  mean,
  mul,
  permute,
  reshape,
  scope,
  slice,
  softmax,
  split,
  square,
  sub,
  type Tensor,
} from '../../core/index.ts'
import { eps } from '../../models/dit.ts'
import type { MDT, MDTBlock } from '../../models/index.ts'
import { type BlockKey, type BlockValue, blockKeys } from './block-graph.ts'

/** All values of a block for tokens x (1, T, D) and the condition c (1, D). Attention's are (h, T, d) and (h, T, T). */
export function blockValues(block: MDTBlock, x: Tensor, c: Tensor): Record<BlockKey, Tensor> {
  const { attn, mlp } = block
  const [, T, D] = x.shape
  const [h, d] = [attn.heads, D / attn.heads]
  const [beta1, gamma1, alpha1, beta2, gamma2, alpha2] = block.adaLN_modulation.vectors(c) // (1, D)
  const modulate = (normed: Tensor, beta: Tensor, gamma: Tensor) => add(mul(normed, add(gamma, 1)), beta)

  const normed1 = layerNorm(x, null, null, eps) // (1, T, D)
  const modulated1 = modulate(normed1, beta1, gamma1)
  const qkv = permute(reshape(attn.qkv.forward(modulated1), [T, 3, h, d]), [1, 2, 0, 3]) // (3, h, T, d)
  const [q, k, v] = split(qkv, 3, 0).map(part => reshape(part, [h, T, d]))
  const products = mul(matmul(q, k, { transposeB: true }), 1 / Math.sqrt(d)) // (h, T, T)
  const bias = attn.rel_pos_bias?.forward()
  const logits = bias === undefined ? products : add(products, bias)
  const weights = softmax(logits)
  const heads = matmul(weights, v) // (h, T, d)
  const branch1 = attn.proj.forward(reshape(permute(heads, [1, 0, 2]), [1, T, D]))
  const middle = add(x, mul(branch1, alpha1))

  const normed2 = layerNorm(middle, null, null, eps)
  const modulated2 = modulate(normed2, beta2, gamma2)
  const hidden = mlp.fc1.forward(modulated2) // (1, T, 4 D)
  const active = geluTanh(hidden)
  const branch2 = mlp.fc2.forward(active)
  const out = add(middle, mul(branch2, alpha2))
  const attention = { normed1, modulated1, q, k, v, logits, weights, heads, branch1, middle }
  return {
    x,
    c,
    beta1,
    gamma1,
    alpha1,
    beta2,
    gamma2,
    alpha2,
    ...attention,
    normed2,
    modulated2,
    hidden,
    active,
    branch2,
    out,
  }
}

/** Runs a block, value by value or fused. Returns its output (1, T, D). */
export type RunBlock = (block: MDTBlock, x: Tensor, c: Tensor) => Tensor

/**
 * Mean squared error of the noise (1, 3, S, S) that the model predicts for xt (1, 3, S, S) at step t; `run` computes the
 * block of that index. Labels are as in `MDT.forward`.
 */
export function lossThrough(
  model: MDT,
  { xt, noise, t, label }: { readonly xt: Tensor; readonly noise: Tensor; readonly t: number; readonly label: number },
  index: number,
  run: RunBlock,
): Tensor {
  const { depth, decodeLayer } = model.options
  const c = model.condition(1, [t], [label]) // (1, D)
  let x = model.embed(xt) // (1, T, D)
  for (const [i, block] of [...model.blocks].entries()) {
    if (i === depth - decodeLayer) x = add(x, model.decoder_pos_embed)
    x = i === index ? run(block, x, c) : block.forward(x, c)
  }
  const output = model.unpatchify(model.final_layer.forward(x, c)) // (1, 6, S, S)
  return mean(square(sub(slice(output, 1, 0, noise.shape[1]), noise)))
}

/** Values and gradients of a block of the model, and the loss. */
export async function runBlock(
  model: MDT,
  example: Parameters<typeof lossThrough>[1],
  index: number,
): Promise<{ loss: number; values: Record<BlockKey, BlockValue> }> {
  // One tensor each, so that a device is read three times, not fifty.
  const found = scope(() => {
    let at: Record<BlockKey, Tensor> | undefined
    const loss = lossThrough(model, example, index, (block, x, c) => {
      at = blockValues(block, x, c)
      return at.out
    })
    const values = blockKeys.map(key => at![key])
    const slopes = gradients(loss, values)
    const flat = (tensors: readonly Tensor[]) =>
      concat(
        tensors.map(x => reshape(x, [x.size])),
        0,
      )
    return { loss, shapes: values.map(({ shape }) => shape), values: flat(values), slopes: flat(slopes) }
  })
  const [[loss], values, slopes] = await Promise.all([found.loss.data(), found.values.data(), found.slopes.data()])
  for (const x of [found.loss, found.values, found.slopes]) x.dispose()
  let at = 0
  const entries = blockKeys.map((key, i) => {
    const shape = found.shapes[i]
    const from = at
    at += shape.reduce((size, n) => size * n, 1)
    const to = at
    const part = (all: ArrayLike<number>) => Float32Array.from((all as Float32Array).subarray(from, to))
    return [key, { shape, values: part(values), gradient: part(slopes) }] as const
  })
  return { loss, values: Object.fromEntries(entries) as Record<BlockKey, BlockValue> }
}
