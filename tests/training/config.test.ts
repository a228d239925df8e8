/** Settings of a run.json for another run: all of them come back, and one clear line for each that does not fit. */

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run as train } from '../../cli/train.ts'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { UserError } from '../../io/user-error.ts'
import { type AnyProgram, newSettings, openDryRun, programs, writeRunReadme } from '../../training/index-node.ts'
import { inFolder } from '../programs/example.ts'

/** Settings given by a `--config` that names a run with these settings. */
function read(folder: string, program: AnyProgram, settings: object, words: readonly string[] = [], steps = 7) {
  const described = { program: `train ${program.family.command}`, settings }
  writeRunReadme(folder, { title: 'a run', command: 'go', resume: 'go on', steps, described })
  return readTrainingCommand(program, 'go', ['--config', join(folder, 'run.json'), ...words])
}

test('a new run has the settings and the length of another one, but for those that are given', () =>
  inFolder(async folder => {
    for (const [name, program] of Object.entries<AnyProgram>(programs)) {
      const operands = name === 'maskdm' ? ['pretrain'] : []
      const { given } = readTrainingCommand(program, 'go', [...operands, '--batch', '6', '--parts', '3', '--seed', '5'])
      const settings = newSettings(program.family, given)
      const again = read(join(folder, name), program, settings, operands)
      assert.equal(newSettings(program.family, again.given), settings, name)
      assert.is(again.flags.steps, 7)
      const other = read(join(folder, name), program, settings, [...operands, '--seed', '9', '--steps', '3'])
      assert.equal([other.given.seed, other.given.batch, other.flags.steps], [9, 6, 3])
    }
  }))

test('a run on latents has the size and the name of their pictures from the folder', () =>
  inFolder(async folder => {
    const settings = newSettings(programs.mdt.family, { latents: 'l', data: 'cats', size: 64, preset: 'tiny' })
    const { given } = read(folder, programs.mdt, settings)
    assert.equal([given.latents, given.data, given.size], ['l', undefined, undefined])
  }))

test('whatever does not fit is one line', () =>
  inFolder(async folder => {
    const mdt = programs.mdt as AnyProgram
    const usual = newSettings(mdt.family)
    const refused = (wanted: RegExp, use: () => unknown) =>
      assert.throws(use, (error: Error) => {
        assert.instance(error, UserError)
        assert.match(error.message, wanted)
        return !error.message.includes('\n')
      })
    for (const [change, wanted] of [
      [{ colour: 1 }, /^--config: \S+run\.json: expected settings of train mdt, got colour$/],
      [{ batch: 0 }, /^--config: \S+run\.json: batch: expected a whole number of at least 1, got 0$/],
      [{ maskRatio: 2 }, /: maskRatio: expected a number in \[0, 0\.95\], got 2$/],
      [{ preset: 'S/3' }, /: preset: expected one of tiny, .*, got "S\/3"$/],
      [{ data: 5 }, /: data: expected text, got 5$/],
    ] as const)
      refused(wanted, () => read(folder, mdt, { ...usual, ...change }))
    refused(/: steps: expected a whole number of at least 1, got 0$/, () => read(folder, mdt, usual, [], 0))
    refused(/^--config: expected a run of train mdt, got one of train dit: /, () => {
      read(join(folder, 'dit'), programs.dit, newSettings(programs.dit.family))
      readTrainingCommand(mdt, 'go', ['--config', join(folder, 'dit', 'run.json')])
    })
    refused(/^--config: expected without --resume, got both$/, () => read(folder, mdt, usual, ['--resume']))
    const at = (name: string, text: string) => {
      writeFileSync(join(folder, name), text)
      return () => readTrainingCommand(mdt, 'go', ['--config', join(folder, name)])
    }
    refused(/^--config: expected a run\.json: \S+nowhere: no such file or folder$/, () =>
      readTrainingCommand(mdt, 'go', ['--config', join(folder, 'nowhere')]),
    )
    refused(/^--config: expected a run\.json: \S+cut: /, at('cut', '{"described":'))
    for (const text of ['null', '[]', '{"title":"an earlier version"}', '{"described":{"program":"train mdt"}}'])
      refused(/^--config: expected a run\.json with the program and settings of a run, got /, at('other', text))
  }))

test('the program follows from the file; a run that only looks needs what it looks at', () =>
  inFolder(async folder => {
    const file = join(folder, 'run.json')
    writeFileSync(file, '{"described": {"program": "train gan", "settings": {}}}')
    const rejected = async (wanted: RegExp, promise: Promise<unknown>) => {
      const error = await promise.catch((error: Error) => error)
      assert.instance(error, UserError)
      assert.match((error as Error).message, wanted)
    }
    await rejected(/^--config: expected a run of one of dit, mdt, .*, got train gan: /, train(['--config', file]))
    const command = readTrainingCommand(programs.mdt, 'go', ['--resume', '--out', join(folder, 'none')])
    await rejected(/none: expected a checkpoint to resume from, got none$/, openDryRun(programs.mdt, command))
    assert.not(existsSync(join(folder, 'none')))
  }))

test.run()
