/**
 * Tensors, what they are made of, and what is said when something does not fit. Values of ops are compared with
 * references in properties.test.ts and registry.test.ts; here are the edges: no elements, infinities, whole numbers.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../core/backends/gpu/index.ts'
import { createWasm } from '../core/backends/wasm/index.ts'
import { allocate } from '../core/dtype.ts'
import {
  adaLayerNorm,
  add,
  arange,
  avgPool2d,
  backward,
  broadcastTo,
  cast,
  clamp,
  concat,
  conv2d,
  convTranspose2d,
  copy,
  cpu,
  crossEntropy,
  div,
  embedding,
  exp,
  firstNonFinite,
  fold,
  full,
  gatedResidual,
  gather,
  geluGrad,
  geluTanhGrad,
  gradients,
  groupNorm,
  interpolate,
  l1,
  layerNorm,
  layerNormGrad,
  linear,
  log,
  logSoftmax,
  logSoftmaxGrad,
  matmul,
  max,
  maximum,
  maxPool2d,
  mean,
  min,
  minimum,
  mse,
  mul,
  observe,
  ones,
  pad,
  patchify,
  permute,
  pick,
  pow,
  profile,
  registry,
  relu,
  reshape,
  ShapeError,
  scatter,
  scatterAdd,
  scope,
  selfAttention,
  siluGrad,
  slice,
  smoothL1,
  softmax,
  softmaxGrad,
  split,
  sqrt,
  square,
  stack,
  stats,
  sub,
  sum,
  type Tensor,
  tensor,
  to,
  transpose,
  unfold,
  unsqueeze,
  variance,
  where,
  zeros,
} from '../core/index.ts'
import { apply, applyMany, erase } from '../core/op.ts'
import { close, f64, leavesNothing, normal, values } from './helpers.ts'

const wasm = await createWasm({ threads: 1 })
const i32 = (data: number[], shape?: number[]) => tensor(data, { dtype: 'i32', backend: cpu, shape })

// ---- making tensors -------------------------------------------------------------------------------------------------

test('tensor takes numbers, nested arrays, and typed arrays flat or nested', async () => {
  const of = (x: Tensor) => [[...x.shape], values(x)]
  assert.equal(of(tensor(5)), [[], [5]])
  assert.equal(of(tensor([])), [[0], []])
  assert.equal(of(tensor([[], []])), [[2, 0], []])
  assert.equal(
    of(
      tensor([
        [[1], [2]],
        [[3], [4]],
      ]),
    ),
    [
      [2, 2, 1],
      [1, 2, 3, 4],
    ],
  )
  assert.equal(of(tensor([Float32Array.of(1, 2), Float64Array.of(3, 4)])), [
    [2, 2],
    [1, 2, 3, 4],
  ])
  assert.equal(of(tensor(Int32Array.of(1, 2, 3), { shape: [3, 1] })), [
    [3, 1],
    [1, 2, 3],
  ])
  assert.equal(of(tensor([1, 2, 3, 4], { shape: [2, 2] })), [
    [2, 2],
    [1, 2, 3, 4],
  ])
  assert.is(tensor(1).dtype, 'f32')
  assert.equal(values(tensor([1.9, -1.9], { dtype: 'i32' })), [1, -1])
  assert.is(await tensor([[7]]).item(), 7)
})

test('tensor copies what it is given', () => {
  const data = Float32Array.of(1, 2)
  const x = tensor(data)
  data[0] = 9
  assert.equal(values(x), [1, 2])
  const read = x.dataSync()
  read[0] = 9
  assert.equal(values(x), [1, 2])
})

test('tensor refuses nesting that is not a box, however the counts add up', () => {
  const nested = /tensor: wanted nested arrays of equal lengths, got /
  assert.throws(() => tensor([[1, 2], [3]]), /got an array of 1 beside an array of 2/)
  assert.throws(() => tensor([[1], 2]), /got a number beside an array of 1/)
  assert.throws(() => tensor([1, [2]]), /got an array of 1 beside a number/)
  for (const [given, said] of [
    ['x', '"x"'],
    [null, 'null'],
    [{}, '{}'],
    [true, 'true'],
    [[1, '2'], '"2"'],
    [[[1], ['2']], '"2"'],
  ])
    assert.throws(() => tensor(given as number), `tensor: wanted numbers, or nested arrays of them, got ${said}`)
  assert.equal(values(tensor({ length: 2, 0: 3, 1: 4 })), [3, 4])
  assert.throws(
    () =>
      tensor([
        [[1], [2]],
        [
          [3, 4],
          [5, 6],
        ],
        [[], []],
      ]),
    nested,
  ) // six numbers for [3, 2, 1]
  assert.throws(() => tensor([Float32Array.of(1, 2), Float32Array.of(3)]), nested)
  assert.throws(() => tensor([1, 2, 3], { shape: [2, 2] }), /tensor: wanted 4 elements for shape \[2, 2\], got 3/)
  assert.throws(
    () => tensor([1, 2], { shape: [-1, -2] }),
    /tensor: wanted sizes that are integers from 0, got \[-1, -2\]/,
  )
  assert.throws(() => zeros([2.5]), /full: wanted sizes that are integers from 0, got \[2.5\]/)
})

test('full, zeros, ones, arange', () => {
  assert.equal(values(full([2], 3, { dtype: 'i32' })), [3, 3])
  assert.equal([...values(zeros([2])), ...values(ones([2]))], [0, 0, 1, 1])
  assert.equal(values(arange(3)), [0, 1, 2])
  assert.equal([...arange(0).shape], [0])
})

test('a dtype is what it says, on every backend that has it', () => {
  for (const dtype of ['f32', 'f64', 'i32'] as const) {
    const type = { f32: Float32Array, f64: Float64Array, i32: Int32Array }[dtype]
    assert.instance(allocate(dtype, 2), type)
    assert.instance(zeros([1], { dtype, backend: cpu }).dataSync(), type)
  }
  assert.throws(() => tensor([1], { dtype: 'f64', backend: wasm }), /wanted one of f32, i32, which 'wasm' has, got f64/)
  assert.throws(() => zeros([1], { dtype: 'f64', backend: wasm }), /wanted one of f32, i32, which 'wasm' has, got f64/)
})

// ---- backends and dtypes do not mix ---------------------------------------------------------------------------------

test('operands of two dtypes or backends are refused, and the way out is named', () => {
  const [a, b] = [tensor([1], { backend: cpu }), tensor([1], { backend: wasm })]
  const text = (got: string) =>
    new RegExp(`wanted operands of one backend and dtype.*, got ${got}; move one with to\\(x, { backend, dtype }\\)`)
  assert.throws(
    () => add(a, b),
    /^add: wanted operands of one backend and dtype, got f32 on cpu, f32 on wasm; move one/,
  )
  assert.throws(() => add(a, f64([1])), text('f32 on cpu, f64 on cpu'))
  assert.throws(() => matmul(f64([[1]]), i32([1], [1, 1])), text('f64 on cpu, i32 on cpu'))
  assert.throws(() => concat([a, f64([1])], 0), text('f32 on cpu, f64 on cpu'))
  assert.throws(() => where(i32([1]), a, f64([1])), text('i32 on cpu, f32 on cpu, f64 on cpu'))
  assert.throws(() => where(b, a, a), text('f32 on wasm, f32 on cpu, f32 on cpu'))
  assert.throws(
    () => gather(f64([[[1]]]), f64([[0]])),
    /gather: wanted operands .*, and i32 as operand 2, got f64 on cpu/,
  )
  assert.throws(() => scatterAdd(f64([[0]]), f64([[[1]]]), 1), /scatterAdd: wanted operands .*, and i32 as operand 1/)
  assert.equal(values(add(to(a, { backend: wasm }), b)), [2])
  assert.equal(values(add(to(a, { dtype: 'f64' }), f64([1]))), [2])
})

test('to copies between backends and dtypes, outside the graph', () => {
  const w = tensor([1.5, -2], { backend: cpu }).requireGrad()
  for (const moved of [to(w, { backend: wasm }), to(w, { dtype: 'f64' }), to(w, {})]) {
    assert.equal(values(moved), [1.5, -2])
    assert.not.ok(moved.requiresGrad)
  }
  assert.equal(values(cast(w, 'i32')), [1, -2])
})

test('what i32 cannot hold becomes the nearest it can, and NaN 0, however it is converted', () => {
  const x = [1e10, -1e10, Infinity, -Infinity, Number.NaN, -1.5]
  const wanted = [2 ** 31 - 1, -(2 ** 31), 2 ** 31 - 1, -(2 ** 31), 0, -1]
  for (const backend of [cpu, wasm]) {
    assert.equal(values(cast(tensor(x, { backend }), 'i32')), wanted)
    assert.equal(values(to(tensor(x, { backend }), { dtype: 'i32' })), wanted)
    assert.equal(values(tensor(x, { dtype: 'i32', backend })), wanted)
  }
})

test('the gpu backend reads asynchronously, and says so', async () => {
  const x = tensor([[1, 2]], { backend: await gpu({ device: 'cpu' }) })
  assert.throws(() => x.dataSync(), /dataSync: backend 'gpu.*' reads asynchronously; await data\(\)/)
  assert.equal(Array.from(await mul(x, 2).data()), [2, 4])
})

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
  'matmul ': () => matmul(x23, zeros([3])),
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
  gather: () => gather(x23, i32([0], [1, 1])),
  scatterAdd: () => scatterAdd(i32([0], [1, 1]), zeros([1, 2, 3]), 4),
  scatter: () => scatter(zeros([1, 3, 2]), i32([0], [1, 1]), zeros([1, 1, 1])),
  'scatter ': () => scatter(x23, i32([0, 1], [2, 1]), zeros([2, 1, 3])),
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
  convTranspose2d: () => convTranspose2d(image, zeros([4, 2, 2, 2]), null, 2, 0),
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
  'convTranspose2d ': () => convTranspose2d(image, zeros([3, 2, 2, 2]), null, 0.5, 0),
  'unfold  ': () => unfold(image, { ...window, stride: [1, -1] }),
  'fold ': () => fold(x23, { ...window, stride: [0, 1] }, [1, 3, 4, 4]),
  interpolate: () => interpolate(x23, [4, 4], 'nearest'),
  patchify: () => patchify(image, 3),
  'patchify ': () => patchify(image, -2),
}

/** An op that has no public function, or none for all its operands: the gradients of fused ops. */
function run(name: string, x: readonly Tensor[], attrs: unknown = {}): unknown {
  const record = erase(registry().get(name)!)
  return record.many ? applyMany(record, x, attrs) : apply(record, x, attrs)
}

// A kernel that reads g by the shape of x would read what lies behind it.
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
      assert.match(message, /(wanted|must have).*got/)
      assert.not.match(message, /\n|undefined|NaN/)
    }
  })
}

test('item wants one element', async () => {
  for (const x of [x23, zeros([0])]) {
    const error = await x.item().catch((error: unknown) => error)
    assert.instance(error, ShapeError)
    assert.match((error as Error).message, /item: wanted one element, got shape \[/)
  }
})

test('an index out of range is named with its place, and leaks nothing', () => {
  for (const backend of [cpu, wasm]) {
    leavesNothing(() => {
      const table = zeros([5, 2], { backend })
      for (const bad of [5, -1]) {
        const ids = tensor([0, 1, bad], { dtype: 'i32', backend })
        assert.throws(() => embedding(table, ids), new RegExp(`gather: wanted indices in \\[0, 5\\), got ${bad}`))
      }
    }, backend)
  }
})

test('scatter replaces, whatever was there, and sums where one row is named twice', () => {
  for (const backend of [cpu, wasm]) {
    const of = (data: number[]) => tensor(data, { shape: [1, data.length, 1], backend })
    const at = (ids: number[]) => tensor(ids, { shape: [1, ids.length], dtype: 'i32', backend })
    assert.equal(values(scatter(of([1e8, 5]), at([0]), of([1]))), [1, 5]) // f32 has no 1e8 + 1
    assert.equal(values(scatter(of([Infinity, Number.NaN, 7]), at([0, 1]), of([1, 2]))), [1, 2, 7])
    const [x, source] = [of([1, 2, 3]).requireGrad(), of([10, 20]).requireGrad()]
    const y = scatter(x, at([2, 2]), source)
    assert.equal(values(y), [1, 2, 30])
    const gs = gradients(sum(mul(y, of([5, 6, 7]))), [x, source])
    assert.equal(gs.map(values), [
      [5, 6, 0],
      [7, 7],
    ])
  }
})

// ---- edges ----------------------------------------------------------------------------------------------------------

test('whole numbers divide exactly and truncate', () => {
  for (const backend of [cpu, wasm]) {
    const of = (data: number[]) => tensor(data, { dtype: 'i32', backend })
    assert.equal(values(div(of([49, 98, -7, 7, 2147483647]), 49)), [1, 2, 0, 0, 43826196])
    assert.equal(values(div(of([49, 98, -7]), of([49]))), [1, 2, 0])
    assert.equal(values(mean(of(new Array(49).fill(3)))), [3])
  }
})

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
    const leaf = f64([x]).requireGrad()
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
  const x = f64([2, 5, 5]).requireGrad()
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
  const x = f64([
    [1, 2, 3, 4],
    [10, 20, 30, 40],
  ])
  assert.equal(values(mean(x, 1)), [2.5, 25])
  assert.equal(values(variance(x, 1)), [1.25, 125])
  close(values(variance(x, 1, { ddof: 1, keepDims: true })), [5 / 3, 500 / 3], 1e-15)
  assert.equal([...variance(x, 1, { keepDims: true }).shape], [2, 1])
})

test('pooling, resampling and patches of a picture that can be checked by eye', () => {
  const x = f64(
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
  const [x, target] = [normal([4, 5], 1), i32([0, 4, 2, 2])]
  const logp = values(logSoftmax(x))
  const hit = -[0, 4, 2, 2].reduce((total, c, n) => total + logp[n * 5 + c], 0) / 4
  const even = -logp.reduce((a, b) => a + b) / 20
  close(values(crossEntropy(x, target)), [hit], 1e-14)
  close(values(crossEntropy(x, target, 0.1)), [0.9 * hit + 0.1 * even], 1e-14)
})

test('copy has memory of its own, and the gradient of what it copies', () => {
  const x = f64([1, 2]).requireGrad()
  const y = copy(x)
  assert.is.not(y.storage, x.storage)
  backward(sum(square(y)))
  assert.equal(values(x.grad!), [2, 4])
})

// ---- looking on -----------------------------------------------------------------------------------------------------

test('stats counts tensors, bytes and reads', () => {
  const before = stats(cpu)
  const x = zeros([10], { dtype: 'f64', backend: cpu })
  x.dataSync()
  const after = stats(cpu)
  assert.is(after.tensors - before.tensors, 1)
  assert.is(after.bytes - before.bytes, 80)
  assert.is(after.storages - before.storages, 1)
  assert.is(after.reads - before.reads, 1)
  assert.is(after.fallbacks, 0)
  x.dispose()
})

test('profile adds up calls, arithmetic and bytes per op, forward and backward', () => {
  const a = normal([4, 5], 1).requireGrad()
  const b = normal([5, 6], 2).requireGrad()
  const rows = profile(() => scope(() => backward(sum(matmul(a, b)))))
  const row = rows.find(row => row.op === 'matmul')!
  assert.is(row.calls, 3)
  assert.is(row.flops, 3 * 2 * 4 * 5 * 6)
  assert.is(row.bytes, 3 * 8 * (20 + 30 + 24))
  const stacks = profile(() => scope(() => void matmul(normal([3, 1, 4, 5], 1), normal([2, 5, 6], 2))))
  assert.is(stacks.find(row => row.op === 'matmul')!.flops, 3 * 2 * 2 * 4 * 5 * 6)
  assert.ok(rows.every((row, i) => i === 0 || rows[i - 1].ms >= row.ms))
})

test('observe sees every op with its operands, and stops seeing at the end', () => {
  const seen: string[] = []
  const x = f64([1, 4])
  observe(
    (op, inputs, _, results) => seen.push(`${op.name} ${inputs[0].shape} → ${results[0].shape}`),
    () => sum(sqrt(x)),
  )
  exp(x)
  assert.equal(seen, ['sqrt 2 → 2', 'sum 2 → '])
  const both: string[] = []
  const name = (prefix: string) => (op: { name: string }) => void both.push(`${prefix} ${op.name}`)
  observe(name('outer'), () => {
    observe(name('inner'), () => exp(x))
    sqrt(x)
  })
  assert.equal(both, ['outer exp', 'inner exp', 'outer sqrt'])
})

test('firstNonFinite names the op, its shape and how many ran before', async () => {
  const x = f64([1, 0, -1])
  assert.equal(await firstNonFinite(() => scope(() => void exp(log(square(square(x)))))), {
    op: 'log',
    shape: [3],
    position: 2,
    label: null,
  })
  assert.is(await firstNonFinite(() => scope(() => void exp(x))), null)
  const another = await firstNonFinite(() => {
    throw new Error('another')
  }).catch((error: Error) => error.message)
  assert.is(another, 'another')
})

test('a size of −1 in reshape takes what is left, all of it too', () => {
  const x = f64([1, 2, 3, 4, 5, 6], [2, 3])
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
  const x = normal([2, 3, 4], 8)
  assert.equal(values(softmax(x)), values(softmax(x, 2)))
  assert.equal(values(logSoftmax(x)), values(logSoftmax(x, 2)))
  const logits = normal([2, 3], 9)
  const target = tensor([2, 0], { dtype: 'i32', backend: cpu })
  const logp = values(logSoftmax(logits))
  close(values(crossEntropy(logits, target)), [-(logp[2] + logp[3]) / 2], 1e-15)
  // A class that is out of the question costs nothing where nothing is spread over it.
  const certain = f64([0, -Infinity], [1, 2])
  assert.equal(values(crossEntropy(certain, tensor([0], { dtype: 'i32', backend: cpu }))).map(Math.abs), [0])
})

test('pools leave padding out of account', () => {
  const x = f64([-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12], [1, 1, 3, 4])
  close(values(avgPool2d(x, 3, 1, 1)), [-3.5, -4, -5, -5.5, -5.5, -6, -7, -7.5, -7.5, -8, -9, -9.5], 1e-15)
  assert.equal(values(maxPool2d(x, 3, 2, 1)), [-1, -2, -5, -6])
  assert.equal(values(maxPool2d(x, 3, 1)), [-1, -2])
})

test('bilinear resampling keeps constants and straight lines, down and up', () => {
  const line = f64([0, 1, 2, 3, 4, 5, 6, 7], [1, 1, 1, 8])
  close(values(interpolate(line, [1, 4], 'bilinear')), [0.5, 2.5, 4.5, 6.5], 1e-15)
  close(values(interpolate(f64([0, 1], [1, 1, 1, 2]), [2, 4], 'bilinear')), [0, 0.25, 0.75, 1, 0, 0.25, 0.75, 1], 0)
})

test('matmul takes matrices, not vectors, on either side', () => {
  const [matrix, vector] = [normal([3, 3], 1), normal([3], 2)]
  const wanted = /^matmul: wanted operands of rank 2 or more, got /
  assert.throws(() => matmul(matrix, vector), wanted)
  assert.throws(() => matmul(vector, matrix), wanted)
})

test.run()
