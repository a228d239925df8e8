/** Recognition beyond the walk of families.test.ts: MaskDM's noise schedule, odd MLPs, files of other models. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { dit, maskDM, maskdmDiffusion, maskdmPreset, recognise, type State } from '../../models/index.ts'
import { type Module, shapesOnly } from '../../nn/index.ts'

/** Names and shapes of a model's state, without data. */
const shapesOf = (model: Module, prefix = ''): State =>
  new Map(Array.from(model.stateDict(), ([name, { shape }]) => [prefix + name, { shape, data: [] }]))

test("MaskDM's schedule: as told, by the run's preset, by the file's table of betas, or by its sizes", () => {
  const stateOf = (preset: string) => shapesOf(maskDM.make(maskdmPreset(preset).network, shapesOnly), 'model.')
  const church = stateOf('church256_base')
  assert.is(recognise(church, 'file').schedule, null) // CelebA-HQ's are of the same size, and cosine
  assert.is(recognise(church, 'file', { schedule: 'cosine' }).schedule, 'cosine')
  assert.is(recognise(church, 'file', { preset: 'church256_base' }).schedule, 'linear')
  assert.is(recognise(church, 'file', { preset: 'celebahq_base' }).schedule, 'cosine')
  for (const wanted of ['linear', 'cosine'] as const)
    for (const table of ['betas', 'ema_model.betas']) {
      const { betas } = maskdmDiffusion({ schedule: wanted })
      const state = new Map([...church, [table, { shape: [1000], data: betas }] as const])
      assert.is(recognise(state, 'file').schedule, wanted)
    }
  assert.is(recognise(stateOf('ablation/celeba_small'), 'file').schedule, 'linear')
  const averaged = shapesOf(maskDM.make(maskdmPreset('celebahq_base').network, shapesOnly), 'ema_model.model.')
  assert.is(recognise(averaged, 'file').options.numHeads, 12)
})

test('a MaskDM of other patches is of no preset', () => {
  const coarse = { ...maskdmPreset('ablation/celeba_small').network, patchSize: 8 }
  const state = shapesOf(maskDM.make(coarse, shapesOnly))
  assert.throws(() => recognise(state, 'coarse.st'), /^coarse\.st: no preset has width 512.*expected --heads/)
})

test('any width of an MLP is found again', () => {
  const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }
  for (let hidden = 960; hidden < 1000; hidden++) {
    const odd = { ...dit.options('tiny', latents), depth: 1, hiddenSize: 240, mlpRatio: (hidden + 0.5) / 240 }
    const shapes = shapesOf(dit.make(odd, shapesOnly))
    assert.equal(shapesOf(dit.make(recognise(shapes, 'file', { heads: 4 }).options, shapesOnly)), shapes)
  }
})

test('tensors of no family are refused in one line', () => {
  assert.throws(
    () => recognise(new Map([['w', { shape: [1], data: [] }]]), 'w.st'),
    /^w\.st: expected the state dict of one of DiT, MDT, MDTv2, MaskDiT, MaskDM, got 1 tensors of other names$/,
  )
})

test.run()
