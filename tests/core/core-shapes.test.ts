/** Every complaint of an op about shapes says op, wanted, got. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  adaLayerNorm,
  add,
  avgPool2d,
  broadcastTo,
  concat,
  conv2d,
  convTranspose2d,
  cpu,
  crossEntropy,
  embedding,
  fold,
  gatedResidual,
  gatherRows,
  gradients,
  groupNorm,
  interpolate,
  l1,
  layerNorm,
  linear,
  logSoftmax,
  matmul,
  max,
  maxPool2d,
  mean,
  mse,
  mul,
  pad,
  patchify,
  permute,
  pick,
  registry,
  reshape,
  ShapeError,
  scatterAdd,
  scatterRows,
  selfAttention,
  slice,
  smoothL1,
  softmax,
  split,
  stack,
  sum,
  type Tensor,
  tensor,
  transpose,
  unfold,
  unsqueeze,
  variance,
  where,
  zeros,
} from '../../core/index.ts'
import { apply, applyMany, untyped } from '../../core/op.ts'
import { geluGrad, geluTanhGrad, siluGrad } from '../../core/ops/activation.ts'
import { layerNormGrad } from '../../core/ops/norm.ts'
import { logSoftmaxGrad, softmaxGrad } from '../../core/ops/softmax.ts'
import { values } from '../near.ts'
import { leavesNothing } from './helpers.ts'

const wasm = await createWasm({ threads: 1 })
const i32 = (data: number[], shape?: number[]) => tensor(data, { dtype: 'i32', backend: cpu, shape })

// ---- every complaint about shapes says op, wanted, got ---------------------------------------------------------------

const x23 = zeros([2, 3])
const image = zeros([1, 3, 4, 4])
const window = { kernel: [2, 2], stride: [1, 1], padding: [0, 0, 0, 0] } as const
const complaints: Record<string, () => unknown> = {
  add: () => add(x23, zeros([2])),
  where: () => where(x23, zeros([4]), zeros([3])),
  'where ': () => where(zeros([4]), x23, x23),
  sum: () => sum(x23, 2),
  'sum ': () => sum(x23, [0, -2]),
  max: () => max(x23, -3),
  mean: () => mean(x23, 1.5),
  variance: () => variance(x23, 7),
  matmul: () => matmul(x23, x23),
  'matmul ': () => matmul(x23, zeros([2])),
  'matmul  ': () => matmul(zeros([2, 2, 3]), zeros([3, 3, 4])),
  linear: () => linear(x23, zeros([4, 2])),
  'linear ': () => linear(x23, zeros([4, 3]), zeros([3])),
  reshape: () => reshape(x23, [4]),
  'reshape ': () => reshape(x23, [4, -1]),
  'reshape  ': () => reshape(x23, [-2, -3]),
  'reshape   ': () => reshape(x23, [-1, -1, 6]),
  'reshape    ': () => reshape(zeros([0, 3]), [0, -1]),
  unsqueeze: () => unsqueeze(x23, 4),
  transpose: () => transpose(zeros([3])),
  'transpose ': () => transpose(zeros([])),
  permute: () => permute(x23, [0, 0]),
  'permute ': () => permute(x23, [0]),
  broadcastTo: () => broadcastTo(x23, [3]),
  'broadcastTo ': () => broadcastTo(x23, [3, 3]),
  slice: () => slice(x23, 1, 2, 5),
  'slice ': () => slice(x23, 1, 2, 1),
  'slice  ': () => slice(x23, 2, 0),
  'slice   ': () => slice(zeros([4]), 0, 0.5, 2.5),
  'slice    ': () => slice(zeros([4]), 0, 0, 2.5),
  split: () => split(x23, 2, 1),
  'split ': () => split(x23, -1, 0),
  'split  ': () => split(x23, 0, 0),
  'split   ': () => split(x23, 1.5, 1),
  pad: () => pad(x23, [0, 0], [2, 2]),
  'pad  ': () => pad(zeros([2]), [0.5], [4]),
  'pad   ': () => pad(zeros([2]), [0], [4.5]),
  'pad ': () => pad(zeros([2]), [0], [3, 4]),
  concat: () => concat([x23, zeros([2, 3, 1])], 0),
  'concat ': () => concat([x23, zeros([3, 2])], 1),
  'concat  ': () => concat([], 0),
  'concat   ': () => concat([x23], 2),
  stack: () => stack([x23, zeros([3])], 0),
  gatherRows: () => gatherRows(x23, i32([0], [1, 1])),
  scatterAdd: () => scatterAdd(i32([0], [1, 1]), zeros([1, 2, 3]), 4),
  scatterRows: () => scatterRows(zeros([1, 3, 2]), i32([0], [1, 1]), zeros([1, 1, 1])),
  'scatterRows ': () => scatterRows(x23, i32([0, 1], [2, 1]), zeros([2, 1, 3])),
  embedding: () => embedding(zeros([3]), i32([0])),
  pick: () => pick(zeros([2, 3, 4]), zeros([3, 2], { dtype: 'i32' })),
  crossEntropy: () => crossEntropy(x23, i32([0, 1, 2])),
  softmax: () => softmax(x23, 2),
  logSoftmax: () => logSoftmax(x23, 2),
  mse: () => mse(zeros([3, 1]), zeros([3])),
  l1: () => l1(x23, zeros([3])),
  smoothL1: () => smoothL1(x23, zeros([3])),
  layerNorm: () => layerNorm(x23, zeros([2]), zeros([3]), 1e-5),
  'layerNorm ': () => layerNorm(x23, zeros([3]), null, 1e-5),
  'layerNorm  ': () => layerNorm(zeros([]), null, null, 1e-5),
  groupNorm: () => groupNorm(image, 2, zeros([3]), zeros([3]), 1e-5),
  'groupNorm ': () => groupNorm(image, 3, zeros([2]), zeros([3]), 1e-5),
  adaLayerNorm: () => adaLayerNorm(zeros([2, 3, 4]), zeros([2, 3]), zeros([2, 4]), 1e-6),
  gatedResidual: () => gatedResidual(zeros([2, 3, 4]), zeros([2, 4]), zeros([2, 4, 3])),
  selfAttention: () => selfAttention(zeros([2, 5, 16]), null, 2),
  'selfAttention ': () => selfAttention(zeros([2, 5, 12]), zeros([2, 5, 4]), 2),
  unfold: () => unfold(x23, window),
  'unfold ': () => unfold(zeros([1, 1, 1, 4]), window),
  fold: () => fold(x23, window, [1, 3, 4, 4]),
  conv2d: () => conv2d(image, zeros([2, 4, 3, 3])),
  'conv2d ': () => conv2d(image, zeros([2, 3, 5, 5])),
  'conv2d  ': () => conv2d(image, zeros([2, 3, 3, 3]), zeros([3])),
  convTranspose2d: () => convTranspose2d(image, zeros([4, 2, 2, 2]), null, { stride: 2 }),
  avgPool2d: () => avgPool2d(image, 5),
  maxPool2d: () => maxPool2d(x23, 2),
  'avgPool2d ': () => avgPool2d(image, 2, 1, 2),
  'avgPool2d  ': () => avgPool2d(image, 0),
  'avgPool2d   ': () => avgPool2d(image, 2, 1, 0.5),
  'maxPool2d ': () => maxPool2d(image, 2, 1, 2),
  'maxPool2d  ': () => maxPool2d(image, 2, 0),
  'conv2d   ': () => conv2d(image, zeros([2, 3, 2, 2]), null, { stride: 0 }),
  'conv2d    ': () => conv2d(image, zeros([2, 3, 2, 2]), null, { stride: 1.5 }),
  'conv2d     ': () => conv2d(image, zeros([2, 3, 2, 2]), null, { padding: [0, 1, 0, -1] }),
  'conv2d      ': () => conv2d(image, zeros([2, 3, 0, 2])),
  'convTranspose2d ': () => convTranspose2d(image, zeros([3, 2, 2, 2]), null, { stride: 0.5 }),
  'unfold  ': () => unfold(image, { ...window, stride: [1, -1] }),
  'fold ': () => fold(x23, { ...window, stride: [0, 1] }, [1, 3, 4, 4]),
  interpolate: () => interpolate(x23, [4, 4], 'nearest'),
  patchify: () => patchify(image, 3),
  'patchify ': () => patchify(image, -2),
}

/** An op that has no public function, or none for all its operands: the gradients of fused ops. */
function run(name: string, x: readonly Tensor[], attrs: unknown = {}): unknown {
  const record = untyped(registry().get(name)!)
  return record.many ? applyMany(record, x, attrs) : apply(record, x, attrs)
}

// A kernel that reads g by the shape of x would read past its end.
const [longer, x234, rows24] = [zeros([5]), zeros([2, 3, 4]), zeros([2, 4])]
Object.assign(complaints, {
  siluGrad: () => siluGrad(zeros([3]), longer),
  'siluGrad ': () => siluGrad(longer, zeros([3])),
  geluGrad: () => geluGrad(zeros([3]), longer),
  geluTanhGrad: () => geluTanhGrad(zeros([1]), longer),
  softmaxGrad: () => softmaxGrad(zeros([3]), longer),
  'softmaxGrad ': () => softmaxGrad(zeros([]), zeros([])),
  logSoftmaxGrad: () => logSoftmaxGrad(zeros([3]), longer),
  layerNormGrad: () => layerNormGrad(zeros([3]), longer, null, 1e-5),
  'layerNormGrad ': () => layerNormGrad(longer, longer, zeros([3]), 1e-5),
  'layerNormGrad  ': () => layerNormGrad(zeros([]), zeros([]), null, 1e-5),
  adaLayerNormGrad: () => run('adaLayerNormGrad', [zeros([2, 3, 3]), x234, rows24], { eps: 1e-6 }),
  'adaLayerNormGrad ': () => run('adaLayerNormGrad', [x234, x234, zeros([2, 3])], { eps: 1e-6 }),
  gatedResidualGrad: () => run('gatedResidualGrad', [zeros([2, 2, 4]), rows24, x234]),
  'gatedResidualGrad ': () => run('gatedResidualGrad', [x234, zeros([3, 4]), x234]),
  linearWeightGrad: () => run('linearWeightGrad', [rows24, zeros([3, 4])]),
  selfAttentionGrad: () => run('selfAttentionGrad', [zeros([2, 5, 12]), zeros([2, 5, 12])], { heads: 2 }),
  'selfAttentionGrad ': () => run('selfAttentionGrad', [zeros([2, 5, 4]), zeros([2, 5, 12]), longer], { heads: 2 }),
})

for (const [key, complain] of Object.entries(complaints)) {
  const op = key.trim()
  test(`${key}: a ShapeError that begins with the op and says what was wanted and got`, () => {
    try {
      complain()
      assert.unreachable('nothing was thrown')
    } catch (error) {
      const { message } = error as Error
      assert.instance(error, ShapeError, message)
      assert.ok(message.startsWith(`${op}: `), message)
      assert.match(message, /(expected|must have).*got/)
      assert.not.match(message, /\n|undefined|NaN/)
    }
  })
}

test('item wants one element', async () => {
  for (const x of [x23, zeros([0])]) {
    const error = await x.item().catch((error: unknown) => error)
    assert.instance(error, ShapeError)
    assert.match((error as Error).message, /item: expected one element, got shape \[/)
  }
})

test('an index out of range is named with its place, and leaks nothing', () => {
  for (const backend of [cpu, wasm]) {
    leavesNothing(() => {
      const table = zeros([5, 2], { backend })
      for (const bad of [5, -1]) {
        const ids = tensor([0, 1, bad], { dtype: 'i32', backend })
        assert.throws(() => embedding(table, ids), new RegExp(`embedding: expected indices in \\[0, 5\\), got ${bad}`))
      }
    }, backend)
  }
})

test('scatterRows replaces, whatever was there, and sums where one row is named twice', () => {
  for (const backend of [cpu, wasm]) {
    const of = (data: number[]) => tensor(data, { shape: [1, data.length, 1], backend })
    const at = (ids: number[]) => tensor(ids, { shape: [1, ids.length], dtype: 'i32', backend })
    assert.equal(values(scatterRows(of([1e8, 5]), at([0]), of([1]))), [1, 5]) // f32 has no 1e8 + 1
    assert.equal(values(scatterRows(of([Infinity, Number.NaN, 7]), at([0, 1]), of([1, 2]))), [1, 2, 7])
    const [x, source] = [of([1, 2, 3]).requireGrad(), of([10, 20]).requireGrad()]
    const y = scatterRows(x, at([2, 2]), source)
    assert.equal(values(y), [1, 2, 30])
    const gs = gradients(sum(mul(y, of([5, 6, 7]))), [x, source])
    assert.equal(gs.map(values), [
      [5, 6, 0],
      [7, 7],
    ])
  }
})

test.run()
