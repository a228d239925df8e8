/**
 * train-maskdit.ts as a person runs it: training, resuming, both ways of tuning, and errors of wrong commands.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bytesOf, fail, inFolder, succeed } from './example.ts'

const program = 'train-maskdit'
const small = ['--size', '8', '--batch', '2', '--threads', '1']

interface Row {
  readonly step: number
  readonly ratio: number
  readonly lr: number
}

const rowsOf = (run: string): Row[] =>
  readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(row => JSON.parse(row))

test('train, go on, tune both ways, go on with tuning', () =>
  inFolder(async folder => {
    const [run, unbroken] = ['run', 'unbroken'].map(name => join(folder, name))
    const said = await succeed(program, [...small, '--steps', '1', '--out', run])
    assert.match(said, /^MaskDiT-tiny on the 169 pictures of emoji:smileys at 8 px: \d\.\d M parameters, batch 2/)
    await succeed(program, ['--threads', '1', '--steps', '2', '--out', run, '--resume'])
    await succeed(program, [...small, '--steps', '2', '--out', unbroken])
    const last = (of: string) => {
      const files = Object.entries(bytesOf(of)).filter(([name]) => /checkpoint-0*2\/|metrics|samples-0*2/.test(name))
      assert.is(files.length, 6, files.join())
      return files
    }
    assert.equal(last(run), last(unbroken))
    assert.equal(
      rowsOf(run).map(({ ratio }) => ratio),
      [0.5, 0.5],
    )

    const tuned = await succeed(program, ['--tune', 'cosine', '--from', run, '--steps', '4', '--threads', '1'])
    assert.match(tuned, /\ntuning \(cosine\) what .*checkpoint-00000002 has learned, for 4 steps\n/)
    const rows = rowsOf(`${run}-cosine`)
    assert.equal(
      rows.map(({ step, ratio }) => [step, Math.round(ratio * 1000)]),
      [
        [1, 500],
        [2, 364],
        [3, 125],
        [4, 11],
      ],
    )
    assert.ok(rows.every(({ lr }) => lr === rows[0].lr))
    for (const name of ['loss.png', 'samples-00000004.png', 'README.md'])
      assert.ok(existsSync(join(`${run}-cosine`, name)), name)

    await succeed(program, ['--tune', 'zero', '--from', run, '--steps', '2', '--lr', '0.01', '--threads', '1'])
    assert.equal(
      rowsOf(`${run}-zero`).map(({ ratio, lr }) => [ratio, lr]),
      [
        [0, 0.01],
        [0, 0.01],
      ],
    )
    const out = ['--out', `${run}-cosine`, '--resume']
    await fail(
      program,
      [...out, '--steps', '9'],
      /--steps: expected 4, as the run in .*run-cosine has, got 9\. Pass --out/,
    )
    await fail(
      program,
      ['--tune', 'zero', '--from', `${run}-cosine`],
      /expected a run that trains in .*, got one that tunes/,
    )
    await fail(
      program,
      ['--tune', 'zero', '--from', run, '--size', '16', '--out', join(folder, 'other')],
      /--size: expected 8, as the run in .*run has, got 16/,
    )
  }))

test('a wrong command is one line, before anything is written', () =>
  inFolder(async folder => {
    const out = ['--out', join(folder, 'run')]
    await fail(program, ['--from', folder, ...out], /--from: expected with --tune only/)
    await fail(program, ['--tune', 'cos4', ...out], /--tune: expected one of zero, cosine, got 'cos4'/)
    await fail(program, ['--tune', 'zero', '--from', folder, ...out], /--tune: expected a trained run in .*, got none/)
    await fail(
      program,
      ['--preset', 'S/8', '--size', '4', ...out],
      /--size: expected a multiple of S\/8's patch size, 8, got 4/,
    )
    await fail(
      program,
      ['--size', '8', '--mask-ratio', '0.95', ...out],
      /--mask-ratio: expected a mask that keeps at least one of 16 tokens, got 0\.95/,
    )
    assert.not.ok(existsSync(join(folder, 'run')))
    const checkpoint = join(folder, 'mdt', 'checkpoint-00000001')
    mkdirSync(checkpoint, { recursive: true })
    writeFileSync(join(checkpoint, 'state.json'), JSON.stringify({ step: 1, settings: { preset: 'tiny' } }))
    const mdt = ['--tune', 'zero', '--from', join(folder, 'mdt')]
    await fail(program, [...mdt, ...out], /--tune: expected a run of MaskDiT in .*mdt, got one of another model/)
  }))

test.run()
