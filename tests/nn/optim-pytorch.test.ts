/**
 * Optimizers with every option that PyTorch's have too, against what PyTorch's did (tests/fixtures/optim/pytorch.py), by
 * kernels and by decompositions; parameter groups; and hyperparameters that PyTorch refuses.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { type Backend, cpu, createShapes, profile, type Tensor, tensor } from '../../core/index.ts'
import {
  Adam,
  AdamW,
  Adan,
  clipGradNorm,
  constantDecay,
  Ema,
  Linear,
  type NamedParameters,
  type Optimizer,
  parameter,
  Sgd,
} from '../../nn/index.ts'
import { close } from '../near.ts'

type Values = Readonly<Record<string, readonly number[] | null>>
type TorchOptions = Readonly<Record<string, number | boolean | readonly number[]>>

interface Case {
  readonly name: string
  readonly kind: 'AdamW' | 'Adam' | 'SGD'
  readonly options: TorchOptions & { readonly groups?: readonly (TorchOptions & { readonly params: string[] })[] }
  /** After each step. */
  readonly parameters: readonly Values[]
}

const recorded: {
  readonly shapes: Readonly<Record<string, readonly number[]>>
  readonly start: Values
  readonly gradients: readonly Values[]
  readonly cases: readonly Case[]
} = JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures/optim/pytorch.json'), 'utf8'))

type Place = { readonly backend: Backend; readonly dtype: 'f32' | 'f64' }

const f64: Place = { backend: cpu, dtype: 'f64' }
const places: Record<string, Place> = {
  'cpu f64': f64,
  'cpu f32': { backend: cpu, dtype: 'f32' },
  'wasm f32': { backend: await createWasm({ threads: 2 }), dtype: 'f32' },
  'gpu f32': { backend: await gpu({ device: 'cpu' }), dtype: 'f32' },
}

const optimizers = { AdamW, Adam, SGD: Sgd }

function ours(options: TorchOptions): object {
  return Object.fromEntries(
    Object.entries(options).map(([key, value]) => [key === 'weight_decay' ? 'weightDecay' : key, value]),
  )
}

async function followsPyTorch({ kind, options, parameters }: Case, place: Place): Promise<void> {
  const { groups, ...common } = options
  const model = new Map(
    Object.entries(recorded.shapes).map(([name, shape]) => [
      name,
      parameter(tensor(Float64Array.from(recorded.start[name]!), { shape, ...place })),
    ]),
  )
  const params = groups?.map(({ params, ...own }) => ({
    params: params.map((name): [string, Tensor] => [name, model.get(name)!]),
    ...ours(own),
  }))
  const optimizer: Optimizer = new optimizers[kind](params ?? model, ours(common))
  for (const [step, gradient] of recorded.gradients.entries()) {
    for (const [name, p] of model) {
      p.grad?.dispose()
      const g = gradient[name]
      p.grad = g === null ? null : tensor(Float64Array.from(g), { shape: p.shape, ...place })
    }
    optimizer.step()
    for (const [name, p] of model)
      close(await p.data(), parameters[step][name]!, place.dtype === 'f64' ? 1e-14 : 2e-6, `${name}, step ${step}`)
  }
}

for (const one of recorded.cases)
  for (const [name, place] of Object.entries(places))
    test(`${one.name} is PyTorch's: ${name}`, () => followsPyTorch(one, place))

test('so are the decompositions', async () => {
  const kernels = cpu.kernels as Partial<typeof cpu.kernels>
  const { adamW, sgd, sumOfSquares } = kernels
  delete kernels.adamW
  delete kernels.sgd
  delete kernels.sumOfSquares
  try {
    for (const one of recorded.cases) await followsPyTorch(one, f64)
  } finally {
    Object.assign(kernels, { adamW, sgd, sumOfSquares })
  }
})

// ---- groups ---------------------------------------------------------------------------------------------------------

const p = (...values: number[]) => parameter(tensor(values, f64))
const give = (t: Tensor, ...values: number[]) => {
  t.grad?.dispose()
  t.grad = tensor(values, f64)
}

test('the learning rate of a step is for the groups without one of their own', () => {
  const [a, b] = [p(0), p(0)]
  const optimizer = new Sgd([{ params: [['a', a]] }, { params: [['b', b]], lr: 0.5 }], { lr: 0.25 })
  give(a, 1)
  give(b, 1)
  optimizer.step()
  assert.equal([a.dataSync()[0], b.dataSync()[0]], [-0.25, -0.5])
  optimizer.step({ lr: 1 })
  assert.equal([a.dataSync()[0], b.dataSync()[0]], [-1.25, -1])
})

test('the norm is over all groups', async () => {
  const [a, b] = [p(0), p(0)]
  const optimizer = new Sgd([{ params: [['a', a]] }, { params: [['b', b]] }], { lr: 1 })
  give(a, 3)
  give(b, 4)
  assert.is(await optimizer.step({ maxNorm: 2.5 }).norm.item(), 5)
  close([a.dataSync()[0], b.dataSync()[0]], [-1.5, -2], 1e-6)
})

test('groups keep their state under the parameters’ names: a saved state resumes, in one group or several', () => {
  const makers: Record<string, (params: NamedParameters[]) => Optimizer> = {
    AdamW: params => new AdamW(params.map(params => ({ params }))),
    'AdamW amsgrad': params => new AdamW(params.map(params => ({ params, amsgrad: true }))),
    Sgd: params =>
      new Sgd(
        params.map(params => ({ params })),
        { momentum: 0.9, dampening: 0.5 },
      ),
    Adan: params => new Adan(params.map(params => ({ params }))),
  }
  for (const [name, make] of Object.entries(makers)) {
    const run = (grouped: boolean, steps: number, from?: { optimizer: Optimizer; values: number[] }) => {
      const [a, b] = from === undefined ? [p(1), p(2)] : from.values.map(v => p(v))
      const optimizer = make(
        grouped
          ? [[['a', a]], [['b', b]]]
          : [
              [
                ['a', a],
                ['b', b],
              ],
            ],
      )
      if (from !== undefined) optimizer.loadStateDict(from.optimizer.stateDict())
      for (let step = 0; step < steps; step++) {
        give(a, Math.sin(step + (from === undefined ? 0 : 3)))
        give(b, Math.cos(step + (from === undefined ? 0 : 3)))
        optimizer.step()
      }
      return { optimizer, values: [a, b].map(t => t.dataSync()[0]) }
    }
    const whole = run(true, 6).values
    assert.equal(run(false, 6).values, whole, name)
    assert.equal(run(true, 3, run(true, 3)).values, whole, name)
    if (name !== 'Adan') assert.equal(run(true, 3, run(false, 3)).values, whole, name)
  }
  // Adan counts steps by group: the first group's counts have the names that those of a single one have.
  const adan = new Adan([{ params: [['a', p(1)]] }, { params: [['b', p(1)]] }])
  const counts = [1, 2, 3].map(i => `correction${i}`)
  assert.equal([...adan.stateDict().keys()], [...counts, ...counts.map(name => `group1.${name}`)])
})

test('parameters of one name, and one parameter in two groups, are refused', () => {
  const a = p(1)
  assert.throws(
    () =>
      new AdamW([
        ['w', a],
        ['w', p(2)],
      ]),
    /^AdamW: expected a name for each parameter, got two named 'w'$/,
  )
  assert.throws(
    () => new Sgd([{ params: [['w', a]] }, { params: [['w', a]] }]),
    /^Sgd: expected each parameter in one group, got 'w' in two$/,
  )
})

// ---- hyperparameters ------------------------------------------------------------------------------------------------

test('numbers that are not, infinite or negative are refused, at construction, in a group and in a step', () => {
  const one: NamedParameters = [['w', p(1)]]
  const bad = [Number.NaN, Infinity, -Infinity, -1]
  const refuses = (make: () => unknown, op: string, what: string, value: number) =>
    assert.throws(
      make,
      (error: Error) => error instanceof RangeError && error.message === `${op}: expected ${what}, got ${value}`,
    )
  for (const value of bad) {
    const [lr, eps, weightDecay, maxNorm] = ['lr', 'eps', 'weightDecay', 'maxNorm'].map(name => `a finite ${name} ≥ 0`)
    refuses(() => new AdamW(one, { lr: value }), 'AdamW', lr, value)
    refuses(() => new AdamW([{ params: one, lr: value }]), 'AdamW', lr, value)
    refuses(() => new AdamW(one).step({ lr: value }), 'AdamW', lr, value)
    refuses(() => new AdamW(one, { eps: value }), 'AdamW', eps, value)
    refuses(() => new AdamW(one, { weightDecay: value }), 'AdamW', weightDecay, value)
    refuses(() => new Adan(one, { eps: value }), 'Adan', eps, value)
    refuses(() => new Sgd(one, { weightDecay: value }), 'Sgd', weightDecay, value)
    refuses(() => new Sgd(one, { momentum: value }), 'Sgd', 'a finite momentum ≥ 0', value)
    refuses(() => new Sgd(one).step({ maxNorm: value }), 'Sgd', maxNorm, value)
    refuses(() => clipGradNorm([], value), 'clipGradNorm', maxNorm, value)
  }
  for (const value of [...bad, 1]) {
    refuses(() => new AdamW(one, { betas: [value, 0.9] }), 'AdamW', 'betas in [0, 1)', `${value}, 0.9` as never)
    refuses(() => new Adan(one, { betas: [0, 0, value] }), 'Adan', 'betas in [0, 1)', `0, 0, ${value}` as never)
  }
  refuses(() => new Sgd(one, { dampening: Number.NaN }), 'Sgd', 'a finite dampening', Number.NaN)
  for (const options of [{ nesterov: true }, { nesterov: true, momentum: 0.9, dampening: 0.1 }])
    assert.throws(
      () => new Sgd(one, options),
      /^Sgd: expected nesterov with momentum > 0 and dampening 0, got momentum/,
    )
})

test('an average whose decay is outside [0, 1] is refused, and moves nothing', () => {
  const model = new Linear(1, 1, { rng: null, ...f64 })
  for (const value of [Number.NaN, -0.1, 1.1, Infinity]) {
    const ema = new Ema(model, new Linear(1, 1, { rng: null, ...f64 }), { decay: () => value })
    const text = `Ema: expected a decay in [0, 1], got ${value}`
    assert.throws(() => constantDecay(value), /^constantDecay: expected a decay in \[0, 1\], got /)
    assert.throws(
      () => ema.update(),
      (error: Error) => error instanceof RangeError && error.message === text,
    )
    assert.is(ema.updates, 0)
  }
})

// ---- updates are ops ------------------------------------------------------------------------------------------------

test('profile sees the updates of a step, each once for all parameters', () => {
  const model = new Linear(3, 2, { rng: null, ...f64 })
  const optimizer = new AdamW(model.namedParameters())
  const ema = new Ema(model, new Linear(3, 2, { rng: null, ...f64 }), { decay: constantDecay(0.5) })
  give(model.bias!, 1, 2)
  model.weight.grad = tensor([0, 1, 2, 3, 4, 5], { shape: [2, 3], ...f64 })
  const rows = profile(() => {
    const { finite } = optimizer.step({ maxNorm: 1 })
    ema.update(finite)
  })
  const seen = new Map(rows.map(row => [row.op, row]))
  assert.equal(
    ['sumOfSquares', 'adamW', 'lerp'].map(name => seen.get(name)?.calls),
    [1, 1, 1],
  )
  assert.is(seen.get('lerp')!.flops, 3 * 8)
  assert.is(seen.get('lerp')!.bytes, 8 * (8 + 8 + 1 + 8)) // targets, sources and finite read, targets written
  assert.is(seen.get('adamW')!.flops, 5 * 3 * 8)
})

test('a step on shapes takes the memory of one on wasm', () => {
  const bytesOf = (backend: Backend) => {
    const model = new Linear(3, 2, { rng: null, backend })
    const optimizer = new Sgd(model.namedParameters(), { momentum: 0.9, dampening: 0.5 })
    for (const t of model.parameters()) t.grad = tensor(new Float32Array(t.size), { shape: t.shape, backend })
    const before = backend.stats().bytes
    optimizer.step()
    const after = backend.stats().bytes
    return after - before
  }
  const wasm = bytesOf(places['wasm f32'].backend)
  assert.ok(wasm > 0)
  assert.is(bytesOf(createShapes({ fused: true })), wasm)
})

test.after(() => {
  for (const { backend } of Object.values(places)) if (backend !== cpu) backend.dispose()
})

test.run()
