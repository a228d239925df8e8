/**
 * What the flags of `demask train` change in a step, for every family: blocks that are checkpointed leave the same bytes,
 * every optimizer moves the weights, each ablation trains the passes of its row, and the held-out loss has the same noise
 * every time.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, ready, rng, scope, stats } from '../../core/index.ts'
import { type ImageDataset, type LatentDataset, withCrops } from '../../data/index.ts'
import type { SettingsTable, Trainable } from '../../models/family.ts'
import { families, mdt, mdtAblationNames } from '../../models/index.ts'
import { checkpointBlocks, type Module, optimizerNames } from '../../nn/index.ts'
import { HeldOut } from '../../training/held-out.ts'
import { newSettings } from '../../training/index.ts'
import { flipsOf, openTrainingSets } from '../../training/training-set.ts'
import { autoencoder } from '../../training/vae.ts'

const wasm = await ready({ backend: 'wasm', threads: 2 })
const [N, S] = [2, 8]
const images = rng(1).uniformArray(N * 3 * S * S)

type AnyTrainable = Trainable<Module, unknown, SettingsTable>
const all: readonly AnyTrainable[] = [...(families as readonly AnyTrainable[]), autoencoder as unknown as AnyTrainable]
const labelled = ({ without = [] }: AnyTrainable) => !without.includes('labels')

/** A narrow model of the family. */
function modelOf(family: AnyTrainable, settings: ReturnType<typeof settingsOf>): Module {
  const pictures = { inputSize: S, inChannels: 3, numClasses: labelled(family) ? 2 : 0 }
  const options = family.options(settings.preset, pictures, settings as object) as object
  const narrow = 'hiddenSize' in options ? { ...options, hiddenSize: 32, numHeads: 2 } : options
  return family.make(narrow, { rng: rng(2) })
}

const settingsOf = (family: AnyTrainable, given: object = {}) =>
  newSettings(family, { preset: 'tiny', size: S, ...given } as object)

/** Forward and backward of a step. Returns the names of the reported terms, and the bytes that its passes keep for backward. */
function compute(family: AnyTrainable, model: Module, settings: ReturnType<typeof settingsOf>) {
  let held = 0
  const names = scope(() => {
    const labels = labelled(family) ? [0, 1] : null
    const part = { images: rng(3).normal([N, 3, S, S]), labels, rng: rng(4), progress: 0 }
    return Array.from(family.training.passes(model, part, settings as never), pass => {
      const before = stats(wasm).bytes
      const { loss, terms } = pass()
      held += stats(wasm).bytes - before
      backward(loss)
      return Object.keys(terms)
    }).flat()
  })
  return { names, held }
}

/** All gradients, one after the other. */
const gradients = (model: Module) => model.parameters().flatMap(p => [...(p.grad?.dataSync() ?? [])])

for (const family of all)
  test(`${family.name}: checkpointed blocks take less memory and leave the same gradients`, () => {
    const settings = settingsOf(family)
    const [plain, saving] = [modelOf(family, settings), modelOf(family, settings)]
    checkpointBlocks(saving)
    const [whole, less] = [plain, saving].map(model => compute(family, model, settings))
    const [wanted, got] = [plain, saving].map(gradients)
    assert.is(got.length, wanted.length)
    // A sum over uses of a tensor may have another order.
    const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
    const difference = norm(got.map((g, i) => g - wanted[i])) / norm(wanted)
    assert.ok(difference < 1e-6, `differs by ${difference}`)
    assert.ok(less.held < 0.6 * whole.held, `${whole.held} → ${less.held} bytes`)
    for (const model of [plain, saving]) model.dispose()
  })

for (const family of all)
  test(`${family.name}: every optimizer moves the weights`, () => {
    for (const optimizer of optimizerNames) {
      const settings = settingsOf(family, { optimizer, weightDecay: 0.1 })
      const model = modelOf(family, settings)
      compute(family, model, settings)
      const values = () => model.parameters().map(p => p.dataSync()[0])
      const had = values()
      const moves = family.training.optimizer(model.namedParameters(), settings)
      scope(() => moves.step({ lr: 0.1 }))
      assert.not.equal(values(), had, optimizer)
      const slots = new Set([...moves.stateDict().keys()].map(name => name.split('.')[0]))
      assert.ok(slots.has({ adamw: 'exp_avg_sq', adan: 'exp_avg_diff', sgd: 'momentum_buffer' }[optimizer]), optimizer)
      moves.dispose()
      model.dispose()
    }
  })

test('every ablation trains; its columns are those of its passes', () => {
  for (const ablation of mdtAblationNames) {
    const settings = newSettings(mdt, { preset: 'tiny', size: S, ablation })
    const model = modelOf(mdt as unknown as AnyTrainable, settings as never)
    const { names } = compute(mdt as unknown as AnyTrainable, model, settings as never)
    const [full, masked] = [
      ['mse', 'vb'],
      ['maskedMse', 'maskedVb'],
    ]
    const wanted = ablation === 'full-latent' ? full : ablation === 'masked-latent' ? masked : [...full, ...masked]
    assert.equal(names, wanted, ablation)
    const columns = mdt.training.columns(Object.fromEntries(names.map(name => [name, 1])), settings, 0)
    assert.is(columns.loss, names.length)
    assert.ok(Object.values(columns).every(Number.isFinite))
    model.dispose()
  }
})

test('a model without variances is trained on the squared error alone', () => {
  for (const family of families.filter(({ training }) => 'weighting' in training.settings)) {
    const settings = settingsOf(family as AnyTrainable, { loss: 'simple', weighting: 'min-snr-5' })
    const model = modelOf(family as AnyTrainable, settings)
    const { names } = compute(family as AnyTrainable, model, settings)
    assert.not(names.includes('vb'), family.name)
    const terms = Object.fromEntries(names.map(name => [name, 2]))
    assert.is(family.training.columns(terms, settings as never, 0).loss, 2 * names.length)
    model.dispose()
  }
})

/** A set of five pictures. */
const five: ImageDataset = {
  name: 'five',
  length: 5,
  size: S,
  channels: 3,
  classes: ['a', 'b'],
  flips: true,
  label: i => i % 2,
  pixels: i => Uint8Array.from(images.subarray(0, 3 * S * S), x => 50 * x + 40 * i),
}

for (const family of all)
  test(`${family.name}: the held-out loss is the same twice, and another for another model`, async () => {
    const settings = settingsOf(family)
    const model = modelOf(family, settings)
    const heldOut = new HeldOut<Module>(five, {
      passes: (model, part) => family.training.passes(model, part, settings as never),
      loss: terms => family.training.columns(terms, settings as never, 0).loss,
      labelled: labelled(family),
    })
    const bytes = stats(wasm).bytes
    const first = await heldOut.measure(model)
    assert.ok(Number.isFinite(first) && first > 0)
    assert.is(await heldOut.measure(model), first)
    assert.is(stats(wasm).bytes, bytes, 'frees what it used')
    compute(family, model, settings)
    const optimizer = family.training.optimizer(model.namedParameters(), settings)
    scope(() => optimizer.step({ lr: 0.1 }))
    assert.is.not(await heldOut.measure(model), first)
    optimizer.dispose()
    model.dispose()
  })

test('the data of a run: cropped, mirrored or not, some of them held out', async () => {
  const settings = {
    data: 'emoji:smileys',
    classFrom: 'folder',
    latents: null,
    size: 8,
    flip: 'auto',
    heldOut: 0,
  } as const
  const whole = await openTrainingSets(settings)
  assert.equal([whole.pictures, whole.training.length, whole.heldOut, whole.training.flips], [169, 169, null, false])
  const { training, heldOut, pictures } = await openTrainingSets({ ...settings, crop: 16, flip: 'yes', heldOut: 0.05 })
  assert.equal([pictures, training.length, heldOut?.length], [169, 160, 9])
  assert.equal([training.size, training.flips, heldOut?.size, heldOut?.flips], [8, true, 8, false])
  assert.is((training as ImageDataset).margin, 8)
  assert.is((heldOut as ImageDataset).margin, undefined)
  assert.is(withCrops(five, 4).margin, 4)
  const latents = { ...five, flips: false, moments: () => ({}) } as unknown as LatentDataset
  assert.equal([flipsOf({ flip: 'auto' }, latents), flipsOf({ flip: 'no' }, five)], [false, false])
  assert.throws(
    () => flipsOf({ flip: 'yes' }, latents),
    /^--flip: expected auto or no for latents without their mirror images \(five\), got yes$/,
  )
})

test.run()
