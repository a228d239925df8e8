/** `--class-from prefix` in the programs that open pictures: cat_1.png is a cat, wherever it lies. Needs Node. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run as evaluate } from '../../cli/evaluate.ts'
import { openSource } from '../../cli/evaluate-sets.ts'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { cpu, rng } from '../../core/index.ts'
import { UserError } from '../../io/user-error.ts'
import { AutoencoderKL, autoencoderPresets } from '../../models/index.ts'
import { newSettings, programs } from '../../training/index-node.ts'
import { picturesOf } from '../../training/latents.ts'
import { resumedSettings } from '../../training/settings.ts'
import { saveVae } from '../../training/vae-weights.ts'
import { succeed } from '../programs/example.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-class-from-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const pets = join(folder, 'pets')
mkdirSync(join(pets, 'more'), { recursive: true })
for (const name of ['dog_1', 'cat_001', 'dog_2', 'more/cat_2'])
  await sharp({ create: { width: 16, height: 16, channels: 3, background: 'red' } })
    .png()
    .toFile(join(pets, `${name}.png`))
const prefix = ['--class-from', 'prefix']
const one = ['--threads', '1']

test('train', async () => {
  const words = ['train', 'mdt', '--preset', 'tiny', '--size', '8', '--batch', '2', '--labels', 'yes', ...one]
  const run = join(folder, 'run')
  await succeed('demask', [...words, '--data', pets, ...prefix, '--steps', '1', '--out', run])
  const { settings, classes } = JSON.parse(readFileSync(join(run, 'checkpoint-00000001/state.json'), 'utf8'))
  assert.equal([settings.classFrom, classes], ['prefix', ['cat', 'dog']])
})

test('encode-latents', async () => {
  const model = new AutoencoderKL(autoencoderPresets.tiny, { rng: rng(0), backend: cpu })
  await saveVae(join(folder, 'vae.safetensors'), model, 1, 16)
  const words = ['encode-latents', pets, '--vae', join(folder, 'vae.safetensors'), ...one]
  await succeed('demask', [...words, ...prefix, '--out', join(folder, 'latents')])
  assert.equal(JSON.parse(readFileSync(join(folder, 'latents/index.json'), 'utf8')).classes, ['cat', 'dog'])
})

test('evaluate', async () => {
  const source = await openSource(pets, undefined, 'prefix')
  assert.is('pictures' in source && source.pictures.length, 4)
  const error = await openSource(pets, undefined).catch((thrown: Error) => thrown)
  assert.match((error as Error).message, /expected pictures or class folders, got both/)
  const none = await evaluate(['emoji:smileys', 'emoji', ...prefix]).catch((thrown: Error) => thrown)
  assert.instance(none, UserError)
  assert.is(
    (none as Error).message,
    "--class-from: expected a folder of pictures for 'prefix', got emoji:smileys and emoji",
  )
})

test('settings: refused values, where there are latents, and in a resumed run', () => {
  const read = (...words: string[]) => readTrainingCommand(programs.mdt, 'demask', words).given
  assert.equal(newSettings(programs.mdt.family, read(...prefix)).classFrom, 'prefix')
  assert.is(newSettings(programs.mdt.family).classFrom, 'folder')
  assert.throws(() => read('--class-from', 'suffix'), /--class-from: expected one of folder, prefix, got 'suffix'/)
  const latents = { latents: folder, classFrom: 'prefix' } as const
  assert.throws(() => picturesOf(latents), /--class-from: expected no --latents beside it, got prefix/)
  const before = { preset: 'tiny', classFrom: 'prefix' } as const
  assert.is(resumedSettings(programs.mdt.family, {}, before, 'runs/a').classFrom, 'prefix')
  assert.is(resumedSettings(programs.mdt.family, { classFrom: 'folder' }, before, 'runs/a').classFrom, 'folder')
  assert.throws(() => readTrainingCommand(programs.vae, 'demask', prefix), /unknown option '--class-from'/)
})

test.run()
