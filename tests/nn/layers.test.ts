/**
 * Layers beside those of the papers: names as in PyTorch, batch norm's running moments, masks of multi-head attention, and bad
 * input. Their values are compared with PyTorch's in peers/.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  attention,
  conv1d,
  cpu,
  gradients,
  index,
  linear,
  mean,
  rmsNorm,
  rng,
  scope,
  sum,
  type Tensor,
  tensor,
  variance,
} from '../../core/index.ts'
import { BatchNorm, Conv1d, Dropout, type Init, type Module, MultiHeadAttention, RMSNorm } from '../../nn/index.ts'

const f64 = { dtype: 'f64', backend: cpu } as const
const init = (seed = 1): Init => ({ rng: rng(seed), ...f64 })
const normal = (...shape: number[]) => rng(shape.length).normal(shape, f64)
const shapesOf = (module: Module) => Object.fromEntries([...module.stateDict()].map(([name, x]) => [name, x.shape]))

function close(a: Tensor, b: Tensor | readonly number[], tolerance = 1e-12): void {
  const [x, y] = [a.dataSync(), 'dataSync' in b ? b.dataSync() : b]
  assert.is(x.length, y.length)
  for (let i = 0; i < x.length; i++) assert.ok(Math.abs(x[i] - y[i]) <= tolerance, `at ${i}: ${x[i]} and ${y[i]}`)
}

test('parameters have the names and shapes of PyTorch', () => {
  assert.equal(shapesOf(new RMSNorm(5, init())), { weight: [5] })
  assert.equal(shapesOf(new RMSNorm(5, init(), { affine: false })), {})
  assert.equal(shapesOf(new Conv1d(3, 4, 5, init())), { weight: [4, 3, 5], bias: [4] })
  assert.equal(shapesOf(new Conv1d(3, 4, 5, init(), { bias: false })), { weight: [4, 3, 5] })
  assert.equal(shapesOf(new Dropout()), {})
  const moments = { running_mean: [3], running_var: [3] }
  assert.equal(shapesOf(new BatchNorm(3, init())), { weight: [3], bias: [3], ...moments, num_batches_tracked: [] })
  assert.equal(shapesOf(new BatchNorm(3, init(), { affine: false, countsBatches: false })), moments)
  assert.equal(shapesOf(new MultiHeadAttention(6, 2, init())), {
    in_proj_weight: [18, 6],
    in_proj_bias: [18],
    'out_proj.weight': [6, 6],
    'out_proj.bias': [6],
  })
  assert.equal(shapesOf(new MultiHeadAttention(6, 2, init(), { bias: false, kdim: 4 })), {
    q_proj_weight: [6, 6],
    k_proj_weight: [6, 4],
    v_proj_weight: [6, 6],
    'out_proj.weight': [6, 6],
  })
})

test('RMSNorm and Conv1d are their functions of their parameters', () => {
  const [x, signal] = [normal(2, 3, 5), normal(2, 3, 7)]
  const norm = new RMSNorm(5, init(), { eps: 0.5 })
  close(norm.forward(x), rmsNorm(x, null, 0.5))
  const conv = new Conv1d(3, 2, 3, init(), { stride: 2, padding: 1 })
  close(conv.forward(signal), conv1d(signal, conv.weight, conv.bias, { stride: 2, padding: 1 }))
  assert.ok(conv.weight.dataSync().every(w => Math.abs(w) <= 1 / 3))
})

test('dropout draws in training alone', () => {
  const x = normal(50)
  const layer = new Dropout(0.5)
  close(layer.forward(x), x)
  const y = layer.forward(x, rng(3)).dataSync()
  const dropped = y.filter(v => v === 0).length
  assert.ok(dropped > 10 && dropped < 40)
})

test('batch norm in training takes the moments of the batch, and its running ones follow', () => {
  const bn = new BatchNorm(3, init(), { momentum: 0.25 })
  const x = normal(4, 3, 2, 5)
  const y = bn.forward(x, true)
  close(mean(y, [0, 2, 3]), [0, 0, 0])
  close(variance(y, [0, 2, 3]), [1, 1, 1], 1e-4)
  const moments = [mean(x, [0, 2, 3]), variance(x, [0, 2, 3], { ddof: 1 })].map(t => t.dataSync())
  close(bn.running_mean, moments[0].map(m => 0.25 * m) as unknown as number[])
  close(bn.running_var, moments[1].map(v => 0.75 + 0.25 * v) as unknown as number[])
  bn.forward(x, true)
  assert.equal([...bn.num_batches_tracked!.dataSync()], [2])
  close(bn.running_mean, moments[0].map(m => 0.4375 * m) as unknown as number[])
  const before = bn.running_mean.dataSync()
  bn.forward(x)
  assert.equal(bn.running_mean.dataSync(), before)
})

test('batch norm takes x of any rank, and the gradient passes through its moments', () => {
  const x = normal(4, 3).requireGrad()
  const bn = new BatchNorm(3, init())
  const [g] = gradients(sum(index(bn.forward(x, true), 0)), [x])
  close(sum(g, 0), [0, 0, 0]) // moving all of a channel moves no result
  assert.equal(bn.forward(normal(2, 3, 4)).shape, [2, 3, 4])
})

test('batch norm in training leaves no bytes behind', async () => {
  const backend = await createWasm({ threads: 1 })
  const bn = new BatchNorm(3, { rng: rng(1), backend })
  const x = rng(2).normal([4, 3, 5], { backend })
  const { bytes } = backend.stats()
  scope(() => {
    bn.forward(x, true)
  })
  assert.is(backend.stats().bytes, bytes)
  backend.dispose()
})

// ---- multi-head attention -------------------------------------------------------------------------------------------

test('one head of identity projections is attention', () => {
  const layer = new MultiHeadAttention(4, 1, init())
  const eye = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
  layer.loadStateDict(
    new Map([
      ['in_proj_weight', { shape: [12, 4], data: [...eye, ...eye, ...eye] }],
      ['out_proj.weight', { shape: [4, 4], data: eye }],
    ]),
    { strict: false },
  )
  const [q, k] = [normal(2, 3, 4), normal(2, 5, 4)]
  close(layer.forward(q, k), attention(q, k, k))
  close(layer.forward(q), attention(q, q, q))
})

test('keys that are masked have no influence, whatever their values', () => {
  const layer = new MultiHeadAttention(6, 2, init())
  const [q, k] = [normal(2, 3, 6), normal(2, 5, 6)]
  const mask = tensor([1, 1, 0, 1, 0], { dtype: 'i32', backend: cpu })
  const kept = index(k, ':', tensor([0, 1, 3], { dtype: 'i32', backend: cpu }))
  close(layer.forward(q, k, k, { mask }), layer.forward(q, kept))
})

test('a causal query sees the keys up to its own', () => {
  const layer = new MultiHeadAttention(6, 3, init())
  const x = normal(2, 5, 6)
  const y = layer.forward(x, x, x, { isCausal: true })
  for (let t = 0; t < 5; t++) {
    const seen = index(x, ':', { end: t + 1 })
    close(index(y, ':', t), index(layer.forward(seen), ':', t))
  }
  const mask = tensor([0, 1, 1, 1, 1], f64) // with a mask beside: both have to allow a key
  const both = layer.forward(x, x, x, { isCausal: true, mask })
  const last = index(x, ':', { start: 1, end: 3 })
  close(index(both, ':', 2), index(layer.forward(index(x, ':', { start: 2, end: 3 }), last), ':', 0))
})

test('a query without a key has a result, and a gradient', () => {
  const layer = new MultiHeadAttention(4, 2, init())
  const x = normal(1, 3, 4).requireGrad()
  const y = layer.forward(x, x, x, { mask: tensor([0, 0, 0], f64) })
  close(index(y, 0, 0), layer.out_proj.bias!)
  assert.equal([...gradients(sum(y), [x])[0].dataSync()], new Array(12).fill(0))
})

test('keys and values may have widths of their own', () => {
  const layer = new MultiHeadAttention(6, 1, init(), { kdim: 4, vdim: 5 })
  const [q, k, v] = [normal(2, 3, 6), normal(2, 7, 4), normal(2, 7, 5)]
  const project = (x: Tensor, w: Tensor | null) => linear(x, w!)
  const y = attention(project(q, layer.q_proj_weight), project(k, layer.k_proj_weight), project(v, layer.v_proj_weight))
  close(layer.forward(q, k, v), layer.out_proj.forward(y))
})

test('says what it expected', () => {
  const x = normal(2, 3, 6)
  for (const [message, f] of [
    ['MultiHeadAttention: expected heads that divide the width 6, got 4', () => new MultiHeadAttention(6, 4, init())],
    [
      'MultiHeadAttention: expected queries [N, T, 4], keys [N, S, kdim] and values [N, S, vdim], ' +
        'got [2, 3, 6], [2, 3, 6] and [2, 3, 6]',
      () => new MultiHeadAttention(4, 2, init()).forward(x),
    ],
    ['BatchNorm: expected a momentum in [0, 1], got 2', () => new BatchNorm(3, init(), { momentum: 2 })],
    ['BatchNorm: expected x of shape [N, 3, ...], got [2]', () => new BatchNorm(3, init()).forward(normal(2))],
    [
      'BatchNorm: expected several values per channel in training, got [1, 3]',
      () => new BatchNorm(3, init()).forward(normal(1, 3), true),
    ],
    ['Dropout: expected a probability in [0, 1], got -1', () => new Dropout(-1)],
  ] as const)
    assert.throws(f, (error: Error) => error.message === message)
})

test.run()
