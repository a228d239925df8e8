/** A step that is not finite: nothing moves, the layer and the op are named, and a run stops or skips by its setting. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu } from '../../core/backends/cpu/backend.ts'
import { gpu } from '../../core/backends/gpu/index.ts'
import {
  type Backend,
  backward,
  checkpoint,
  exp,
  firstNonFinite,
  labelled,
  matmul,
  mean,
  ready,
  reshape,
  rng,
  scope,
  sqrt,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { UserError } from '../../io/user-error.ts'
import { Activation, AdamW, Ema, Layer, Linear, ModuleList, parameter, withLayerNames } from '../../nn/index.ts'
import { type GuardSettings, Progress, StepGuard } from '../../training/index-node.ts'
import { bytesOf, fail, inFolder, succeed } from '../programs/example.ts'

const wasm = await ready({ backend: 'wasm', threads: 1 })
const backends: readonly Backend[] = [cpu, wasm, await gpu({ device: 'cpu' })]

/** √(x²) of each row, which at 0 has a value and no gradient. */
class Norm extends Layer {
  forward(x: Tensor): Tensor {
    return this.root(sum(square(x), -1)) // (N)
  }

  root(x: Tensor): Tensor {
    return sqrt(x)
  }
}

class Net extends Layer {
  readonly weight: Tensor
  readonly blocks: ModuleList<Layer>
  readonly norm = new Norm()

  constructor(backend: Backend, act: (x: Tensor) => Tensor) {
    super()
    this.weight = parameter(tensor([1, 2, 3, 4], { shape: [2, 2], backend, dtype: 'f32' }))
    this.blocks = new ModuleList([new Activation(x => x), new Activation(act)])
  }

  forward(x: Tensor): Tensor {
    let y = matmul(x, this.weight) // (N, 2)
    for (const block of this.blocks) y = block.forward(y)
    return this.norm.forward(y) // (N)
  }
}

const input = (backend: Backend, values: readonly number[]) =>
  tensor(values, { shape: [values.length / 2, 2], backend, dtype: 'f32' })

function replayOf(net: Net, values: readonly number[]): () => void {
  return () =>
    scope(() => {
      const x = input(net.weight.backend, values)
      const loss = mean(net.forward(x))
      backward(loss)
    })
}

for (const backend of backends)
  test(`the layer and the op that made the first NaN or infinity are found: ${backend.name}`, async () => {
    const find = async (act: (x: Tensor) => Tensor, values: readonly number[]) => {
      const net = new Net(backend, act)
      try {
        const found = await firstNonFinite(() => labelled('the loss', () => withLayerNames(net, replayOf(net, values))))
        return found && `${found.op} in ${found.label}`
      } finally {
        net.dispose()
      }
    }
    assert.is(await find(x => x, [1, 2]), null)
    assert.is(await find(exp, [1, 2]), null)
    assert.is(await find(exp, [100, 2]), 'exp in blocks.1')
    assert.is(await find(x => x, [1e38, 1]), 'square in norm')
    assert.is(await find(x => x, [3e38, 3e38]), 'matmul in Net')
    assert.match(`${await find(x => x, [0, 0])}`, /^\w+ in the gradient of norm$/)
    assert.is(await find(x => checkpoint(([h]) => exp(h), [x]), [100, 2]), 'exp in blocks.1')
    const { storages } = backend.stats()
    assert.is(await find(exp, [100, 2]), 'exp in blocks.1')
    assert.is(backend.stats().storages, storages)
  })

test('names are there for one call only, and an error passes', () => {
  const net = new Net(cpu, x => x)
  const fields = Object.getOwnPropertyNames(net.norm)
  assert.throws(
    () =>
      withLayerNames(net, () => {
        assert.not.equal(Object.getOwnPropertyNames(net.norm), fields)
        assert.equal(Object.keys(net.norm), Object.keys(new Norm()))
        throw new Error('another')
      }),
    /another/,
  )
  assert.equal(Object.getOwnPropertyNames(net.norm), fields)
  net.dispose()
})

for (const backend of backends)
  test(`a loss that is not finite changes no byte of weights, moments and averages: ${backend.name}`, async () => {
    const init = { rng: rng(1), backend, dtype: 'f32' } as const
    const [model, average] = [new Linear(3, 2, init), new Linear(3, 2, init)]
    const optimizer = new AdamW(model.namedParameters(), { lr: 0.1 })
    const ema = new Ema(model, average, { decay: () => 0.5 })
    const x = tensor([1, 2, 3], { shape: [1, 3], backend, dtype: 'f32' })
    const step = async (loss: number) => {
      const { finite } = scope(() => {
        backward(sum(square(model.forward(x))))
        const other = tensor([loss], { shape: [], backend, dtype: 'f32' })
        const info = optimizer.step({ losses: [other] })
        ema.update(info.finite)
        optimizer.zeroGrad()
        return info
      })
      return finite.item()
    }
    const all = async () => {
      const tensors = [...model.stateDict(), ...optimizer.stateDict(), ...average.stateDict()]
      return Promise.all(tensors.map(async ([name, t]) => [name, Array.from(await t.data())]))
    }
    assert.is(await step(1), 1)
    const before = await all()
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) assert.is(await step(bad), 0)
    assert.equal(await all(), before)
    assert.is(await step(1), 1)
    assert.not.equal(await all(), before)
    for (const owner of [model, optimizer, average]) owner.dispose()
    x.dispose()
  })

/** A guard, and what it says to a person. */
function guarded(options: GuardSettings): { guard: StepGuard; net: Net; progress: Progress; said: () => string } {
  let text = ''
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk
      done()
    },
  })
  const progress = new Progress({ total: 9, stream: Object.assign(stream, { isTTY: false }) as NodeJS.WriteStream })
  const net = new Net(cpu, exp)
  return { guard: new StepGuard('/nowhere', net, options), net, progress, said: () => text }
}

test('a run stops at the first step that is not finite, with the layer and the op', async () => {
  const { guard, net, progress } = guarded({ maxNorm: null, skipNonfinite: 0 })
  const outcome = { step: 4, gradNorm: Number.NaN, finite: false, replay: replayOf(net, [100, 2]) }
  try {
    await guard.judge(outcome, progress)
    assert.unreachable()
  } catch (error) {
    assert.instance(error, UserError)
    const wanted =
      /^step 4: the loss or .*: the first such value was made by 'exp' in blocks\.1, op 2 of the step, of shape \[1, 2\]\. Last good checkpoint: there is none yet$/
    assert.match((error as Error).message, wanted)
  }
  assert.is(net.weight.grad, null, 'the replay leaves no gradient behind')
})

test('skips are counted in a row, and clipping is told with what it multiplied by', async () => {
  const { guard, net, progress, said } = guarded({ maxNorm: 2, skipNonfinite: 2 })
  const bad = { gradNorm: Number.NaN, finite: false, replay: replayOf(net, [100, 2]) }
  const good = (gradNorm: number) => ({ gradNorm, finite: true, replay: bad.replay })
  const judge = (step: number, outcome: Omit<typeof bad, 'step'>) => guard.judge({ step, ...outcome }, progress)
  assert.equal(await judge(1, good(2)), {})
  assert.equal(await judge(2, bad), { skipped: 1 })
  assert.equal(await judge(3, bad), { skipped: 2 })
  assert.equal(await judge(4, good(8)), { clip: 2 / (8 + 1e-6) })
  assert.is(guard.skipped, 0)
  assert.equal([await judge(5, bad), await judge(6, bad)], [{ skipped: 1 }, { skipped: 2 }])
  let message = ''
  await judge(7, bad).catch((error: Error) => (message = error.message))
  assert.match(message, /^step 7: .*, after 2 others in a row that were skipped\. Last good/)
  assert.match(said(), /^step 2 is skipped: .*'exp' in blocks\.1.*\nstep 3 is skipped/)
  progress.update(8, Number.NaN, 1)
  assert.match(said(), /loss 0\.0000 .* clipped 1 of 4\n$/)
  assert.is(reshape(net.weight, [4]).size, 4)
})

test('a run that skips and clips is the same bytes in one piece and in two, and stops at the same step', () =>
  inFolder(async folder => {
    const [whole, halves] = ['whole', 'halves'].map(name => join(folder, name))
    const go = (out: string, steps: number, ...more: string[]) => [
      ...['pretrain', '--size', '8', '--batch', '2', '--threads', '1', '--clip', '0.5'],
      ...['--out', out, '--steps', String(steps), ...more],
    ]
    const broken = ['--resume', '--lr', '1e34', '--skip-nonfinite', '4']
    await Promise.all([whole, halves].map(out => succeed('train-maskdm', go(out, 2, '--skip-nonfinite', '4'))))
    const [said] = await Promise.all([
      succeed('train-maskdm', go(whole, 7, ...broken)),
      succeed('train-maskdm', go(halves, 5, ...broken)).then(() => succeed('train-maskdm', go(halves, 7, '--resume'))),
    ])
    assert.match(said, /step 4 is skipped: the loss .* made by '\w+' in \w+\.\w+.*, op \d+ of the step/)
    const rows = readFileSync(join(whole, 'metrics.jsonl'), 'utf8').trim().split('\n')
    assert.equal(
      rows.map(row => JSON.parse(row)).map(({ skipped, clip, loss }) => [skipped, clip > 0 && clip < 1, loss === null]),
      [1, 2, 3, 4, 5, 6, 7].map(step => [step < 4 ? undefined : step - 3, step < 4, step >= 4]),
    )
    const computed = (out: string) =>
      Object.entries(bytesOf(out)).filter(([name]) => /metrics|checkpoint-00000007/.test(name))
    assert.is(computed(whole).length, 5)
    assert.equal(computed(halves), computed(whole))
    await fail(
      'train-maskdm',
      go(halves, 9, '--resume'),
      /^error: step 8: .*, after 4 others in a row that were skipped/,
    )
  }))

test.run()
