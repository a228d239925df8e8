/** Modules and layers: names, counts, loading, first values, and layers against what they stand for. */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  attention,
  backward,
  conv2d,
  cpu,
  matmul,
  noGrad,
  permute,
  reshape,
  rng,
  scope,
  silu,
  split,
  stats,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import {
  Activation,
  Attention,
  BatchNorm,
  buffer,
  Conv2d,
  dropLabels,
  Embedding,
  frozen,
  type Grid,
  GroupNorm,
  type Init,
  keptPairs,
  LabelEmbedder,
  LayerNorm,
  Linear,
  Mlp,
  Modulation,
  Module,
  ModuleList,
  PatchEmbed,
  parameter,
  RelativePositionBias,
  relativePositions,
  Sequential,
  shapesOnly,
  sinCos1d,
  sinCos2d,
  TimestepEmbedder,
  timestepEmbedding,
  unpatchify,
} from '../../nn/index.ts'
import { near } from '../near.ts'

const f64 = { dtype: 'f64', backend: cpu } as const
const init = (seed = 1): Init => ({ rng: rng(seed), ...f64 })

class Tiny extends Module {
  readonly blocks: ModuleList<Linear>
  readonly pos_embed: Tensor
  readonly index: Tensor
  readonly scale: Tensor
  readonly mlp: Sequential

  constructor(from: Init) {
    super()
    this.blocks = new ModuleList([new Linear(3, 3, from), new Linear(3, 2, from, { bias: false })])
    this.index = buffer(tensor([0, 1, 2], { dtype: 'i32', backend: from.backend }))
    this.pos_embed = frozen(tensor([1, 2, 3], { dtype: from.dtype, backend: from.backend }))
    this.scale = parameter(tensor([2], { dtype: from.dtype, backend: from.backend }))
    this.mlp = new Sequential([new Activation(silu), new Linear(2, 1, from)])
  }
}

test('the state dict is a walk: own tensors, buffers, then children', () => {
  const names = ['pos_embed', 'scale', 'index', 'blocks.0.weight', 'blocks.0.bias', 'blocks.1.weight']
  const model = new Tiny(init())
  assert.equal([...model.stateDict().keys()], [...names, 'mlp.1.weight', 'mlp.1.bias'])
  assert.equal(model.countParameters(), { total: 3 + 1 + 12 + 6 + 3, trainable: 1 + 12 + 6 + 3, buffers: 3 })
  assert.is(model.parameters().length, 6)
})

test('counting allocates nothing', () => {
  const before = stats(cpu).bytes
  const model = new Linear(30_000, 30_000, shapesOnly)
  assert.is(model.countParameters().total, 900_030_000)
  assert.is(stats(cpu).bytes, before)
  assert.equal(
    model.forward(tensor(new Float32Array(30_000), { shape: [1, 30_000], backend: shapesOnly.backend })).shape,
    [1, 30_000],
  )
  assert.throws(() => model.weight.dataSync(), /shapes: this backend holds no values/)
})

test('loading copies values, converts floats, and names everything that does not fit', () => {
  const [a, b] = [new Tiny(init(1)), new Tiny({ rng: rng(2), dtype: 'f32', backend: cpu })]
  b.loadStateDict(a.stateDict())
  assert.equal(Array.from(b.blocks.items[0].weight.dataSync()), Array.from(a.blocks.items[0].weight.dataSync()))
  const broken = new Map<string, Tensor>(a.stateDict())
  broken.delete('scale')
  broken.set('surplus', a.scale)
  broken.set('mlp.1.weight', a.scale)
  const before = b.blocks.items[0].weight.dataSync()
  const message =
    /^loadStateDict: Tiny: missing: scale; unexpected: surplus; of another shape: mlp\.1\.weight \(expected \[1, 2\], got \[1\]\)$/
  assert.throws(() => b.loadStateDict(broken), message)
  assert.equal(b.blocks.items[0].weight.dataSync(), before)
  broken.set('mlp.1.weight', a.mlp.stateDict().get('1.weight')!)
  b.loadStateDict(broken, { strict: false })
  const host = new Map([...a.stateDict()].map(([name, t]) => [name, { shape: t.shape, data: t.dataSync() }]))
  b.loadStateDict(host)
})

test('loading writes nothing where the values of one tensor do not fill its shape', () => {
  const model = new Linear(2, 2, init())
  const weights = () => [...model.stateDict().values()].map(t => Array.from(t.dataSync()))
  const before = weights()
  for (const data of [[1], [1, 2, 3]]) {
    const source = new Map([
      ['weight', { shape: [2, 2], data: [1, 2, 3, 4] }],
      ['bias', { shape: [2], data }],
    ])
    const message = `loadStateDict: Linear: of another shape: bias (expected 2 values for [2], got ${data.length})`
    assert.throws(
      () => model.loadStateDict(source),
      (error: Error) => error.message === message,
    )
    assert.equal(weights(), before)
  }
})

test('loading is an in-place write: backward over what was saved before throws', () => {
  const model = new Linear(2, 2, init())
  const host = new Map([...model.stateDict()].map(([name, t]) => [name, { shape: t.shape, data: t.dataSync() }]))
  const x = tensor([[1, 2]], f64).requireGrad()
  const loss = sum(model.forward(x))
  model.loadStateDict(host)
  assert.throws(() => backward(loss), /changed in place/)
})

test('a module frees what it holds', () => {
  const before = stats(cpu).bytes
  const model = new Tiny(init())
  scope(() => backward(sum(model.blocks.items[0].forward(tensor([[1, 2, 3]], f64)))))
  assert.ok(model.blocks.items[0].weight.grad !== null)
  model.dispose()
  assert.is(stats(cpu).bytes, before)
})

test('the same seed gives the same weights in f32 and f64', () => {
  const [a, b] = [new Linear(7, 5, init(3)), new Linear(7, 5, { rng: rng(3), dtype: 'f32', backend: cpu })]
  assert.equal(Array.from(a.weight.dataSync()), Array.from(b.weight.dataSync()))
})

test('first values: Xavier bounds, std 0.02, zero modulation, zeros without rng', () => {
  const bound = Math.sqrt(6 / (64 + 32))
  const weights = new Linear(64, 32, init()).weight.dataSync()
  assert.ok(weights.every(w => Math.abs(w) <= bound))
  assert.ok(Math.max(...weights) > 0.99 * bound && Math.min(...weights) < -0.99 * bound)
  const table = new Embedding(100, 100, init()).weight.dataSync()
  assert.ok(Math.abs(Math.sqrt(Array.from(table).reduce((s, x) => s + x * x, 0) / table.length) - 0.02) < 1e-3)
  // The patch embedding counts as the matrix (D, C·P·P).
  const patches = new PatchEmbed(4, 3, 16, init()).proj.weight.dataSync()
  const patchBound = Math.sqrt(6 / (48 + 16))
  assert.ok(patches.every(w => Math.abs(w) <= patchBound) && Math.max(...patches) > 0.95 * patchBound)
  const c = tensor([[1, -2, 3]], f64)
  for (const part of new Modulation(3, 2, 6, init()).vectors(c)) assert.equal(Array.from(part.dataSync()), [0, 0])
  assert.ok(new Linear(3, 3, { rng: null, ...f64 }).weight.dataSync().every(w => w === 0))
})

test('norms: affine or not', () => {
  const x = rng(1).normal([2, 4, 3, 3], f64)
  assert.is(new LayerNorm(3, init(), { affine: false }).countParameters().total, 0)
  const y = new LayerNorm(3, init()).forward(x)
  near(y, new LayerNorm(3, init(), { affine: false }).forward(x))
  const means = sum(new GroupNorm(2, 4, init(), { eps: 1e-6 }).forward(x), [2, 3]).dataSync()
  assert.ok(Math.abs(means[0] + means[1]) < 1e-9)
})

test('time: [cos | sin] with frequencies over half, and a zero for odd widths', () => {
  const table = timestepEmbedding([0, 2.5], 5)
  const f = [1, 10000 ** -0.5]
  const want = [1, 1, 0, 0, 0, ...f.map(w => Math.cos(2.5 * w)), ...f.map(w => Math.sin(2.5 * w)), 0]
  for (const [i, w] of want.entries()) assert.ok(Math.abs(table[i] - w) < 1e-15)
  assert.equal(
    [...new TimestepEmbedder(6, init()).stateDict()].map(([name, t]) => [name, t.shape]),
    [
      ['mlp.0.weight', [6, 256]],
      ['mlp.0.bias', [6]],
      ['mlp.2.weight', [6, 6]],
      ['mlp.2.bias', [6]],
    ],
  )
  assert.equal(new TimestepEmbedder(6, init()).forward([1, 2, 3]).shape, [3, 6])
})

test('positions: the first half of the channels is the column', () => {
  const [D, rows, columns] = [8, 2, 3]
  const table = sinCos2d(D, [rows, columns], 1)
  assert.is(table.length, (1 + rows * columns) * D)
  assert.equal(Array.from(table.slice(0, D)), new Array(D).fill(0))
  const at = (r: number, c: number) => Array.from(table.slice((1 + r * columns + c) * D, (2 + r * columns + c) * D))
  assert.equal(at(0, 2).slice(0, 4), at(1, 2).slice(0, 4))
  assert.equal(at(1, 0).slice(4), at(1, 2).slice(4))
  assert.is(at(0, 2)[0], Math.sin(2))
  assert.is(at(1, 2)[4], Math.sin(1))
  assert.throws(() => sinCos2d(6, [2, 2]), /divisible by 4/)
  assert.is(sinCos1d(4, 3)[4], Math.fround(Math.sin(1)))
})

test('of many tensors that are missing the first few are named', () => {
  const layers = new ModuleList(Array.from({ length: 20 }, () => new Linear(1, 1, shapesOnly)))
  assert.throws(
    () => layers.loadStateDict(new Map()),
    /^loadStateDict: ModuleList: missing: 0\.weight, 0\.bias, .*3\.weight, 3\.bias and 32 more$/,
  )
})

test('labels: dropped where u < p, to the last row, which is absent without drops', () => {
  const embedder = new LabelEmbedder(10, 4, 0.1, init())
  assert.equal(embedder.embedding_table.weight.shape, [11, 4])
  assert.equal(new LabelEmbedder(10, 4, 0, init()).embedding_table.weight.shape, [10, 4])
  assert.equal([...dropLabels([3, 4, 5], [0.0999, 0.1, 0.5], 0.1, 10)], [10, 4, 5])
  assert.throws(() => embedder.forward([11]), /labels: expected integers in \[0, 10\], got 11/)
})

test('patches: the embedding is a convolution, and unpatchify reads (row, column, channel)', () => {
  const embed = new PatchEmbed(2, 3, 5, init())
  const x = rng(4).normal([2, 3, 4, 6], f64)
  const { weight, bias } = embed.proj
  const image = conv2d(x, weight, bias, { stride: 2 }) // (2, 5, 2, 3)
  near(embed.forward(x), permute(reshape(image, [2, 5, 6]), [0, 2, 1]))
  near(embed.proj.forward(x), image)
  const tokens = Float64Array.from({ length: 6 * 12 }, (_, i) => i)
  const y = unpatchify(tensor(tokens, { shape: [1, 6, 12], ...f64 }), 2, [4, 6]).dataSync()
  // Pixel (row 3, column 4) of channel 2 is in token (1, 2), at patch row 1, patch column 0.
  assert.is(y[2 * 24 + 3 * 6 + 4], 5 * 12 + (1 * 2 + 0) * 3 + 2)
})

test('relative positions: the formula of the official code, on any grid', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), (rows, columns) => {
      const T = rows * columns
      const index = relativePositions(
        Int32Array.from({ length: T }, (_, i) => i),
        T,
        [rows, columns],
      )
      for (let i = 0; i < T; i++)
        for (let j = 0; j < T; j++) {
          const row = Math.floor(i / columns) - Math.floor(j / columns) + rows - 1
          const column = (i % columns) - (j % columns) + columns - 1
          assert.is(index[i * T + j], row * (2 * columns - 1) + column)
        }
    }),
    { numRuns: 30 },
  )
})

test('attention: heads, bias, and kept tokens see the bias between themselves', () => {
  const [N, D, heads] = [2, 6, 2]
  const grid: Grid = [2, 3]
  const T = 6
  const layer = new Attention(D, heads, init(5), { grid })
  assert.equal([...layer.stateDict().keys()].slice(4), [
    'rel_pos_bias.relative_position_bias_table',
    'rel_pos_bias.relative_position_index',
  ])
  const x = rng(6).normal([N, T, D], f64)
  const oracle = (tokens: Tensor, bias: Tensor) => {
    const K = tokens.shape[1]
    const qkv = reshape(layer.qkv.forward(tokens), [N, K, 3, heads, D / heads])
    const [q, k, v] = split(permute(qkv, [2, 0, 3, 1, 4]), 3, 0).map(t => reshape(t, [N, heads, K, D / heads]))
    return layer.proj.forward(reshape(permute(attention(q, k, v, bias), [0, 2, 1, 3]), [N, K, D]))
  }
  const full = layer.rel_pos_bias!.forward() // (h, T, T)
  assert.equal(full.shape, [heads, T, T])
  near(layer.forward(x), oracle(x, full))
  const ids = [4, 0, 3, 1, 5, 2] // the kept tokens of each picture, in noise order
  const kept = layer.rel_pos_bias!.forward(keptPairs(ids, [N, 3], grid, x)).dataSync() // (N, h, K, K)
  const all = full.dataSync()
  for (let n = 0; n < N; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < 3; i++)
        for (let j = 0; j < 3; j++) {
          const want = all[(h * T + ids[n * 3 + i]) * T + ids[n * 3 + j]]
          assert.is(kept[((n * heads + h) * 3 + i) * 3 + j], want)
        }
  assert.throws(() => new Attention(7, 2, init()), /divisible by 2 heads/)
})

test('attention and MLP: every parameter gets a gradient', () => {
  const [layer, mlp] = [new Attention(4, 2, init(), { grid: [1, 3] }), new Mlp(4, 8, init())]
  const x = rng(7).normal([1, 3, 4], f64)
  const w = rng(8).normal([1, 3, 4], f64)
  scope(() => backward(sum(matmul(add(layer.forward(x), mlp.forward(x)), w, { transposeB: true }))))
  for (const module of [layer, mlp])
    for (const [name, p] of module.namedParameters())
      assert.ok(
        p.grad?.dataSync().some(g => g !== 0),
        `${name} has no gradient`,
      )
  layer.zeroGrad()
  assert.is(layer.qkv.weight.grad, null)
})

test('convolutions begin as in PyTorch, the embedding of patches as in DiT', () => {
  const { weight, bias } = new Conv2d(3, 200, [1, 5], init())
  for (const first of [weight, bias!]) {
    const most = Math.max(...Array.from(first.dataSync(), Math.abs))
    assert.ok(most <= 1 / Math.sqrt(15) && most > 0.95 / Math.sqrt(15), `${most}`) // uniform on ±1/√(fan in)
  }
  assert.ok(new PatchEmbed(2, 3, 5, init()).proj.bias!.dataSync().every(value => value === 0))
  assert.ok(new PatchEmbed(2, 3, 5, init(), {}).proj.bias!.dataSync().every(value => value !== 0))
})

test('convolution and embedding layers', () => {
  const x = rng(9).normal([1, 2, 5, 5], f64)
  assert.equal(new Conv2d(2, 3, 3, init(), { stride: 2, padding: [0, 1, 0, 1] }).forward(x).shape, [1, 3, 2, 2])
  assert.is(new Conv2d(2, 3, 3, init(), { bias: false }).countParameters().total, 54)
  const ids = tensor([[1, 0]], { dtype: 'i32', backend: cpu, shape: [1, 2] })
  assert.equal(noGrad(() => new Embedding(3, 4, init()).forward(ids)).shape, [1, 2, 4])
  assert.is(new RelativePositionBias([2, 2], 3, init()).relative_position_bias_table.shape[0], 3 * 3 + 3)
})

test('batch norm with its moments', () => {
  const bn = new BatchNorm(2, init(3), { eps: 0.25, countsBatches: false })
  const state = { weight: [2, 3], bias: [1, -1], running_mean: [0.5, -2], running_var: [2, 0] }
  bn.loadStateDict(new Map(Object.entries(state).map(([name, data]) => [name, { shape: [2], data }])))
  near(bn.forward(tensor([[[[0.5, 2]], [[-2, 0]]]], f64)), tensor([[[[1, 3]], [[-1, 11]]]], f64))
})

test.run()
