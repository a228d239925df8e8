/** Settings as data: defaults by preset, what a resume may change, and the flags that a table becomes. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { UserError } from '../../io/user-error.ts'
import type { SettingsTable } from '../../models/family.ts'
import { dit, maskDiT, mdt } from '../../models/index.ts'
import { type AnyProgram, newSettings, programs, settingsTable } from '../../training/index-node.ts'
import { flagOf, learningRateOf, resumedSettings, runTable, withPreset } from '../../training/settings.ts'

function refused(action: () => unknown, message: RegExp): void {
  assert.throws(action, (error: Error) => error instanceof UserError && message.test(error.message))
}

test('a new run has the defaults of its preset, and what was given in place of them', () => {
  const { batch, labels, maxNorm, parts, maskRatio } = newSettings(mdt, { preset: 'S/2' })
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

test("the preset follows from the size of the pictures; pictures of one's own are of 32 pixels, with classes", () => {
  const chosen = (given: object, side?: number) => {
    const { preset, size, labels } = withPreset(mdt, given, side)
    return [preset, size, labels]
  }
  assert.equal(chosen({}), ['tiny', undefined, undefined])
  assert.equal(chosen({ data: 'emoji' }), ['tiny', undefined, undefined])
  assert.equal(chosen({ size: 32 }), ['tiny/4', 32, undefined])
  assert.equal(chosen({ data: 'mine' }), ['tiny/4', 32, 'yes'])
  assert.equal(chosen({ data: 'mine', size: 64, labels: 'no' }), ['tiny/8', 64, 'no'])
  assert.equal(chosen({ data: 'mine', preset: 'S/2' }), ['S/2', undefined, undefined])
  assert.equal(chosen({ data: 'mine', size: 256 }, 32), ['tiny/4', 256, 'yes'])
  for (const { family } of Object.values<AnyProgram>(programs)) {
    const { preset, size } = newSettings(family, withPreset(family, {}))
    assert.equal([preset, size], ['tiny', family.command === 'vae' ? 32 : 16], family.name)
  }
  assert.is(newSettings(mdt, withPreset(mdt, { data: 'mine' })).size, 32)
  assert.is(newSettings(mdt, { preset: 'tiny/4' }).size, 32)
})

/** Settings and values that a table refuses, in every program that has them, and what it says. */
const refusedFlags: readonly (readonly [words: string, message: RegExp])[] = [
  ['--optimizer lion', /--optimizer: expected one of adamw, adan, sgd, got 'lion'/],
  ['--lr-schedule exp', /--lr-schedule: expected one of constant, cosine, linear, step, got 'exp'/],
  ['--warm-up 1.5', /--warm-up: expected a whole number of at least 0, got '1.5'/],
  ['--weight-decay -1', /--weight-decay: expected a number of at least 0, got '-1'/],
  ['--ema 1', /--ema: expected a number in \[0, 0.9999999\], got '1'/],
  ['--clip 0', /--clip: expected a number of at least 0.000001, got '0'/],
  ['--batch 0', /--batch: expected a whole number of at least 1, got '0'/],
  ['--parts 0', /--parts: expected a whole number of at least 1, got '0'/],
  ['--checkpoint-blocks=2', /checkpoint-blocks/],
  ['--loss l1', /--loss: expected one of (hybrid, simple|dsm\+mae, dsm), got 'l1'/],
  ['--weighting snr', /--weighting: expected one of uniform, min-snr-5, got 'snr'/],
  ['--ablation none', /--ablation: expected one of masking-ratio-0.1, .*no-relative-bias, got 'none'/],
  ['--flip maybe', /--flip: expected one of auto, yes, no, got 'maybe'/],
  ['--crop 0', /--crop: expected a whole number in \[1, 1024\], got '0'/],
  ['--save-every 0', /--save-every: expected a whole number of at least 1, got '0'/],
  ['--sample-every 2.5', /--sample-every: expected a whole number of at least 1, got '2.5'/],
  ['--held-out 0.6', /--held-out: expected a number in \[0, 0.5\], got '0.6'/],
  ['--preset tiny/3', /--preset: expected one of tiny, .*got 'tiny\/3'/],
]

test('every flag refuses a value out of its range, in one line, in every program that has it', () => {
  const seen = new Set<string>()
  for (const [name, program] of Object.entries<AnyProgram>(programs)) {
    const flags = Object.entries(settingsTable(program.family)).map(([key, setting]) => flagOf(key, setting))
    for (const [words, message] of refusedFlags) {
      const [flag] = words.split(/[ =]/)
      if (!flags.includes(flag)) continue
      seen.add(flag)
      refused(() => readTrainingCommand(program, `demask train ${name}`, words.split(' ')), message)
    }
  }
  assert.is(seen.size, refusedFlags.length)
})

test('every flag with a range or with choices refuses what is outside, and names itself', () => {
  for (const [name, program] of Object.entries<AnyProgram>(programs)) {
    const refuses = (flag: string, value: string) => {
      const words = [flag, value]
      refused(
        () => readTrainingCommand(program, `demask train ${name}`, words),
        new RegExp(`^${flag}: expected .*got '`),
      )
    }
    const table: SettingsTable = { ...settingsTable(program.family), ...runTable }
    for (const [key, setting] of Object.entries(table)) {
      if ('operand' in setting || setting.type === 'switch') continue
      const flag = flagOf(key, setting)
      if (setting.type === 'text') {
        if (setting.choices !== undefined) refuses(flag, 'none-of-these')
        continue
      }
      refuses(flag, 'many')
      refuses(flag, String(setting.min - 1))
      if (setting.max !== undefined) refuses(flag, String(setting.max + 1))
    }
  }
})

test('settings that contradict each other are one line', () => {
  refused(() => newSettings(dit, { crop: 8, size: 16 }), /^--crop: expected at least the size .*16, got 8$/)
  refused(() => newSettings(dit, { crop: 32, latents: 'l' }), /^--crop: expected none beside --latents, got 32$/)
  const both = { ablation: 'masking-ratio-0.5', maskRatio: 0.4 } as const
  refused(() => newSettings(mdt, both), /^--mask-ratio: expected none beside --ablation masking-ratio-0.5, got 0.4$/)
  assert.is(newSettings(mdt, { ablation: 'masking-ratio-0.5' }).maskRatio, 0.5)
  const example = { ...mdt, without: ['ablation'] }
  refused(
    () => resumedSettings(example, {}, { preset: 'tiny', ablation: 'symmetric' }, 'runs/a'),
    /^runs\/a: expected a run without --ablation, got symmetric$/,
  )
})

test('a resume may change what the table says it may; a switch that was given stays', () => {
  const started = newSettings(mdt, { checkpointBlocks: true, saveEvery: 5 })
  const resumed = (words: string) =>
    resumedSettings(mdt, readTrainingCommand(programs.mdt, 'go', words.split(' ')).given, started, 'runs/a')
  const { checkpointBlocks, saveEvery } = resumed('--save-every 7')
  assert.equal([checkpointBlocks, saveEvery], [true, 7])
  for (const words of ['--weight-decay 0.1', '--ema 0.5', '--sample-every 3', '--lr 1e-3', '--clip 1']) resumed(words)
  for (const [words, message] of [
    ['--optimizer sgd', /^--optimizer: expected adamw/],
    ['--lr-schedule cosine', /^--lr-schedule: expected constant/],
    ['--warm-up 3', /^--warm-up: expected 100/],
    ['--held-out 0.2', /^--held-out: expected 0,/],
    ['--flip yes', /^--flip: expected auto/],
    ['--crop 64', /^--crop: expected none, as the run/],
    ['--loss simple', /^--loss: expected hybrid/],
    ['--weighting min-snr-5', /^--weighting: expected uniform/],
    ['--ablation symmetric', /^--ablation: expected/],
  ] as const)
    refused(() => resumed(words), message)
  // Runs of earlier versions say true and false.
  const flips = ([true, false] as const).map(flip => resumedSettings(mdt, {}, { flip } as object, 'runs/a').flip)
  assert.equal(flips, ['auto', 'no'])
})

test('the learning rate over a run: warm-up times schedule, by the steps that are done', () => {
  const rates = (settings: object, steps: readonly number[], first: 'from 0' | 'from 1' = 'from 1') => {
    const schedule = learningRateOf({ ...newSettings(mdt), lr: 1, warmUpSteps: 0, steps: 9, ...settings }, first)
    return steps.map(step => Number(schedule(step).toFixed(6)))
  }
  assert.equal(rates({ warmUpSteps: 4 }, [0, 1, 3, 8]), [0.25, 0.5, 1, 1])
  assert.equal(rates({ warmUpSteps: 4 }, [0, 1, 3, 8], 'from 0'), [0, 0.25, 0.75, 1])
  assert.equal(rates({ lrSchedule: 'cosine', steps: 8 }, [0, 4, 8]), [1, 0.5, 0])
  assert.equal(rates({ lrSchedule: 'linear', steps: 8 }, [0, 1, 2, 5]), [1, 1, 0.875, 0.5])
  assert.equal(rates({ lrSchedule: 'step' }, [0, 2, 3, 5, 6, 8]), [1, 1, 0.1, 0.1, 0.01, 0.01])
  const both = 0.5 * 0.5 * (1 + Math.cos((3 * Math.PI) / 8)) // half of the warm-up, three eighths of the cosine
  assert.equal(rates({ lrSchedule: 'cosine', steps: 8, warmUpSteps: 8 }, [3]), [Number(both.toFixed(6))])
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
    assert.equal(flags, { strict: false, resume: false, shardOptimizer: false })
    assert.is(line, `demask train ${name} --batch 8 --clip 2`)
  }
})

test('the command that resumes a run has its operands, and words for a shell', () => {
  const { resume, given } = readTrainingCommand(programs.maskdm, 'go', ['finetune', '--mask-size', '3'])
  assert.is(resume('my runs', 7), "go finetune --out 'my runs' --resume --steps 7")
  assert.equal(given, { stage: 'finetune', maskSize: 3 })
})

test.run()
