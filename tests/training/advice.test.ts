/** Advice for slow and large runs: its effects are those that the models' cost and the count of bytes give. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { mdt } from '../../models/index.ts'
import { type Advised, type Change, memoryAdvice, timeAdvice } from '../../training/advice.ts'
import { advisedRun } from '../../training/advised-run.ts'
import { printMemory } from '../../training/dry-run.ts'
import { countTraining, newSettings, type Settings } from '../../training/index.ts'
import { checkPatches, withPreset } from '../../training/settings.ts'
import { autoencoder } from '../../training/vae.ts'

type Own = (typeof mdt)['training']['settings']

/** MDT on pictures of 10 classes, as asked for, with every change that fits. */
function advised(given: Partial<Settings<Own>>): Advised<never, never, Own> {
  const kept = ({ size, labels, batch }: Settings<Own>) => ({ size, labels, batch })
  const runOf = (change: Change) => {
    const settings = newSettings(mdt, { ...given, ...kept(newSettings(mdt, given)), ...change })
    const { preset, size, labels } = settings
    const numClasses = labels === 'yes' ? 10 : 0
    const options = mdt.options(preset, { inputSize: size, inChannels: 3, numClasses }, settings)
    return { family: mdt, options, settings, images: { channels: 3, size }, labelled: numClasses > 0 }
  }
  const flags = (change: object) =>
    Object.entries(change)
      .map(([name, value]) => (value === true ? `--${name}` : `--${name} ${value}`))
      .join(' ')
  return {
    run: runOf({}),
    vary: (change: Change) => {
      const run = runOf(change)
      return run.settings.size % run.options.patchSize === 0 ? { run, flags: flags(change) } : null
    },
  } as unknown as Advised<never, never, Own>
}

const costOf = (advised: Advised<never, never, Own>) =>
  mdt.cost(advised.run.options as never, advised.run.settings.batch).step

test('a step of at most 10 s needs no advice', () => assert.equal(timeAdvice(advised({}), 10), []))

test('a slow step: the smallest change of each kind that is enough, with its effect', () => {
  const slow = advised({ preset: 'S/2', size: 32, labels: 'yes' })
  const lines = timeAdvice(slow, 30)
  assert.is(lines[0], 'a step takes 30 s. Faster are:')
  const gain = costOf(slow) / costOf(advised({ preset: 'S/4', size: 32, labels: 'yes' }))
  assert.ok(gain > 4 && gain < 8)
  assert.is(lines[1], `  --preset S/4: 64 tokens instead of 256, about ${Number(gain.toPrecision(2))} × faster`)
  assert.match(lines[2], /^ {2}--size 16: 64 tokens instead of 256, about [\d.]+ × faster$/)
  assert.is(lines[3], '  --batch 4: 4 pictures a step instead of 16, about 4 × faster')
  assert.is(lines.length, 4)
  // Where nothing is enough, the largest gain of each kind.
  assert.match(timeAdvice(slow, 1e6)[3], /^ {2}--batch 1: /)
})

test('a step that does not fit: parts of a batch, then a smaller batch or preset, counted', () => {
  const large = advised({ preset: 'tiny', size: 16, batch: 32 })
  const bytes = (change: object) => countTraining(advised({ preset: 'tiny', size: 16, batch: 32, ...change }).run).step
  const whole = bytes({})
  const limit = 0.6 * whole
  const lines = memoryAdvice(large, whole, limit)
  const gib = (count: number) => `${(count / 2 ** 30).toFixed(2)} GiB`
  assert.is(lines[0], `a step needs ${gib(whole)} of memory, ${gib(limit)} can be used. These fit:`)
  const parts = [2, 4, 8, 16, 32].find(parts => bytes({ parts }) <= limit)!
  assert.is(lines[1], `  --parts ${parts}: ${gib(bytes({ parts }))} instead of ${gib(whole)}`)
  assert.is(lines.length, 3)
  assert.equal(memoryAdvice(large, whole, 1), [
    `a step needs ${gib(whole)} of memory, 0.00 GiB can be used, and no flag makes it fit`,
  ])
})

/** MDT on pictures of one's own, with flags as a person gives them. */
function ofFlags(given: Partial<Settings<Own>>) {
  const settle = (given: Partial<Settings<Own>>) => newSettings(mdt, withPreset(mdt, given))
  const settings = settle(given)
  const data = { channels: 3, size: settings.size, classes: ['cat', 'dog'] }
  return advisedRun({ family: mdt, given, settings, data, settle, check: checkPatches })
}

test('flags that make a variant: its own, and what a person must add for the rest to stay', () => {
  const slow = timeAdvice(ofFlags({ data: 'cats', preset: 'tiny', size: 32 }), 25.6)
  assert.match(slow[1], /^ {2}--preset tiny\/4 --labels no --batch 64: 64 tokens instead of 256, about 4\.\d × faster$/)
  const own = ofFlags({ data: 'cats' })
  assert.equal([own.run.settings.preset, own.run.settings.size, own.run.labelled], ['tiny/4', 32, true])
  assert.is(own.vary({ preset: 'tiny/8' })?.flags, '--preset tiny/8 --size 32')
  assert.is(own.vary({ preset: 'tiny' })?.flags, '--preset tiny --size 32 --labels yes --batch 16')
  assert.is(own.vary({ size: 16 })?.flags, '--size 16 --preset tiny/4')
  assert.is(own.vary({ batch: 32, checkpointBlocks: true })?.flags, '--batch 32 --checkpoint-blocks')
  const smaller = own.vary({ batch: 32 })!.run
  assert.equal(smaller.settings, { ...own.run.settings, batch: 32 })
  assert.equal(smaller.options, own.run.options)
  assert.is(own.vary({ size: 30 }), null, 'no multiple of the patch')
  assert.is(own.vary({ parts: 7 }), null, 'no divisor of the batch')
})

test('blocks that keep only their inputs need less, as counted', () => {
  const bytes = (checkpointBlocks: boolean) => countTraining(ofFlags({ data: 'cats', checkpointBlocks }).run).step
  assert.ok(bytes(true) < 0.7 * bytes(false), `${bytes(true)} of ${bytes(false)}`)
})

test('a run that only looks ends where a step does not fit', () => {
  const needs = { parameters: 1, step: 3 * 2 ** 30, drawing: null, checkpoint: 16 }
  const lines: string[] = []
  const { log } = console
  console.log = (line: string) => void lines.push(line)
  try {
    assert.throws(
      () => printMemory({ needs, advice: ['lower it'] }, 2 ** 30),
      /^memory: expected a step of at most 1\.00 GiB, got one of 3\.00 GiB$/,
    )
    printMemory({ needs: { ...needs, drawing: 2 ** 30 }, advice: [] }, Infinity)
  } finally {
    console.log = log
  }
  assert.equal(lines, [
    'memory: 3.00 GiB at the peak of a step; 1.00 GiB can be used',
    'lower it',
    'memory: 3.00 GiB at the peak of a step, 1.00 GiB while samples are drawn',
  ])
})

test('the autoencoder: convolutions follow the number of pixels', () => {
  const runOf = (change: object) => {
    const settings = newSettings(autoencoder, { size: 64, ...change })
    const { preset, size } = settings
    const options = autoencoder.options(preset, { inputSize: size, inChannels: 3, numClasses: 0 }, settings)
    return { family: autoencoder, options, settings, images: { channels: 3, size }, labelled: false }
  }
  const lines = timeAdvice(
    { run: runOf({}), vary: change => ({ run: runOf(change), flags: JSON.stringify(change) }) },
    30,
  )
  assert.equal(lines.slice(1), [
    '  {"size":32}: 1024 pixels instead of 4096, about 4 × faster',
    '  {"batch":4}: 4 pictures a step instead of 16, about 4 × faster',
  ])
})

test.run()
