/**
 * The flags of train-maskdit.ts, and the settings that follow from them, the preset and the run that is resumed or
 * tuned.
 */

import { commandOf, type Flags, readFlags, type Values } from '../cli/flags.ts'
import type { TrainingSet } from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import {
  type MaskDiTOptions,
  type MaskRatio,
  maskDiTPreset,
  maskRatioSchedule,
  presetNames,
  type Training,
  trainingPreset,
  unmaskingTuning,
} from '../models/index.ts'
import {
  latestCheckpoint,
  type RunDescribed,
  type RunState,
  readState,
  type StepGuardOptions,
  unguarded,
} from './index.ts'
import { type LatentSpace, latentFlags, picturesOf } from './latents.ts'
import { checkPatches, runFlags, settled } from './run-settings.ts'

/** All that decides what a run computes: kept in its checkpoints. */
export interface Settings extends Training, StepGuardOptions {
  readonly preset: string
  readonly size: number
  readonly data: string
  /** A folder of latents of these pictures, or null where the model sees pictures. */
  readonly latents: string | null
  readonly seed: number
  readonly maskRatio: number
  /** How a run that tunes a trained model unmasks; null in one that trains. */
  readonly tune: 'zero' | 'cosine' | null
  /** The length of tuning, over which the ratio falls; null in a run that trains, which has no end of its own. */
  readonly steps: number | null
}

/** What a checkpoint says of its run, so that it can be read without it. */
export interface Described extends RunDescribed {
  readonly settings: Settings
  readonly model: MaskDiTOptions
  readonly classes: readonly string[]
  /** Null where the model draws pictures; absent in runs of earlier versions. */
  readonly latents?: LatentSpace | null
  /** The run that this one tunes; null where it trains. */
  readonly tuned?: string | null
}

const flags = {
  preset: { type: 'text', choices: presetNames, about: 'the model (default tiny)' },
  ...runFlags,
  ...latentFlags,
  steps: {
    type: 'integer',
    min: 1,
    about: 'steps in all, those before a resume among them (default 10000, tuning 1000)',
  },
  'mask-ratio': { type: 'number', min: 0, max: 0.95, about: 'share of tokens removed, at first (default 0.5)' },
  tune: {
    type: 'text',
    choices: ['zero', 'cosine'],
    about: 'unmasking tuning of a trained run: no mask, or less and less',
  },
  from: { type: 'text', value: 'DIR', about: 'the run to tune (default runs/maskdit-PRESET)' },
  out: { type: 'text', value: 'DIR', about: 'the folder of the run (default runs/maskdit-PRESET, tuning with -WAY)' },
} as const satisfies Flags

export const command = commandOf('examples/train-maskdit.ts')
export const program = 'train maskdit'

type Given = Omit<Values<typeof flags>, 'out' | 'from'> & { readonly out: string; readonly from: string }

/** What stands on the command line. Throws UserError. */
export function trainingFlags(): Given {
  const given = readFlags({
    command,
    about: 'Trains MaskDiT [MaskDiT] on pictures, half of their patches removed, and then tunes it on whole ones.',
    flags,
    examples: [
      ['', 'a small model on smileys'],
      ['--tune cosine', 'tune what that has learned'],
      ['--resume --steps 20000', 'or go on with the first, for longer'],
      ['--preset S/4 --data my-pictures --size 32 --minutes 60', 'a larger model on pictures of your own'],
      ['--latents runs/latents-smileys-32', 'on latents that encode-latents left, decoded to be seen'],
    ],
  })
  if (given.from !== undefined && given.tune === undefined) throw new UserError('--from: wanted with --tune only')
  const trained = `runs/maskdit-${(given.preset ?? 'tiny').toLowerCase().replace('/', '-')}`
  const { from = trained, out = given.tune === undefined ? trained : `${from}-${given.tune}` } = given
  return { ...given, from, out }
}

/** The checkpoint that tuning begins with, and the settings it was made with. Throws UserError. */
export function trainedRun(from: string): { path: string; step: number; settings: Settings } {
  const checkpoint = latestCheckpoint(from)
  if (checkpoint === undefined) throw new UserError(`--tune: wanted a trained run in ${from} (--from), got none`)
  const { settings } = readState<RunState<Described>>(checkpoint.path)
  if (settings.tune === undefined)
    throw new UserError(`--tune: wanted a run of MaskDiT in ${from}, got one of another model`)
  if (settings.tune !== null) throw new UserError(`--tune: wanted a run that trains in ${from}, got one that tunes`)
  return { ...checkpoint, settings: withLatents(settings) }
}

/**
 * The settings of a run: those of the resumed one, which may differ in the learning rate, clipping and skipping; those of
 * the trained one at half its learning rate; or the preset's. Throws UserError on a flag that contradicts them.
 */
export function settingsOf(given: Given, resumed: Settings | undefined, trained: Settings | undefined): Settings {
  const { 'mask-ratio': maskRatio, tune, steps = 1000 } = given
  if (resumed !== undefined)
    return settled(
      withLatents(resumed),
      { ...given, maskRatio, steps: resumed.tune && given.steps },
      { out: given.out, resumed: true },
    )
  if (trained !== undefined) {
    // The model and what it draws are given; how it is tuned may be chosen.
    const { preset, size, data, latents } = given
    settled(trained, { preset, size, data, latents }, { out: given.from, resumed: true })
    const tuning = { ...trained, lr: trained.lr / 2, warmUpSteps: 0, tune: tune as Settings['tune'], steps }
    return settled(tuning, { ...given, maskRatio, steps }, { out: given.out, resumed: false })
  }
  const base: Settings = {
    preset: 'tiny',
    size: 16,
    data: 'emoji:smileys',
    ...picturesOf(given),
    seed: 0,
    maskRatio: 0.5,
    ...unguarded,
    ...trainingPreset(given.preset ?? 'tiny'),
    tune: null,
    steps: null,
  }
  return settled(base, { ...given, maskRatio, steps: undefined }, { out: given.out, resumed: false })
}

/** Runs of earlier versions were all on pictures. */
const withLatents = (settings: Settings): Settings => ({ ...settings, latents: settings.latents ?? null })

/** The mask ratio over a run: the same throughout training, falling in tuning. */
export function ratioOf({ tune, maskRatio }: Settings): MaskRatio {
  return tune === null ? maskRatioSchedule('constant', { ratio: maskRatio }) : unmaskingTuning(tune, maskRatio)
}

/**
 * The model for a run's settings and pictures: with their classes, but for tiny, which learns faster without. Throws
 * UserError where they do not fit.
 */
export function modelOptions(settings: Settings, { classes, channels, size }: TrainingSet): MaskDiTOptions {
  const { preset } = settings
  const numClasses = preset === 'tiny' ? 0 : classes.length
  const options = maskDiTPreset(preset, { inputSize: size, inChannels: channels, numClasses })
  checkPatches(options, settings)
  return options
}
