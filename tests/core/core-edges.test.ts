/**
 * Edges of ops: no elements, infinities, whole numbers, and what can be checked by eye. Values are compared with references
 * in properties.test.ts and registry.test.ts.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  add,
  avgPool2d,
  backward,
  clamp,
  concat,
  copy,
  cpu,
  crossEntropy,
  div,
  gradients,
  groupNorm,
  interpolate,
  layerNorm,
  linear,
  log,
  logSoftmax,
  matmul,
  max,
  maximum,
  maxPool2d,
  mean,
  min,
  minimum,
  mul,
  ones,
  patchify,
  pow,
  relu,
  reshape,
  selfAttention,
  smoothL1,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  transpose,
  variance,
  zeros,
} from '../../core/index.ts'
import { close, normal, tensor64, values } from '../near.ts'
import { leavesNothing } from './helpers.ts'

const wasm = await createWasm({ threads: 1 })
const i32 = (data: number[], shape?: number[]) => tensor(data, { dtype: 'i32', backend: cpu, shape })

test('tensors without elements go through every kind of op and back', () => {
  for (const backend of [cpu, wasm]) {
    leavesNothing(() => {
      const options = { backend }
      const x = zeros([2, 0, 6], options).requireGrad() // a batch of two pictures of which no token was kept
      const w = ones([18, 6], options).requireGrad()
      const b = ones([18], options).requireGrad()
      const attended = selfAttention(linear(layerNorm(x, null, null, 1e-6), w, b), null, 2) // (2, 0, 6)
      assert.equal([...attended.shape], [2, 0, 6])
      const [gx, gw, gb] = gradients(sum(square(attended)), [x, w, b])
      assert.equal([...gx.shape], [2, 0, 6])
      assert.equal(values(gw), new Array(108).fill(0))
      assert.equal(values(gb), new Array(18).fill(0))
      assert.equal(values(sum(x, 1)), new Array(12).fill(0))
      assert.equal(values(matmul(zeros([2, 0], options), zeros([0, 3], options))), new Array(6).fill(0))
      assert.equal([...concat([x, ones([2, 3, 6], options)], 1).shape], [2, 3, 6])
      assert.equal([...softmax(zeros([3, 0], options)).shape], [3, 0])
      assert.equal(values(add(zeros([0], options), ones([1], options))), [])
      assert.equal([...transpose(x).shape], [2, 6, 0])
      assert.ok(Number.isNaN(values(mean(zeros([0], options)))[0]))
      assert.equal(values(max(zeros([0], options))), [-Infinity])
      assert.equal(values(min(zeros([0], options))), [Infinity])
    }, backend)
  }
})

test('layers without inputs, outputs or examples have gradients too, as in PyTorch', () => {
  for (const backend of [cpu, wasm])
    for (const [N, I, O] of [
      [3, 0, 5],
      [3, 4, 0],
      [0, 4, 5],
    ])
      leavesNothing(() => {
        const options = { backend }
        const [x, w, b] = [ones([N, I], options), ones([O, I], options), ones([O], options)].map(t => t.requireGrad())
        const y = linear(x, w, b)
        assert.equal([...y.shape], [N, O])
        const gs = gradients(sum(y), [x, w, b])
        assert.equal(
          gs.map(({ shape }) => [...shape]),
          [[N, I], [O, I], [O]],
        )
        assert.equal(values(gs[2]), new Array(O).fill(N))
      }, backend)
  for (const backend of [cpu, wasm]) {
    const [x, w, b] = [zeros([0, 4, 2, 2], { backend }), ones([4], { backend }), ones([4], { backend })]
    const leaf = x.requireGrad()
    const y = groupNorm(leaf, 2, w, b, 1e-5)
    assert.equal([...y.shape], [0, 4, 2, 2])
    assert.equal([...gradients(sum(y), [leaf])[0].shape], [0, 4, 2, 2])
  }
})

test('softmax of extremes: large logits, a masked entry, a row that is masked throughout but for one', () => {
  for (const backend of [cpu, wasm]) {
    const of = (data: number[][]) => tensor(data, { backend })
    close(values(softmax(of([[1e4, 1e4]]))), [0.5, 0.5], 1e-7)
    assert.equal(values(softmax(of([[0, -Infinity, -Infinity]]))), [1, 0, 0])
    close(values(logSoftmax(of([[1e4, 0]]))), [0, -1e4], 1e-7)
  }
})

test('gradients at the edges of domains are those of calculus or PyTorch', () => {
  const at = (f: (x: Tensor) => Tensor, x: number) => {
    const leaf = tensor64([x]).requireGrad()
    return values(gradients(f(leaf), [leaf])[0])[0]
  }
  assert.is(
    at(x => pow(x, 0), 0),
    0,
  )
  assert.is(
    at(x => pow(x, 1), 0),
    1,
  )
  assert.is(
    at(x => pow(x, 2), 0),
    0,
  )
  assert.is(at(sqrt, 0), Infinity)
  assert.is(
    at(x => clamp(x, 0, 1), 1),
    1,
  )
  assert.is(
    at(x => clamp(x, 0, 1), 1.5),
    0,
  )
  const x = tensor64([2, 5, 5]).requireGrad()
  assert.equal(values(gradients(max(x), [x])[0]), [0, 0.5, 0.5]) // ties share, as in amax
})

test('the gradient of a quotient by its divisor is not that of a square that overflows', () => {
  for (const backend of [cpu, wasm])
    for (const [a, b, wanted] of [
      [1e30, 1e20, -1e-10],
      [1e-30, 1e-25, -1e20],
      [6, 2, -1.5],
    ]) {
      const divisor = tensor(b, { backend }).requireGrad()
      const [g] = gradients(div(tensor(a, { backend }), divisor), [divisor])
      close([values(g)[0] / wanted], [1], 1e-6)
    }
})

test('an infinite gradient stops at a branch that was not taken, and NaN does not', () => {
  for (const place of [
    { backend: cpu, dtype: 'f64' },
    { backend: wasm, dtype: 'f32' },
  ] as const) {
    const at = (f: (x: Tensor) => Tensor, data: number[]) => {
      const leaf = tensor(data, place).requireGrad()
      return values(gradients(sum(f(leaf)), [leaf])[0])
    }
    const none = zeros([2], place)
    // √ has slope ∞ at 0, which clamp, relu, … give for −1.
    assert.equal(
      at(x => sqrt(clamp(x, 0, Infinity)), [-1, 4]),
      [0, 0.25],
    )
    assert.equal(
      at(x => sqrt(relu(x)), [-1, 4]),
      [0, 0.25],
    )
    assert.equal(
      at(x => log(relu(x)), [-1, 4]),
      [0, 0.25],
    )
    for (const f of [(x: Tensor) => maximum(x, none), (x: Tensor) => maximum(none, x)])
      assert.equal(
        at(x => sqrt(f(x)), [-1, 4]),
        [0, 0.25],
      )
    for (const f of [(x: Tensor) => minimum(x, none), (x: Tensor) => minimum(none, x)])
      assert.equal(
        at(x => sqrt(mul(f(x), -1)), [1, -4]),
        [0, -0.25],
      )
    assert.equal(
      at(x => sqrt(max(x)), [-1, 0]),
      [0, Infinity],
    )
    assert.equal(
      at(x => sqrt(sub(pow(x, 0), 1)), [1, 4]),
      [0, 0],
    )
    assert.equal(at(relu, [Number.NaN, -1]), [1, 0]) // PyTorch's
    assert.equal(
      at(x => maximum(x, none), [Number.NaN, -1]),
      [1, 0],
    )
    assert.equal(
      at(x => smoothL1(x, none, 0), [-1, 4]),
      [-0.5, 0.5],
    )
  }
})

test('statistics: mean and variance over axes, biased and not', () => {
  const x = tensor64([
    [1, 2, 3, 4],
    [10, 20, 30, 40],
  ])
  assert.equal(values(mean(x, 1)), [2.5, 25])
  assert.equal(values(variance(x, 1)), [1.25, 125])
  close(values(variance(x, 1, { ddof: 1, keepDims: true })), [5 / 3, 500 / 3], 1e-15)
  assert.equal([...variance(x, 1, { keepDims: true }).shape], [2, 1])
})

test('pooling, resampling and patches of a picture that can be checked by eye', () => {
  const x = tensor64(
    Array.from({ length: 16 }, (_, i) => i),
    [1, 1, 4, 4],
  )
  assert.equal(values(avgPool2d(x, 2)), [2.5, 4.5, 10.5, 12.5])
  assert.equal(values(maxPool2d(x, 2)), [5, 7, 13, 15])
  assert.equal(values(maxPool2d(x, 3, 1)), [10, 11, 14, 15])
  assert.equal(values(interpolate(x, [2, 2], 'nearest')), [0, 2, 8, 10])
  assert.equal(values(interpolate(x, [2, 2], 'bilinear')), [2.5, 4.5, 10.5, 12.5])
  const rows = values(patchify(x, 2))
  assert.equal(rows, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15])
})

test('cross-entropy with label smoothing is the mixture that it says', () => {
  const [x, target] = [normal(1, 4, 5), i32([0, 4, 2, 2])]
  const logp = values(logSoftmax(x))
  const hit = -[0, 4, 2, 2].reduce((total, c, n) => total + logp[n * 5 + c], 0) / 4
  const even = -logp.reduce((a, b) => a + b) / 20
  close(values(crossEntropy(x, target)), [hit], 1e-14)
  close(values(crossEntropy(x, target, 0.1)), [0.9 * hit + 0.1 * even], 1e-14)
})

test('a label smoothing outside [0, 1] and a negative beta are refused', () => {
  const [x, target] = [normal(1, 4, 5), i32([0, 4, 2, 2])]
  for (const bad of [-0.1, 2, Number.NaN])
    assert.throws(
      () => crossEntropy(x, target, bad),
      (e: Error) =>
        e instanceof RangeError && e.message === `crossEntropy: expected label smoothing in [0, 1], got ${bad}`,
    )
  for (const bad of [-1, Number.NaN])
    assert.throws(
      () => smoothL1(x, x, bad),
      (e: Error) => e instanceof RangeError && e.message === `smoothL1: expected beta ≥ 0, got ${bad}`,
    )
})

test('copy has memory of its own, and the gradient of what it copies', () => {
  const x = tensor64([1, 2]).requireGrad()
  const y = copy(x)
  assert.is.not(y.storage, x.storage)
  backward(sum(square(y)))
  assert.equal(values(x.grad!), [2, 4])
})

test('a size of −1 in reshape takes what is left, all of it too', () => {
  const x = tensor64([1, 2, 3, 4, 5, 6], [2, 3])
  for (const [shape, wanted] of [
    [[-1], [6]],
    [
      [-1, 1],
      [6, 1],
    ],
    [
      [3, -1],
      [3, 2],
    ],
    [
      [1, -1, 6],
      [1, 1, 6],
    ],
  ])
    assert.equal(reshape(x, shape).shape, wanted)
  assert.equal(values(reshape(x, [-1])), [1, 2, 3, 4, 5, 6])
})

test('softmax and logSoftmax go along the last axis, and crossEntropy smooths nothing, unless they are told to', () => {
  const x = normal(8, 2, 3, 4)
  assert.equal(values(softmax(x)), values(softmax(x, 2)))
  assert.equal(values(logSoftmax(x)), values(logSoftmax(x, 2)))
  const logits = normal(9, 2, 3)
  const target = tensor([2, 0], { dtype: 'i32', backend: cpu })
  const logp = values(logSoftmax(logits))
  close(values(crossEntropy(logits, target)), [-(logp[2] + logp[3]) / 2], 1e-15)
  // A class that is out of the question costs nothing where nothing is spread over it.
  const certain = tensor64([0, -Infinity], [1, 2])
  assert.equal(values(crossEntropy(certain, tensor([0], { dtype: 'i32', backend: cpu }))).map(Math.abs), [0])
})

test('pools leave padding out of account', () => {
  const x = tensor64([-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12], [1, 1, 3, 4])
  close(values(avgPool2d(x, 3, 1, 1)), [-3.5, -4, -5, -5.5, -5.5, -6, -7, -7.5, -7.5, -8, -9, -9.5], 1e-15)
  assert.equal(values(maxPool2d(x, 3, 2, 1)), [-1, -2, -5, -6])
  assert.equal(values(maxPool2d(x, 3, 1)), [-1, -2])
})

test('bilinear resampling keeps constants and straight lines, down and up', () => {
  const line = tensor64([0, 1, 2, 3, 4, 5, 6, 7], [1, 1, 1, 8])
  close(values(interpolate(line, [1, 4], 'bilinear')), [0.5, 2.5, 4.5, 6.5], 1e-15)
  close(
    values(interpolate(tensor64([0, 1], [1, 1, 1, 2]), [2, 4], 'bilinear')),
    [0, 0.25, 0.75, 1, 0, 0.25, 0.75, 1],
    0,
  )
})

test('matmul takes matrices, not vectors, on either side', () => {
  const [matrix, vector] = [normal(1, 3, 3), normal(2, 3)]
  const wanted = /^matmul: expected operands of rank 2 or more, got /
  assert.throws(() => matmul(matrix, vector), wanted)
  assert.throws(() => matmul(vector, matrix), wanted)
})

test.run()
