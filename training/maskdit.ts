/**
 * MaskDiT's program: training on pictures half of whose patches are removed, then unmasking tuning [MaskDiT §2.2]. Tuning
 * starts with the weights, averages, moments and settings that a trained run left. Needs Node.
 */

import { rng } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { type MaskDiTOptions, maskDiT, type PreconditionedMaskDiT } from '../models/index.ts'
import { type Checkpoint, latestCheckpoint, readState } from './checkpoint.ts'
import { familyProgram } from './family-program.ts'
import type { Described, TrainingProgram } from './program.ts'
import type { RunState } from './resume.ts'
import { changeOf, folderOf, resumedSettings, type Settings } from './settings.ts'

type Own = (typeof maskDiT)['training']['settings']

/** Steps of tuning, unless given. */
const tuningSteps = 1000

export const maskDiTProgram: TrainingProgram<PreconditionedMaskDiT, MaskDiTOptions, Own> = familyProgram(maskDiT, {
  about: 'Trains MaskDiT [MaskDiT] on pictures, half of their patches removed, and then tunes it on whole ones.',
  examples: [
    ['', 'a small model on smileys'],
    ['--tune cosine', 'tune it on whole pictures'],
    ['--resume --steps 20000', 'or continue the first run, for longer'],
    ['--preset S/4 --data my-pictures --size 32 --minutes 60', 'a larger model on pictures of your own'],
    ['--latents runs/latents-emoji-smileys-32', 'on latents that encode-latents left, decoded to be seen'],
  ],
  folder(given) {
    return given.tune === undefined ? folderOf(maskDiT, given.preset) : `${sourceOf(given)}-${given.tune}`
  },
  complete(given, steps = tuningSteps, preset) {
    if (given.tune === undefined) {
      if (given.from === undefined) return given
      throw new UserError(`--from: expected with --tune only, got ${given.from}`)
    }
    const from = sourceOf({ preset, ...given })
    const { settings } = trainedRun(from)
    // The model and its data are those of the trained run.
    for (const name of ['preset', 'size', 'data', 'latents', 'labels'] as const)
      if (given[name] !== undefined && given[name] !== settings[name])
        throw changeOf(`--${name}`, settings[name], given[name], from)
    return { ...settings, lr: settings.lr / 2, warmUpSteps: 0, ...given, from, steps }
  },
  random: ({ seed, tune }) => rng(seed).fork(tune ?? 'train'),
  origin(settings) {
    if (settings.tune == null) return null
    const { checkpoint } = trainedRun(sourceOf(settings))
    const note = `tuning (${settings.tune}) what ${checkpoint.path} has learned, for ${settings.steps} steps`
    return { flag: '--tune', checkpoint, note }
  },
})

/** The run to tune, by default the one that training leaves. */
function sourceOf({ from, preset }: Partial<Settings<Own>>): string {
  return from ?? folderOf(maskDiT, preset)
}

/** The checkpoint that tuning starts from, and its settings. Throws UserError. */
function trainedRun(from: string): { readonly checkpoint: Checkpoint; readonly settings: Settings<Own> } {
  const checkpoint = latestCheckpoint(from)
  if (checkpoint === undefined) throw new UserError(`--tune: expected a trained run in ${from} (--from), got none`)
  const { program, settings } = readState<RunState<Described<MaskDiTOptions, Own>>>(checkpoint.path)
  if (program !== 'train maskdit' && settings.tune === undefined)
    throw new UserError(`--tune: expected a run of MaskDiT in ${from}, got one of another model`)
  if (settings.tune != null) throw new UserError(`--tune: expected a run that trains in ${from}, got one that tunes`)
  return { checkpoint, settings: resumedSettings(maskDiT, {}, settings, from) }
}
