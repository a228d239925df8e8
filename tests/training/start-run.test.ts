/** Runs of models of one's own: start, resume in the same process, and refusals. Needs Node. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, mean, ready, reshape, rng, scope, square, type Tensor } from '../../core/index.ts'
import type { ImageDataset } from '../../data/index.ts'
import { Batches } from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'
import { AdamW, constantDecay, Ema, Linear } from '../../nn/index.ts'
import { latestCheckpoint, type OwnRun, startRun } from '../../training/index-node.ts'
import { values } from '../near.ts'
import { bytesOf, inFolder } from '../programs/example.ts'
import { told } from './printed.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

const S = 2
/** Four pictures of one colour each. */
const data: ImageDataset = {
  name: 'colours',
  length: 4,
  size: S,
  channels: 3,
  classes: ['dark', 'light'],
  flips: false,
  label: i => Number(i > 1),
  pixels: i => new Uint8Array(3 * S * S).fill(60 * i),
}

/** Trains up to `steps`; `fails` is the step whose loss throws. Returns the weights. */
async function run(folder: string, steps: number, change: Partial<OwnRun> = {}, fails = -1): Promise<number[]> {
  const random = rng(3)
  const model = new Linear(3 * S * S, 2, { rng: random.fork('weights') })
  const ema = new Ema(model, new Linear(3 * S * S, 2, { rng: null }), { decay: constantDecay(0.5) })
  const optimizer = new AdamW(model.namedParameters(), { lr: 0.1 })
  const settings = { batch: 2, lr: 0.1 }
  const batches = new Batches(data, { batch: 2, rng: random.fork('pictures') })
  const own = { folder, steps, title: 'colours', settings, rng: random, data, ...change }
  const run = startRun(own, { model, ema, optimizer })
  for await (const step of run.steps())
    await run.commit(
      step,
      batches,
      ({ images, report }) => {
        if (step === fails) throw new Error('no memory')
        const loss = scope(() => mean(square(model.forward(reshape(images, [images.shape[0], 3 * S * S])))))
        backward(loss)
        report({ loss: loss.detach() })
      },
      (losses: readonly Tensor[]) => {
        const update = optimizer.step({ losses })
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  return values(model.weight)
}

test('a run is resumed in the same process, and ends with the weights of an unbroken one', () =>
  inFolder(async folder => {
    const [halves, whole] = ['halves', 'whole'].map(name => join(folder, name))
    let [resumed, unbroken]: number[][] = [[], []]
    const { said, error } = await told(async () => {
      await run(halves, 2)
      await run(halves, 4)
      resumed = await run(halves, 6)
      unbroken = await run(whole, 6, { settings: { batch: 2, lr: 0.1 } })
    })
    assert.is(error, null)
    assert.match(said, /^colours: 0\.0 M parameters, batch 2, wasm \w+; see \S+halves\n/)
    assert.equal(resumed, unbroken)
    const log = (folder: string) => readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    assert.is(log(halves), log(whole))
    assert.is(
      bytesOf(halves)['checkpoint-00000006/optimizer.safetensors'],
      bytesOf(whole)['checkpoint-00000006/optimizer.safetensors'],
    )
    assert.not(existsSync(join(halves, '.lock-1')))
    const { described } = JSON.parse(readFileSync(join(halves, 'run.json'), 'utf8'))
    assert.equal(described, { program: 'colours', settings: { batch: 2, lr: 0.1 }, pictures: 4, classes: data.classes })
  }))

test('a run that fails releases its folder', () =>
  inFolder(async folder => {
    const { error } = await told(() => run(folder, 4, {}, 3))
    assert.is(error?.message, 'no memory')
    assert.is((await told(() => run(folder, 3))).error, null)
    assert.is(latestCheckpoint(folder)?.step, 3)
  }))

test('other settings, titles, models and classes are refused, and the folder is free again', () =>
  inFolder(async folder => {
    await told(() => run(folder, 1))
    const refusals: readonly (readonly [Partial<OwnRun>, RegExp])[] = [
      [
        { settings: { batch: 2, lr: 0.2 } },
        /^lr: expected 0\.1, as the run in \S+ has, got 0\.2\. Choose another folder$/,
      ],
      [{ settings: { batch: 2 } }, /^lr: expected 0\.1, .* got none\./],
      [{ settings: { batch: 2, lr: 0.1, layers: [1] } }, /^layers: expected none, .* got \[1\]\./],
      [{ title: 'shapes' }, /expected a run of shapes, got one of colours$/],
      [{ resume: false }, /expected a folder without a run, got one/],
      [
        { data: { ...data, classes: ['a'] }, labelled: true },
        /expected the classes that the run began with, dark, light, got a/,
      ],
    ]
    for (const [change, message] of refusals) {
      const { error } = await told(() => run(folder, 2, change))
      assert.ok(error instanceof UserError, String(error))
      assert.match(error!.message, message)
    }
    const { error } = await told(() => run(join(folder, 'none'), 2, { resume: true }))
    assert.match(error!.message, /none: expected a checkpoint to resume from, got none$/)
    assert.is((await told(() => run(folder, 2))).error, null)
  }))

test.run()
