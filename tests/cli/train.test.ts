/** `demask train` looks before it trains, and starts a run from another one's run.json. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fail, inFolder, succeed } from '../programs/example.ts'

const small = ['--preset', 'tiny', '--size', '8', '--batch', '2', '--threads', '1']

test('--dry-run measures two steps, says what the run needs, and writes nothing', () =>
  inFolder(async folder => {
    const out = join(folder, 'deep', 'run')
    const words = ['--steps', '500', '--out', out, '--dry-run']
    const [mdt, vae] = await Promise.all([
      succeed('demask', ['train', 'mdt', ...small, ...words]),
      succeed('demask', ['train', 'vae', '--size', '8', '--batch', '2', '--threads', '1', ...words]),
    ])
    assert.match(mdt, /^MDT-tiny on the 169 pictures of emoji:smileys at 8 px: 2\.2 M parameters, batch 2, wasm \w+\n/)
    assert.match(
      mdt,
      /^memory: 0\.\d\d GiB at the peak of a step, 0\.\d\d GiB while samples are drawn; [\d.]+ GiB can/m,
    )
    assert.match(vae, /^memory: 0\.\d\d GiB at the peak of a step; /m)
    for (const said of [mdt, vae]) {
      const [, seconds, left] = /^time: ([\d.]+) s for the second step; 500 steps in (.+), samples/m.exec(said) ?? []
      assert.ok(Number(seconds) > 0 && left !== undefined, said)
      assert.match(said, /^disk: [\d.]+ MB: 3 checkpoints of [\d.]+ MB, one of them while it is written, and logs; /m)
      assert.match(said, /nothing was written\n$/)
    }
    // Weights and their average are 4 bytes a parameter, AdamW's moments 8.
    const checkpoint = Number(/3 checkpoints of ([\d.]+) MB/.exec(mdt)?.[1])
    assert.ok(Math.abs(checkpoint - 2.2 * 16) < 1, `${checkpoint} MB`)
    assert.not(existsSync(join(folder, 'deep')))
  }))

test('--dry-run of a model that is too large ends before it is made, with what fits', () =>
  inFolder(async folder => {
    const words = ['train', 'mdt', '--preset', 'L/2', '--threads', '1', '--out', join(folder, 'run'), '--dry-run']
    await fail('demask', words, /^error: memory: expected a step of at most [\d.]+ GiB, got one of \d+\.\d\d GiB$/m)
    assert.not(existsSync(join(folder, 'run')))
  }))

test('--config: the run of a run.json elsewhere has the same bytes; --print-config is such a file', () =>
  inFolder(async folder => {
    const [first, again, printed] = ['first', 'again', 'printed'].map(name => join(folder, name))
    const words = ['train', 'mdt', ...small, '--seed', '3', '--mask-ratio', '0.5', '--steps', '2', '--out', first]
    const text = await succeed('demask', [...words, '--print-config'])
    assert.not(existsSync(first))
    await succeed('demask', words)
    const { command: _, ...run } = JSON.parse(readFileSync(join(first, 'run.json'), 'utf8'))
    const { command: __, ...shown } = JSON.parse(text)
    assert.equal(shown, run)
    writeFileSync(printed, text)
    await succeed('demask', ['train', '--config', printed, '--threads', '1', '--out', again])
    const [a, b] = [first, again].map(out => readFileSync(join(out, 'metrics.jsonl'), 'utf8'))
    assert.is(b, a)
    assert.is(a.split('\n').length, 3)
    await fail(
      'demask',
      ['train', 'dit', '--config', printed],
      /--config: expected a run of train dit, got one of train mdt/,
    )
    writeFileSync(printed, text.replaceAll('"train mdt"', '"train gan"'))
    await fail(
      'demask',
      ['train', '--config', printed],
      /--config: expected a run of one of dit, mdt, .*, got train gan/,
    )
  }))

test.run()
