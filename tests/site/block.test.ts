/** The diagram of a block: its values are those of the fused block, its rules give the gradients, its lines pass no box. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  concat,
  cpu,
  geluTanh,
  gradients,
  matmul,
  mul,
  permute,
  reshape,
  rng,
  scope,
  sub,
  sum,
  type Tensor,
  transpose,
} from '../../core/index.ts'
import { MDT, mdtPreset } from '../../models/index.ts'
import { blockValues, lossThrough } from '../../site/playground/block.ts'
import {
  type BlockKey,
  type BlockNode,
  blockKeys,
  blockNodes,
  diagram,
  edgesOf,
} from '../../site/playground/block-graph.ts'

const f64 = { backend: cpu, dtype: 'f64' } as const

/** A small MDT whose gates are open: all its parameters are random. */
function openModel() {
  const random = rng(1)
  const pictures = { inputSize: 4, inChannels: 3, numClasses: 2 }
  const model = new MDT(
    { ...mdtPreset('tiny', pictures), hiddenSize: 12, depth: 3, numHeads: 3 },
    { rng: random, ...f64 },
  )
  const state = [...model.stateDict()].map(([name, x]) => {
    const random64 = () => mul(random.normal(x.shape, f64), 0.3)
    return [name, x.dtype === 'f64' ? random64() : x] as const
  })
  model.loadStateDict(new Map(state))
  const [xt, noise] = [random.normal([1, 3, 4, 4], f64), random.normal([1, 3, 4, 4], f64)]
  return { model, example: { xt, noise, t: 300, label: 1 } }
}

const { model, example } = openModel()

/** Relative distance of two tensors, by their largest difference. */
function distance(a: Tensor, b: Tensor): number {
  const [x, y] = [a, b].map(t => Array.from(t.dataSync()))
  assert.is(x.length, y.length)
  const largest = y.reduce((most, v) => Math.max(most, Math.abs(v)), 0)
  assert.ok(largest > 0)
  return x.reduce((most, v, i) => Math.max(most, Math.abs(v - y[i])), 0) / largest
}

test('value by value, a block gives the output and the gradients of the fused one', () => {
  for (const index of [0, 1, 2]) {
    const parameters = model.blocks.items[index].parameters()
    const results = [false, true].map(fused => {
      let at: Tensor[] = []
      const loss = lossThrough(model, example, index, (block, x, c) => {
        const out = fused ? block.forward(x, c) : blockValues(block, x, c).out
        at = [x, c, out]
        return out
      })
      return [loss, ...at, ...gradients(loss, [...at, ...parameters])]
    })
    for (const [i, got] of results[0].entries()) assert.ok(distance(got, results[1][i]) < 1e-12, `block ${index}: ${i}`)
  }
})

test('each rule of the diagram gives the gradient that the tape gives', () => {
  let values: Record<BlockKey, Tensor> | undefined
  const index = 1
  const loss = lossThrough(model, example, index, (block, x, c) => {
    values = blockValues(block, x, c)
    return values.out
  })
  const v = values!
  const slopes = gradients(
    loss,
    blockKeys.map(key => v[key]),
  )
  const g = Object.fromEntries(blockKeys.map((key, i) => [key, slopes[i]])) as Record<BlockKey, Tensor>
  const { attn, mlp } = model.blocks.items[index]
  const [h, T, d] = v.q.shape
  const D = h * d
  const overTokens = (x: Tensor) => sum(x, 1)
  const scaled = (gamma: Tensor, x: Tensor) => mul(x, add(gamma, 1))
  const byToken = (x: Tensor) => reshape(permute(x, [1, 0, 2]), [T, D])
  const slopeOf = (f: (x: Tensor) => Tensor, x: Tensor, cotangent: Tensor) => {
    const at = x.detach().requireGrad()
    return gradients(f(at), [at], { cotangent })[0]
  }
  const rules: Partial<Record<BlockKey, () => Tensor>> = {
    beta1: () => overTokens(g.modulated1),
    gamma1: () => overTokens(mul(g.modulated1, v.normed1)),
    normed1: () => scaled(v.gamma1, g.modulated1),
    modulated1: () => matmul(concat([g.q, g.k, g.v].map(byToken), 1), attn.qkv.weight),
    q: () => mul(matmul(g.logits, v.k), 1 / Math.sqrt(d)),
    k: () => mul(matmul(transpose(g.logits), v.q), 1 / Math.sqrt(d)),
    v: () => matmul(transpose(v.weights), g.heads),
    logits: () => mul(v.weights, sub(g.weights, sum(mul(v.weights, g.weights), 2, true))),
    weights: () => matmul(g.heads, v.v, { transposeB: true }),
    heads: () => permute(reshape(matmul(g.branch1, attn.proj.weight), [T, h, d]), [1, 0, 2]),
    branch1: () => mul(v.alpha1, g.middle),
    alpha1: () => overTokens(mul(g.middle, v.branch1)),
    beta2: () => overTokens(g.modulated2),
    gamma2: () => overTokens(mul(g.modulated2, v.normed2)),
    normed2: () => scaled(v.gamma2, g.modulated2),
    modulated2: () => matmul(g.hidden, mlp.fc1.weight),
    hidden: () => slopeOf(geluTanh, v.hidden, g.active),
    active: () => matmul(g.branch2, mlp.fc2.weight),
    branch2: () => mul(v.alpha2, g.out),
    alpha2: () => overTokens(mul(g.out, v.branch2)),
  }
  // Gradients of x, c, r and o have parts from a layer norm or from other blocks.
  assert.equal(
    blockKeys.filter(key => rules[key] === undefined),
    ['x', 'c', 'middle', 'out'],
  )
  for (const [key, rule] of Object.entries(rules))
    assert.ok(distance(scope(rule), g[key as BlockKey]) < 1e-12, `${key}: ${blockNodes[key as BlockKey].rule}`)
})

test('lines of the diagram join two boxes and pass no other', () => {
  const nodes: Readonly<Record<BlockKey, BlockNode>> = blockNodes
  const boxOf = ({ span: [x, w], row }: BlockNode) => [
    x,
    row * diagram.pitch,
    x + w,
    row * diagram.pitch + diagram.rowHeight,
  ]
  const edges = edgesOf()
  assert.is(
    edges.length,
    blockKeys.reduce((count, key) => count + nodes[key].inputs.length, 0),
  )
  for (const { from, to, points } of edges) {
    for (const [key, [x, y]] of [
      [from, points[0]],
      [to, points.at(-1)!],
    ] as const) {
      const [left, top, right, bottom] = boxOf(nodes[key])
      assert.ok(x >= left && x <= right && y >= top && y <= bottom, `${from} → ${to} touches ${key}`)
    }
    for (let i = 1; i < points.length; i++) {
      const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]]
      assert.ok(x0 === x1 || y0 === y1, `${from} → ${to} runs along the axes`)
      const hit = blockKeys.filter(key => {
        const [left, top, right, bottom] = boxOf(nodes[key])
        return (
          Math.max(x0, x1) > left && Math.min(x0, x1) < right && Math.max(y0, y1) > top && Math.min(y0, y1) < bottom
        )
      })
      assert.equal(hit, [], `${from} → ${to}`)
    }
  }
})

test.run()
