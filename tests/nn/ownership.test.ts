/** Who owns a parameter: tied ones, names, modules in arrays and records, gradients, and writes by the host. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  add,
  assign,
  type Backend,
  backward,
  cpu,
  defineUpdate,
  div,
  lerp,
  mul,
  observe,
  pow,
  shapes,
  sum,
  sumOfSquares,
  type Tensor,
  tensor,
  update,
  updates,
} from '../../core/index.ts'
import {
  AdamW,
  BatchNorm,
  clipGradNorm,
  constantDecay,
  Ema,
  GroupNorm,
  Linear,
  Module,
  ModuleList,
  parameter,
  Sgd,
} from '../../nn/index.ts'

const f64 = { backend: cpu, dtype: 'f64' } as const
const init = { rng: null, ...f64 } as const
const p = (...values: number[]) => parameter(tensor(values, f64))

/** A weight under two names. */
class Tied extends Module {
  readonly a = p(1, 2)
  readonly b: Tensor

  constructor() {
    super()
    this.b = this.a
  }
}

test('a tied parameter counts once and has both names in the state dict', () => {
  const model = new Tied()
  assert.equal([...model.namedParameters()], [['a', model.a]])
  assert.equal(model.parameters(), [model.a])
  assert.equal(model.countParameters(), { total: 2, trainable: 2, buffers: 0 })
  assert.equal([...model.stateDict().keys()], ['a', 'b'])
  const other = new Tied()
  model.loadStateDict(new Map(['a', 'b'].map(name => [name, { shape: [2], data: [3, 4] }])))
  other.loadStateDict(model.stateDict())
  assert.equal([...other.b.dataSync()], [3, 4])
  model.dispose()
  assert.ok(model.b.disposed)
})

test('a tied parameter steps once, is clipped once and is averaged once', () => {
  for (const names of [['a'], ['a', 'b']]) {
    const model = new Tied()
    const ema = new Ema(model, new Tied(), { decay: constantDecay(0.5) })
    const optimizer = new Sgd(
      names.map((name): [string, Tensor] => [name, model.a]),
      { lr: 1 },
    )
    assert.equal([...optimizer.parameters.keys()], ['a'])
    model.a.grad = tensor([3, 4], f64)
    assert.is(clipGradNorm([model.a, model.b], 2.5).dataSync()[0], 5)
    model.a.grad = tensor([3, 4], f64)
    assert.is(optimizer.step().norm.dataSync()[0], 5)
    assert.equal([...model.b.dataSync()], [-2, -2])
    ema.update()
    assert.equal([...ema.average.a.dataSync()], [-0.5, 0])
  }
})

test('a model of tied weights is averaged into one of untied weights, and the other way round', () => {
  class Untied extends Module {
    readonly a = p(0, 0)
    readonly b = p(0, 0)
  }
  const tied = new Tied()
  const untied = new Ema<Module>(tied, new Untied(), { decay: constantDecay(0.5) })
  assign([tied.a], [tensor([3, 4], f64)])
  untied.update()
  for (const [, t] of untied.average.stateDict()) assert.equal([...t.dataSync()], [2, 3])
  const source = new Untied()
  const ema = new Ema<Module>(source, new Tied(), { decay: constantDecay(0.5) })
  assign([source.b], [tensor([4, 4], f64)])
  ema.update()
  assert.equal([...ema.average.stateDict().get('a')!.dataSync()], [2, 2])
})

test('two tensors of one name throw', () => {
  class Clash extends ModuleList<Linear> {
    readonly '0' = { weight: p(1) }
  }
  const model = new Clash([new Linear(1, 1, init, { bias: false })])
  const text = /^Clash: expected a name for each tensor, got two named '0\.weight'$/
  assert.throws(() => model.stateDict(), text)
  assert.throws(() => [...model.namedParameters()], text)
  assert.throws(() => model.countParameters(), text)
})

test('modules and parameters in arrays and plain records belong to the module that holds them', () => {
  class Nested extends Module {
    readonly layers = [new Linear(1, 2, init), new Linear(2, 1, init, { bias: false })]
    readonly heads = { mean: new Linear(1, 1, init, { bias: false }), others: [[p(1)]] }
    readonly sizes = [1, 2, 3]
    readonly about = new Map([['not', 'looked at']])
  }
  const model = new Nested()
  const names = ['heads.others.0.0', 'layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'heads.mean.weight']
  assert.equal([...model.stateDict().keys()], names)
  assert.equal(
    [...model.children()].map(([name]) => name),
    ['layers.0', 'layers.1', 'heads.mean'],
  )
  assert.is(model.countParameters().total, 8)
  model.dispose()
  assert.ok(model.layers[0].weight.disposed)
})

test('a leaf’s gradient is its own: clipping one leaf changes no other and no cotangent', () => {
  const [a, b] = [p(1, 1), p(2, 2)]
  const cotangent = tensor([3, 4], f64)
  backward(add(a, b), cotangent)
  clipGradNorm([a], 2.5)
  assert.equal([...b.grad!.dataSync()], [3, 4])
  assert.equal([...cotangent.dataSync()], [3, 4])
  const direct = p(1, 1)
  backward(direct, cotangent)
  clipGradNorm([direct], 2.5)
  assert.equal([...cotangent.dataSync()], [3, 4])
  const [c, d] = [p(1, 1), p(2, 2)]
  backward(sum(add(c, d)))
  const norm = clipGradNorm([c, d], 1).dataSync()[0]
  assert.is(norm, 2)
  assert.ok(Math.abs(c.grad!.dataSync()[0] - 0.5) < 1e-6 && Math.abs(d.grad!.dataSync()[1] - 0.5) < 1e-6)
})

test('an update refuses memory that it would write twice, or read while it is written', () => {
  const [a, b] = [tensor([1], f64), tensor([2], f64)]
  assert.throws(
    () => assign([a, a.detach()], [b, b]),
    /^assign: expected each tensor to be written once, got one of shape \[1\] twice$/,
  )
  assert.throws(
    () => assign([a, b], [b, a]),
    /^assign: expected rows that read nothing other rows write, got one of shape \[1\] in two rows$/,
  )
  assert.throws(() => assign([a], []), /^assign: expected as many sources as targets, got 0 and 1$/)
  assert.throws(() => assign([a], [tensor([1, 2], f64)]), /^assign: expected source of shape \[1\], got \[2\]$/)
  assert.throws(() => assign([a], [tensor([1])]), /^assign: expected source in f64 on cpu, got f32 on cpu$/)
  assert.equal([a.dataSync()[0], b.dataSync()[0]], [1, 2])
  assign([a], [a])
  assert.is(a.dataSync()[0], 1)
  b.dispose()
  assert.throws(() => assign([a], [b]), /^assign: use after dispose of a f64 tensor of shape \[1\]$/)
})

test('an update is one record, and a kernel is optional', () => {
  const shrink = defineUpdate<{ readonly x: Tensor }, { readonly by: Tensor }, { readonly power: number }>({
    name: 'shrink',
    fields: { x: 'written' },
    kernel: () => undefined,
    decompose: ({ x }, { by }, { power }) => ({ x: div(x, pow(by, power)) }),
    flops: 2,
    samples: r => [{ rows: [{ x: r(3, 1, 1031) }], scalars: { by: r.positive() }, attrs: { power: 2 } }],
  })
  const x = p(4, 8)
  const seen: string[] = []
  observe(
    ({ name }) => seen.push(name),
    () => update(shrink, [{ x }], { by: tensor(2, f64) }, { power: 2 }),
  )
  assert.equal([...x.dataSync()], [1, 2])
  assert.equal(seen, ['powScalar', 'div', 'assign'])
  assert.is(updates().get('shrink')!.name, 'shrink')
  assert.throws(() => defineUpdate(shrink), /^defineUpdate: there is an update 'shrink' already$/)
  assert.throws(() => lerp([x], [x], Number.NaN), /^lerp: expected a finite weight, got NaN$/)
  assert.throws(() => sumOfSquares([]), /^sumOfSquares: expected at least one tensor, got none$/)
})

test('what the host writes is a write: backward over values from before it throws, on every backend', async () => {
  const backends: Backend[] = [cpu, shapes, await createWasm({ threads: 1 }), await gpu({ device: 'cpu' })]
  for (const backend of backends) {
    const w = tensor([1, 2], { backend }).requireGrad()
    const loss = sum(mul(w, w))
    backend.write(w.storage, Float32Array.of(3, 4))
    assert.throws(() => backward(loss), /changed in place/, backend.name)
    if (backend !== cpu && backend !== shapes) backend.dispose()
  }
})

test('loading a state is a write in the same memory', () => {
  const model = new Linear(2, 1, init)
  const handle = model.weight.detach()
  const loss = sum(model.forward(tensor([[1, 2]], f64).requireGrad()))
  model.loadStateDict(
    new Map([
      ['weight', tensor([[5, 6]], f64)],
      ['bias', tensor([7], f64)],
    ]),
  )
  assert.equal([...handle.dataSync()], [5, 6])
  assert.throws(() => backward(loss), /changed in place/)
})

test('a parameter of the wrong kind of gradient is named', () => {
  const w = p(1, 2)
  w.grad = tensor([1, 2, 3], f64)
  assert.throws(() => new AdamW([['w', w]]).step(), /^adamW: expected g of shape \[2\], got \[3\]$/)
})

test('no file of nn calls a kernel, bumps a version or rebinds memory', () => {
  const folder = join(import.meta.dirname, '../../nn')
  const files = readdirSync(folder)
  assert.ok(files.includes('optim.ts'))
  for (const file of files)
    assert.not.match(readFileSync(join(folder, file), 'utf8'), /\.kernels\b|\.version\b|replaceWith/, file)
})

test('norms refuse channels that do not fit', () => {
  assert.throws(() => new GroupNorm(2, 5, init), /^GroupNorm: expected groups that divide the 5 channels, got 2$/)
  assert.throws(() => new GroupNorm(0, 4, init), /^GroupNorm: expected groups that divide the 4 channels, got 0$/)
  const x = tensor([1, 2, 3, 4, 5, 6, 7, 8], { shape: [2, 1, 2, 2], ...f64 })
  assert.throws(
    () => new BatchNorm(3, init).forward(x),
    /^BatchNorm: expected x of shape \[N, 3, ...\], got \[2, 1, 2, 2\]$/,
  )
})

test.run()
