/**
 * Optimizers, schedules and averages: against the formulas written out on the host, on every backend, with and without
 * fused kernels. The reference implementations' own numbers are in the parity fixtures.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  type Backend,
  backward,
  cpu,
  type FusedKernels,
  mean,
  mul,
  reshape,
  rng,
  scope,
  square,
  stats,
  sub,
  type Tensor,
  tensor,
  type UpdateKernels,
} from '../../core/index.ts'
import { decodeSafetensors, encodeSafetensors } from '../../io/safetensors.ts'
import {
  Adam,
  AdamW,
  Adan,
  clipGradNorm,
  constant,
  constantDecay,
  cosine,
  Ema,
  frozen,
  Linear,
  linearAnneal,
  Module,
  type Optimizer,
  parameter,
  powerDecay,
  rampUp,
  Sgd,
  warmUp,
  warmUpDecay,
} from '../../nn/index.ts'
import { near } from '../near.ts'

type Place = { readonly backend: Backend; readonly dtype: 'f32' | 'f64' }

const places: Record<string, Place> = {
  'cpu f64': { backend: cpu, dtype: 'f64' },
  'cpu f32': { backend: cpu, dtype: 'f32' },
  'wasm f32': { backend: await createWasm(), dtype: 'f32' },
  'gpu f32': { backend: await gpu({ device: 'cpu' }), dtype: 'f32' },
}
const f64 = places['cpu f64']

type Optional = keyof (FusedKernels & UpdateKernels)

/** Runs `fn` while cpu lacks some kernels. */
async function without(names: readonly Optional[], fn: () => Promise<void>): Promise<void> {
  const kernels = cpu.kernels as Partial<FusedKernels & UpdateKernels>
  const kept = { ...kernels }
  for (const name of names) delete kernels[name]
  try {
    await fn()
  } finally {
    Object.assign(kernels, kept)
  }
}

/** Two parameters, one of which begins late. */
class Pair extends Module {
  readonly a: Tensor
  readonly b: Tensor

  constructor(place: Place) {
    super()
    this.a = parameter(tensor([1, -2, 3], place))
    this.b = parameter(tensor([0.5, 0.25], place))
  }
}

const gradients = Array.from({ length: 6 }, (_, step) => ({
  a: Array.from({ length: 3 }, (_, i) => Math.sin(1 + step + 2 * i)),
  b: step < 2 ? null : Array.from({ length: 2 }, (_, i) => Math.cos(step - i)),
}))

function give(model: Pair, step: number, place: Place): void {
  model.zeroGrad()
  const { a, b } = gradients[step]
  model.a.grad = tensor(a, place)
  if (b !== null) model.b.grad = tensor(b, place)
}

async function values(tensors: Iterable<readonly [string, Tensor]>): Promise<Record<string, number[]>> {
  const found: Record<string, number[]> = {}
  for (const [name, t] of tensors) found[name] = Array.from(await t.data())
  return found
}

const settings = { lr: 0.05, betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0.1 } as const

/** AdamW of one parameter, written out: its steps are those in which it has a gradient. */
function adamWOnHost(start: readonly number[], steps: readonly (readonly number[] | null)[]): number[] {
  const [p, m, v] = [[...start], start.map(() => 0), start.map(() => 0)]
  const { lr, betas, eps, weightDecay } = settings
  let t = 0
  for (const g of steps) {
    if (g === null) continue
    t++
    for (let i = 0; i < p.length; i++) {
      p[i] *= 1 - lr * weightDecay
      m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
      v[i] = betas[1] * v[i] + (1 - betas[1]) * g[i] ** 2
      p[i] -= (lr * (m[i] / (1 - betas[0] ** t))) / (Math.sqrt(v[i] / (1 - betas[1] ** t)) + eps)
    }
  }
  return p
}

async function adamWIsRight(place: Place): Promise<void> {
  const model = new Pair(place)
  const optimizer = new AdamW(model.namedParameters(), settings)
  for (const step of gradients.keys()) {
    give(model, step, place)
    scope(() => optimizer.step())
  }
  const got = await values(model.namedParameters())
  const tolerance = place.dtype === 'f64' ? 1e-14 : 1e-6
  near(
    got.a,
    adamWOnHost(
      [1, -2, 3],
      gradients.map(g => g.a),
    ),
    tolerance,
    'a',
  )
  near(
    got.b,
    adamWOnHost(
      [0.5, 0.25],
      gradients.map(g => g.b),
    ),
    tolerance,
    'b',
  )
}

for (const [name, place] of Object.entries(places))
  test(`AdamW is the written-out AdamW, and counts each parameter's own steps: ${name}`, () => adamWIsRight(place))

test('AdamW in plain ops is the same', () =>
  without(['adamW', 'sumOfSquares'], async () => {
    await adamWIsRight(f64)
  }))

test('a gap in the gradients of one parameter does not count for the others', async () => {
  const model = new Pair(f64)
  const optimizer = new AdamW(model.namedParameters(), settings)
  const present = [true, true, false, false, true, false, true]
  const g = (step: number) => [Math.sin(step), Math.cos(step)]
  for (const [step, has] of present.entries()) {
    model.zeroGrad()
    model.a.grad = tensor([...g(step), 1], f64)
    if (has) model.b.grad = tensor(g(step), f64)
    scope(() => optimizer.step())
  }
  const got = await values(model.namedParameters())
  near(
    got.a,
    adamWOnHost(
      [1, -2, 3],
      present.map((_, step) => [...g(step), 1]),
    ),
    1e-14,
    'a',
  )
  near(
    got.b,
    adamWOnHost(
      [0.5, 0.25],
      present.map((has, step) => (has ? g(step) : null)),
    ),
    1e-14,
    'b',
  )
})

const makers: Record<string, (model: Module) => Optimizer> = {
  AdamW: model => new AdamW(model.namedParameters(), settings),
  Adam: model => new Adam(model.namedParameters(), { lr: 0.05 }),
  Sgd: model => new Sgd(model.namedParameters(), { lr: 0.05, momentum: 0.9 }),
  Adan: model => new Adan(model.namedParameters(), { lr: 0.05, weightDecay: 0.1 }),
}

/** Steps with a gradient that is not finite in between change no byte, the first step included. */
async function skipsWhatIsNotFinite(place: Place, make: (model: Module) => Optimizer, maxNorm?: number): Promise<void> {
  const [model, undisturbed] = [new Pair(place), new Pair(place)]
  const [optimizer, other] = [make(model), make(undisturbed)]
  for (const step of gradients.keys()) {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const before = await values([...model.namedParameters(), ...optimizer.stateDict()])
      give(model, step, place)
      model.a.grad = tensor([0, bad, 0], place)
      const { finite } = optimizer.step({ maxNorm })
      assert.is(await finite.item(), 0)
      const after = await values([...model.namedParameters(), ...optimizer.stateDict()])
      for (const [name, was] of Object.entries(before)) assert.equal(after[name], was, `${name} changed`)
    }
    give(model, step, place)
    give(undisturbed, step, place)
    const { finite, norm } = optimizer.step({ maxNorm })
    other.step({ maxNorm })
    assert.is(await finite.item(), 1)
    assert.ok(Number.isFinite(await norm.item()))
  }
  assert.equal(await values(model.namedParameters()), await values(undisturbed.namedParameters()))
  assert.equal(await values(optimizer.stateDict()), await values(other.stateDict()))
}

for (const [name, place] of Object.entries(places))
  for (const [kind, make] of Object.entries(makers))
    test(`${kind} leaves weights, moments and counts alone where gradients are not finite: ${name}`, () =>
      skipsWhatIsNotFinite(place, make, 1))

test('so does AdamW in plain ops', () =>
  without(['adamW', 'sumOfSquares'], () => skipsWhatIsNotFinite(f64, makers.AdamW)))

for (const [kind, make] of Object.entries(makers))
  test(`${kind} goes on from a saved state to the byte`, async () => {
    const place = places['wasm f32']
    const resumed = new Pair(place)
    const optimizer = make(resumed)
    // After one step, b has no state yet; after four, its count of steps is behind that of a.
    for (const saveAt of [1, 4]) {
      const straight = new Pair(place)
      const whole = make(straight)
      for (const step of gradients.keys()) {
        give(straight, step, place)
        whole.step()
        if (step + 1 !== saveAt) continue
        const file = encodeSafetensors(await hosted(new Map([...straight.stateDict(), ...whole.stateDict()])))
        const { tensors } = decodeSafetensors(file)
        const weights = new Map([...tensors].filter(([name]) => straight.stateDict().has(name)))
        resumed.loadStateDict(weights)
        optimizer.loadStateDict(new Map([...tensors].filter(([name]) => !weights.has(name))))
      }
      for (let step = saveAt; step < gradients.length; step++) {
        give(resumed, step, place)
        optimizer.step()
      }
      assert.equal(await values(resumed.namedParameters()), await values(straight.namedParameters()))
      assert.equal(await values(optimizer.stateDict()), await values(whole.stateDict()))
    }
  })

async function hosted(tensors: ReadonlyMap<string, Tensor>) {
  const found = new Map<string, { dtype: 'F32'; shape: readonly number[]; data: ArrayLike<number> }>()
  for (const [name, t] of tensors) found.set(name, { dtype: 'F32', shape: t.shape, data: await t.data() })
  return found
}

for (const [kind, make] of Object.entries(makers))
  test(`${kind} takes its own state, and keeps neither the old tensors nor loses one`, async () => {
    const model = new Pair(f64)
    const optimizer = make(model)
    for (const step of [0, 1, 2]) {
      give(model, step, f64) // b begins late, so the two have different counts
      optimizer.step()
    }
    const [before, { bytes }] = [await values(optimizer.stateDict()), stats(cpu)]
    optimizer.loadStateDict(optimizer.stateDict())
    assert.equal(await values(optimizer.stateDict()), before)
    assert.is(stats(cpu).bytes, bytes)
  })

test('after loading, parameters with equal counts of steps share them again, and are updated by one launch', () => {
  const [model, resumed] = [new Pair(f64), new Pair(f64)]
  const [optimizer, other] = [makers.AdamW(model), makers.AdamW(resumed)]
  give(model, 3, f64)
  optimizer.step()
  other.loadStateDict(optimizer.stateDict())
  const loaded = other.stateDict()
  assert.is(loaded.get('correction1.a'), loaded.get('correction1.b'))
  assert.is(loaded.get('correction2.a'), loaded.get('correction2.b'))
})

test('a state that does not fit is refused in one line, and nothing changes', () => {
  const model = new Pair(f64)
  const optimizer = new AdamW(model.namedParameters())
  give(model, 3, f64)
  optimizer.step()
  const state = new Map<string, Tensor>(optimizer.stateDict())
  state.delete('exp_avg.b')
  state.set('exp_avg_sq.a', model.b)
  state.set('exp_avg.c', model.b)
  const before = optimizer.stateDict().get('exp_avg.a')!.dataSync()
  const message =
    /^AdamW: loadStateDict: exp_avg_sq\.a: expected \[3\], got \[2\]; exp_avg\.b is missing; exp_avg\.c is unexpected$/
  assert.throws(() => optimizer.loadStateDict(state), message)
  assert.equal(optimizer.stateDict().get('exp_avg.a')!.dataSync(), before)
  const hosts = new Map([...optimizer.stateDict()].map(([name, { shape }]) => [name, { shape, data: [1, 2] }]))
  assert.throws(
    () => optimizer.loadStateDict(hosts),
    /^AdamW: loadStateDict: exp_avg\.a: expected 3 values for \[3\], got 2; .*correction2\.b: expected 1 values for \[\], got 2$/,
  )
  assert.equal(optimizer.stateDict().get('exp_avg.a')!.dataSync(), before)
})

test('clipping in a step is clipping before it; the norm is that before clipping', async () => {
  for (const maxNorm of [0.1, 100]) {
    const [model, other] = [new Pair(f64), new Pair(f64)]
    const [optimizer, plain] = [makers.AdamW(model), makers.AdamW(other)]
    give(model, 3, f64)
    give(other, 3, f64)
    const norm = clipGradNorm(other.parameters(), maxNorm)
    plain.step()
    const info = optimizer.step({ maxNorm })
    const { a, b } = gradients[3]
    const want = Math.hypot(...a, ...b!)
    near([await norm.item(), await info.norm.item()], [want, want], 1e-14, 'norm')
    const factor = Math.min(1, maxNorm / (want + 1e-6))
    near(
      Array.from(other.a.grad!.dataSync()),
      a.map(g => g * factor),
      1e-15,
      'clipped',
    )
    near(Array.from(model.a.dataSync()), Array.from(other.a.dataSync()), 1e-14, 'a')
  }
})

test('accumulated gradients of k parts are those of the whole batch', () => {
  const model = new Linear(3, 1, { rng: rng(1), ...f64 })
  const [x, y] = [rng(2).normal([8, 3], f64), rng(3).normal([8, 1], f64)]
  const loss = (from: number, to: number) => {
    const rows = (t: Tensor, width: number) =>
      tensor(t.dataSync().slice(from * width, to * width), { shape: [to - from, width], ...f64 })
    return mean(square(sub(model.forward(rows(x, 3)), rows(y, 1))))
  }
  scope(() => backward(loss(0, 8)))
  const whole = Array.from(model.weight.grad!.dataSync())
  model.zeroGrad()
  for (const part of [0, 1, 2, 3]) scope(() => backward(mul(loss(2 * part, 2 * part + 2), 1 / 4)))
  near(Array.from(model.weight.grad!.dataSync()), whole, 1e-15, 'gradient')
})

test('frozen parameters are left out, mixed dtypes refused, no gradient no step', async () => {
  const still = frozen(tensor([1], f64))
  const moving = parameter(tensor([1], f64))
  const optimizer = new AdamW([
    ['still', still],
    ['moving', moving],
  ])
  assert.equal([...optimizer.parameters.keys()], ['moving'])
  assert.is(await optimizer.step().norm.item(), 0)
  assert.is(moving.dataSync()[0], 1)
  assert.is(optimizer.stateDict().size, 0)
  const other = parameter(tensor([1], places['cpu f32']))
  assert.throws(
    () =>
      new AdamW([
        ['a', moving],
        ['b', other],
      ]),
    /one dtype and backend, got b in f32 on cpu/,
  )
})

for (const [name, place] of Object.entries(places))
  for (const [kind, make] of Object.entries(makers))
    test(`${kind} writes the parameter's memory, which views and detached handles follow: ${name}`, async () => {
      const model = new Pair(place)
      const optimizer = make(model)
      const average = new Ema(model, new Pair(place), { decay: constantDecay(0.5) })
      const followed = [model.a, average.average.a].map(t => ({ t, handles: [t.detach(), reshape(t, [1, 3])] }))
      const versions = followed.map(({ t }) => t.storage.version)
      give(model, 3, place)
      const { finite } = optimizer.step({ maxNorm: 1 })
      average.update(finite)
      for (const [i, { t, handles }] of followed.entries()) {
        const now = [...(await t.data())]
        assert.not.equal(now, [1, -2, 3])
        for (const handle of handles) assert.equal([...(await handle.data())], now)
        assert.is(t.storage.version, versions[i] + 1)
      }
    })

test('a step in plain ops writes the same memory', () =>
  without(['adamW', 'lerp', 'sumOfSquares'], async () => {
    const model = new Pair(f64)
    const handle = model.a.detach()
    give(model, 3, f64)
    makers.AdamW(model).step()
    assert.equal(handle.dataSync(), model.a.dataSync())
    assert.not.equal([...handle.dataSync()], [1, -2, 3])
  }))

test('a step in place counts as a write: backward over weights from before it throws', () => {
  const model = new Linear(2, 1, { rng: rng(1), ...f64 })
  const x = tensor([[1, 2]], f64).requireGrad()
  const loss = mean(square(model.forward(x)))
  model.weight.grad = tensor([[1, 1]], f64)
  new AdamW(model.namedParameters()).step()
  assert.throws(() => backward(loss), /changed in place/)
})

for (const [kind, make] of Object.entries(makers))
  test(`${kind}: bytes and handles after step 20 are those after step 3`, () => {
    const place = places['wasm f32']
    const model = new Linear(5, 4, { rng: rng(1), ...place })
    const optimizer = make(model)
    const x = rng(2).normal([3, 5], place)
    const seen: { bytes: number; tensors: number }[] = []
    for (let step = 0; step < 20; step++) {
      optimizer.zeroGrad()
      scope(() => {
        backward(mean(square(model.forward(x))))
        optimizer.step({ maxNorm: 1 })
      })
      const { bytes, tensors } = stats(place.backend)
      seen.push({ bytes, tensors })
    }
    assert.equal(seen[19], seen[3])
    const others = stats(place.backend).bytes
    optimizer.dispose()
    assert.ok(stats(place.backend).bytes < others)
  })

test('what Adan does where it is not told', () => {
  const [plain, told] = [{}, { lr: 1e-3, betas: [0.98, 0.92, 0.99], eps: 1e-8, weightDecay: 0 } as const].map(
    options => {
      const p = parameter(tensor([2, -1], f64))
      const optimizer = new Adan([['p', p]], options)
      for (const g of [
        [0.3, -0.2],
        [-0.1, 1e-8],
      ]) {
        p.grad = tensor(g, f64)
        optimizer.step()
      }
      return Array.from(p.dataSync())
    },
  )
  assert.equal(plain, told)
  near(plain.slice(0, 1), [2 - 0.001], 2e-3, 'about lr a step')
})

test('Adan by hand: the change of the gradient is 0 in the first step', () => {
  const p = parameter(tensor([2], f64))
  const optimizer = new Adan([['p', p]], { lr: 0.1, betas: [0.9, 0.8, 0.7], eps: 1e-3, weightDecay: 0.5 })
  const gs = [0.3, -0.2, 0.7]
  let [x, m, d, v] = [2, 0, 0, 0]
  for (const [i, g] of gs.entries()) {
    p.grad = tensor([g], f64)
    optimizer.step()
    const change = i === 0 ? 0 : g - gs[i - 1]
    m = 0.9 * m + 0.1 * g
    d = 0.8 * d + 0.2 * change
    v = 0.7 * v + 0.3 * (g + 0.8 * change) ** 2
    const [c1, c2, c3] = [1 - 0.9 ** (i + 1), 1 - 0.8 ** (i + 1), 1 - 0.7 ** (i + 1)]
    x = (x - (0.1 * (m / c1 + (0.8 * d) / c2)) / (Math.sqrt(v / c3) + 1e-3)) / (1 + 0.1 * 0.5)
    near(Array.from(p.dataSync()), [x], 1e-14, 'p')
  }
})

test('learning rates', () => {
  assert.equal([0, 5, 10, 20].map(warmUp(10, constant(2))), [0, 1, 2, 2])
  assert.is(warmUp(0, constant(2))(0), 2)
  assert.equal([0, 1, 4, 9].map(rampUp(250, 1, constant(1))), [0, 0.25, 1, 1])
  assert.equal([0, 1].map(rampUp(250, 0, constant(1))), [0, 1])
  assert.equal([0, 10, 99].map(cosine(1, 10, 0.25)), [1, 0.25, 0.25])
  assert.ok(Math.abs(cosine(1, 10, 0.25)(5) - 0.625) < 1e-15)
  assert.equal([0, 1, 2, 5, 9].map(linearAnneal(1, 4)), [1, 1, 0.75, 0, 0])
  assert.equal([0, 1, 9].map(cosine(1, 0, 0.25)), [0.25, 0.25, 0.25])
  assert.equal([0, 1, 9].map(linearAnneal(2, 0)), [2, 2, 2])
})

test('a learning rate that is not finite is refused, and moves nothing', () => {
  for (const make of Object.values(makers)) {
    const model = new Pair(f64)
    const optimizer = make(model)
    give(model, 3, f64)
    for (const lr of [Number.NaN, Number.POSITIVE_INFINITY])
      assert.throws(
        () => optimizer.step({ lr }),
        (error: Error) =>
          error instanceof RangeError && /^\w+: expected a finite lr ≥ 0, got (NaN|Infinity)$/.test(error.message),
      )
    assert.equal(Array.from(model.a.dataSync()), [1, -2, 3])
    assert.is([...optimizer.stateDict().keys()].filter(name => name.endsWith('.a')).length, 0)
  }
})

test('decays', () => {
  assert.equal([0, 9, 1e6].map(warmUpDecay(0.999)), [1 / 10, 10 / 19, 0.999])
  assert.equal([0, 100].map(powerDecay(0.999)), [0, 0])
  assert.is(powerDecay(0.999)(101), 1 - 2 ** (-2 / 3))
  assert.is(powerDecay(0.999)(1e6), 0.999)
})

async function averageIsRight(place: Place): Promise<void> {
  const [model, average] = [new Pair(place), new Pair(place)]
  model.loadStateDict(
    new Map([
      ['a', { shape: [3], data: [4, 5, 6] }],
      ['b', { shape: [2], data: [7, 8] }],
    ]),
  )
  const ema = new Ema(model, average, { decay: constantDecay(0.75) })
  assert.equal(await values(average.namedParameters()), { a: [4, 5, 6], b: [7, 8] })
  model.loadStateDict(
    new Map([
      ['a', { shape: [3], data: [8, 5, 2] }],
      ['b', { shape: [2], data: [7, 0] }],
    ]),
  )
  ema.update()
  const once = { a: [5, 5, 5], b: [7, 6] }
  assert.equal(await values(average.namedParameters()), once)
  ema.update(tensor(0, place))
  assert.equal(await values(average.namedParameters()), once)
  ema.update(tensor(1, place))
  assert.equal(await values(average.namedParameters()), { a: [5.75, 5, 4.25], b: [7, 4.5] })
  assert.is(ema.updates, 3)
}

for (const [name, place] of Object.entries(places)) test(`the average follows: ${name}`, () => averageIsRight(place))

test('the average follows in plain ops', () => without(['lerp'], () => averageIsRight(f64)))

test('frozen parameters are averaged, or not', () => {
  class Half extends Module {
    readonly p = parameter(tensor([0], f64))
    readonly pos_embed = frozen(tensor([0], f64))
  }
  for (const [skipFrozen, want] of [
    [false, 1],
    [true, 0],
  ] as const) {
    const [model, average] = [new Half(), new Half()]
    const ema = new Ema(model, average, { decay: constantDecay(0.5), skipFrozen })
    model.loadStateDict(
      new Map([
        ['p', { shape: [1], data: [2] }],
        ['pos_embed', { shape: [1], data: [2] }],
      ]),
    )
    ema.update()
    assert.is(average.p.dataSync()[0], 1)
    assert.is(average.pos_embed.dataSync()[0], want)
  }
  class Still extends Module {
    readonly pos_embed = frozen(tensor([3], f64))
  }
  const ema = new Ema(new Still(), new Still(), { decay: constantDecay(0.5), skipFrozen: true })
  ema.update()
  assert.is(ema.updates, 1)
  assert.is(ema.average.pos_embed.dataSync()[0], 3)
})

test.run()
