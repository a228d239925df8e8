/** Settings as data: defaults by preset, what a resume may change, and the flags that a table becomes. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { UserError } from '../../io/user-error.ts'
import { dit, maskDiT, mdt } from '../../models/index.ts'
import { type AnyProgram, newSettings, programs, settingsTable } from '../../training/index-node.ts'
import { resumedSettings } from '../../training/settings.ts'

function refused(action: () => unknown, message: RegExp): void {
  assert.throws(action, (error: Error) => error instanceof UserError && message.test(error.message))
}

test('a new run has the defaults of its preset, and what was given in place of them', () => {
  const { batch, labels, maxNorm, parts, maskRatio } = newSettings(mdt)
  assert.equal(
    { batch, labels, maxNorm, parts, maskRatio },
    { batch: 16, labels: 'yes', maxNorm: null, parts: 1, maskRatio: 0.3 },
  )
  const tiny = newSettings(mdt, { preset: 'tiny', lr: 1, seed: undefined })
  assert.equal([tiny.batch, tiny.labels, tiny.lr, tiny.seed], [64, 'no', 1, 0])
})

test('a resumed run keeps its settings but for those that may change; older runs lack some', () => {
  const old = { preset: 'tiny', batch: 2, lr: 0.5, size: 8, data: 'emoji' }
  const { batch, lr, size, data, labels, parts, skipNonfinite } = resumedSettings(
    mdt,
    { lr: 0.25, data: './elsewhere', skipNonfinite: 3, batch: 2 },
    old,
    'runs/a',
  )
  assert.equal(
    { batch, lr, size, data, labels, parts, skipNonfinite },
    { batch: 2, lr: 0.25, size: 8, data: './elsewhere', labels: 'no', parts: 1, skipNonfinite: 3 },
  )
  for (const [given, flag] of [
    [{ batch: 4 }, '--batch: expected 2, .*got 4'],
    [{ parts: 2 }, '--parts: expected 1, .*got 2'],
    [{ maskRatio: 0.5 }, '--mask-ratio: expected 0.3, .*got 0.5'],
    [{ labels: 'yes' }, '--labels: expected no, .*got yes'],
  ] as const)
    refused(() => resumedSettings(mdt, given, old, 'runs/a'), new RegExp(`^${flag}`))
  refused(
    () => resumedSettings(mdt, { seed: 1 }, old, 'runs/a'),
    /^--seed: expected 0, as the run in runs\/a has, got 1\. Pass/,
  )
  refused(
    () => resumedSettings(maskDiT, { tune: 'zero' }, { tune: 'cosine' }, 'a'),
    /^--tune: expected cosine, .*got zero/,
  )
})

test('a batch is split into parts of one size', () => {
  assert.is(newSettings(dit, { batch: 6, parts: 3 }).parts, 3)
  refused(() => newSettings(dit, { batch: 6, parts: 4 }), /^--parts: expected a divisor of the batch, 6, got 4$/)
})

test('every program has the common settings, but for those that have no meaning for it', () => {
  for (const [name, program] of Object.entries<AnyProgram>(programs)) {
    const table = settingsTable(program.family)
    for (const common of ['preset', 'data', 'size', 'batch', 'parts', 'lr', 'maxNorm', 'skipNonfinite', 'seed'])
      assert.ok(common in table, `${name}: ${common}`)
    for (const other of ['labels', 'latents']) assert.is(other in table, name !== 'vae', `${name}: ${other}`)
    const settings: object = newSettings(program.family)
    for (const [key, setting] of Object.entries(table))
      if (setting.default !== undefined) assert.ok(key in settings, `${name}: ${key}`)
    const { given, flags, line } = readTrainingCommand(program, `demask train ${name}`, ['--batch', '8', '--clip', '2'])
    assert.equal(given as object, { batch: 8, maxNorm: 2 })
    assert.equal(flags, { strict: false, resume: false })
    assert.is(line, `demask train ${name} --batch 8 --clip 2`)
  }
})

test('the command that resumes a run has its operands, and words for a shell', () => {
  const { resume, given } = readTrainingCommand(programs.maskdm, 'go', ['finetune', '--mask-size', '3'])
  assert.is(resume('my runs', 7), "go finetune --out 'my runs' --resume --steps 7")
  assert.equal(given, { stage: 'finetune', maskSize: 3 })
})

test.run()
