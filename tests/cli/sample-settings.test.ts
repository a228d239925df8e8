/** The request that follows from the flags of `demask sample` and a model, and flags that do not fit it. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { planOf, type SampleFlags } from '../../cli/sample-settings.ts'
import { UserError } from '../../io/user-error.ts'
import { type Family, maskDiT, maskDM, mdt } from '../../models/index.ts'

const flags: SampleFlags = {
  from: 'run',
  weights: 'ema',
  part: undefined,
  ranks: undefined,
  heads: undefined,
  'decoder-heads': undefined,
  classes: undefined,
  schedule: undefined,
  vae: undefined,
  count: undefined,
  seed: '0',
  class: [],
  guidance: 1,
  power: undefined,
  sampler: undefined,
  steps: undefined,
  batch: undefined,
  out: 'samples.png',
  backend: undefined,
  threads: undefined,
}
const plan = (family: Family, given: Partial<SampleFlags>) => {
  const options = family.options('tiny', { inputSize: 8, inChannels: 3, numClasses: family === maskDM ? 0 : 3 })
  const found = { family, options, preset: 'tiny', state: new Map() }
  return planOf({ ...flags, ...given }, found, ['cat', 'dog', 'owl'], false)
}

test('seeds count up from the first, or are listed; classes take turns', () => {
  const { seeds, labels, sampler, steps, batch } = plan(mdt, { seed: '7', count: 4 })
  assert.equal([seeds, labels, sampler, steps, batch], [[7, 8, 9, 10], [0, 1, 2, 0], 'ddim', 25, 48])
  const listed = plan(mdt, { seed: '5, 3,5', class: ['owl,0', 'cat'] })
  assert.equal(
    [listed.seeds, listed.labels],
    [
      [5, 3, 5],
      [2, 0, 0],
    ],
  )
  assert.equal(plan(maskDiT, {}).sampler, 'heun')
  assert.is(plan(maskDM, { count: 2 }).labels, null)
})

test('what does not fit is one line', () => {
  const wrong: readonly (readonly [Family, Partial<SampleFlags>, RegExp])[] = [
    [mdt, { seed: '1,x' }, /^--seed: expected a whole number, or some with commas between, got '1,x'$/],
    [mdt, { seed: '-1' }, /^--seed: expected a whole number/],
    [mdt, { seed: '1,2', count: 3 }, /^--count: expected 2, as many as seeds, or none, got 3$/],
    [mdt, { power: 4 }, /^--power: expected with --guidance, got it alone$/],
    [mdt, { class: ['cat,3'] }, /^--class: expected a number below 3 or one of cat, dog, owl, got '3'$/],
    [maskDiT, { sampler: 'ddpm' }, /^--sampler: expected one of heun, euler, dpm-solver for a MaskDiT, got ddpm$/],
    [maskDiT, { guidance: 2, power: 4 }, /^--power: expected a model of timesteps, got a MaskDiT$/],
    [maskDM, { guidance: 2 }, /^--guidance: expected a model that is guided by classes, got a MaskDM with none$/],
    [maskDM, { class: ['1'] }, /^--class: expected a model with classes, got one without$/],
  ]
  for (const [family, given, message] of wrong)
    assert.throws(
      () => plan(family, given),
      (error: Error) => error instanceof UserError && message.test(error.message),
      String(message),
    )
})

test.run()
