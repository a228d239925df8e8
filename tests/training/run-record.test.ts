/**
 * The record of a run from its start: one that ends before its first checkpoint resumes with its settings, a program
 * refuses the run of another, pictures may move but not change unsaid, and the commands that are printed work. Needs Node.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { shellLine } from '../../cli/flags.ts'
import { UserError } from '../../io/user-error.ts'
import { checkSameData, previousRun, resumePoint } from '../../training/index-node.ts'
import { bytesOf, fail, inFolder, succeed } from '../programs/example.ts'

const quick = ['--threads', '1']

/** Two folders of two pictures each. */
async function pictures(folder: string): Promise<void> {
  for (const [name, background] of Object.entries({ 'cats & dogs': 'red', véhicules: 'blue' })) {
    mkdirSync(join(folder, name), { recursive: true })
    for (const i of [1, 2])
      await sharp({ create: { width: 8, height: 8, channels: 3, background } })
        .png()
        .toFile(join(folder, name, `${i}.png`))
  }
}

test('a run that ended before its first checkpoint goes on as what it was', () =>
  inFolder(async folder => {
    const [data, cut, whole] = ['my pictures', "cut ü's", 'whole'].map(name => join(folder, name))
    await pictures(data)
    const settings = ['--preset', 'tiny', '--data', data, '--size', '8', '--batch', '3', '--labels', 'yes', ...quick]
    await succeed('train-mdt-s', [...settings, '--steps', '2', '--out', whole])
    await succeed('train-mdt-s', [...settings, '--steps', '1', '--out', cut])
    const [readme, record] = ['README.md', 'run.json'].map(name => readFileSync(join(cut, name), 'utf8'))
    rmSync(join(cut, 'checkpoint-00000001'), { recursive: true })
    await fail('train-mdt-s', [...settings, '--out', cut], /expected a folder without a run, got one\. Pass --resume/)
    await fail(
      'train-maskdm',
      ['pretrain', '--out', cut, '--resume'],
      /expected a run of train maskdm, got one of train mdt$/m,
    )
    const said = await succeed('train-mdt-s', ['--out', cut, '--resume', '--steps', '2', ...quick])
    assert.match(said, /^MDT-tiny on the 4 pictures of .*my pictures at 8 px: .*, batch 3/)
    const checkpoint = (run: string) => bytesOf(join(run, 'checkpoint-00000002'))
    const metrics = (run: string) => readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    assert.equal([checkpoint(cut), metrics(cut)], [checkpoint(whole), metrics(whole)])
    assert.equal(
      [readFileSync(join(cut, 'README.md'), 'utf8'), readFileSync(join(cut, 'run.json'), 'utf8')],
      [readme, record],
    )
    // A shell reads what the page says as it was meant.
    const [, line] = /checkpoint with `(.*)`/.exec(readme)!
    const words = execFileSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' })
      .trim()
      .split('\n')
    assert.equal(words.slice(-5), ['--out', cut, '--resume', '--steps', '1'])
  }))

test('pictures may move, but labels keep their meaning, and another number of pictures is said', () =>
  inFolder(async folder => {
    const [data, elsewhere, out] = ['data', 'elsewhere', 'run'].map(name => join(folder, name))
    await pictures(data)
    const settings = ['--preset', 'tiny', '--data', data, '--size', '8', '--batch', '1', '--labels', 'yes', ...quick]
    await succeed('train-mdt-s', [...settings, '--steps', '1', '--out', out])
    const resume = ['--out', out, '--resume', '--steps', '2', ...quick]
    renameSync(data, elsewhere)
    await fail('train-mdt-s', resume, /data: expected .*no such file or folder/)
    renameSync(join(elsewhere, 'véhicules'), join(elsewhere, 'autos'))
    await fail(
      'train-mdt-s',
      [...resume, '--data', elsewhere],
      /expected the classes that the run began with, cats & dogs, véhicules, got autos, cats & dogs: labels would change/,
    )
    renameSync(join(elsewhere, 'autos'), join(elsewhere, 'véhicules'))
    await succeed('train-mdt-s', [...resume, '--data', elsewhere])
    rmSync(join(elsewhere, 'véhicules', '1.png'))
    const said = await succeed('train-mdt-s', ['--out', out, '--resume', '--steps', '3', ...quick])
    assert.match(said, /\nthe run had 4 pictures until now, got 3\n/)
    renameSync(elsewhere, data)
    rmSync(join(data, 'véhicules', '2.png'))
    await pictures(join(folder, 'others'))
    await fail(
      'train-mdt-s',
      ['--out', out, '--resume', '--data', join(folder, 'others'), ...quick],
      /the run had 3 pictures until now, got 4: other pictures need a new run/,
    )
  }))

test('a run before its first step may begin again; one of an earlier version says less', () =>
  inFolder(async folder => {
    const [before, after] = ['before', 'after'].map(name => join(folder, name))
    for (const run of [before, after]) mkdirSync(run)
    writeFileSync(join(before, 'metrics.jsonl'), '')
    const first = resumePoint(before, false)
    assert.is(first.from, undefined)
    assert.throws(() => resumePoint(before, false), /process \d+ works there since/)
    first.release()
    const second = resumePoint(before, false)
    first.release() // the second time: the lock is another's
    assert.throws(() => resumePoint(before, false), /process \d+ works there since/)
    second.release()
    writeFileSync(join(after, 'metrics.jsonl'), '{"step":1}\n')
    assert.throws(() => resumePoint(after, false), /expected a folder without a run/)
    assert.is(previousRun(folder, undefined, { resume: true, program: 'train mdt' }), undefined)
    assert.is(previousRun(folder, undefined, { resume: false, program: 'train mdt' }), undefined)
    const settings = { data: 'emoji' }
    assert.is(checkSameData(folder, undefined, { settings, pictures: 4, classes: ['a'] }, true), null)
    assert.is(checkSameData(folder, { settings }, { settings, pictures: 4, classes: ['a'] }, true), null)
    const many = Array.from({ length: 20 }, (_, i) => `c${i}`)
    assert.throws(
      () => checkSameData(folder, { settings, classes: many }, { settings, classes: ['a'] }, true),
      (error: Error) => error instanceof UserError && / c0, .*c7 … \(20\), got a: labels/.test(error.message),
    )
    assert.is(checkSameData(folder, { settings, classes: many }, { settings, classes: ['a'] }), null)
  }))

test('words are quoted where a shell would read them otherwise', () => {
  assert.is(shellLine('demask', '--out', 'runs/a-b_c.1', "it's $HOME"), "demask --out runs/a-b_c.1 'it'\\''s $HOME'")
})

test.run()
