/**
 * The flags of train-mdt-s.ts, and the settings that follow from them, the preset and the run that is resumed. What other
 * training programs have too is run-settings.ts.
 */

import { commandOf, type Flags, readFlags, type Values } from '../cli/flags.ts'
import type { TrainingSet } from '../data/index.ts'
import { type MDTOptions, mdtPreset, presetNames, type Training, trainingPreset } from '../models/index.ts'
import { duration, type RunDescribed, type StepGuardOptions, unguarded } from './index.ts'
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
  /** Whether the model is told the class of each picture. */
  readonly labels: 'yes' | 'no'
}

/** What a checkpoint says of its run, so that it can be read without it. */
export interface Described extends RunDescribed {
  readonly settings: Settings
  readonly model: MDTOptions
  readonly classes: readonly string[]
  /** Null where the model draws pictures; absent in runs of earlier versions. */
  readonly latents?: LatentSpace | null
}

const flags = {
  preset: { type: 'text', choices: presetNames, about: 'the model (default S/2)' },
  ...runFlags,
  ...latentFlags,
  'mask-ratio': {
    type: 'number',
    min: 0,
    max: 0.95,
    about: 'share of tokens removed in the masked pass (default 0.3)',
  },
  labels: {
    type: 'text',
    choices: ['yes', 'no'],
    about: 'tell the model the class of each picture (default yes; no with tiny)',
  },
  out: { type: 'text', value: 'DIR', about: 'the folder of the run (default runs/mdt-PRESET)' },
} as const satisfies Flags

export const command = commandOf('examples/train-mdt-s.ts')
export const program = 'train mdt'

/** What stands on the command line. Throws UserError. */
export function trainingFlags(): Omit<Values<typeof flags>, 'out'> & { readonly out: string } {
  const given = readFlags({
    command,
    about: 'Trains a masked diffusion transformer [MDT] on pictures and shows what it draws.',
    flags,
    examples: [
      ['', 'MDT-S/2 on smileys: coloured discs after 150 steps, within 10 minutes on 2 cores'],
      ['--preset tiny', 'a small model: faces in minutes'],
      ['--preset tiny --out runs/mdt-tiny --resume --steps 20000', 'go on with a run, for longer'],
      ['--data my-pictures --size 32 --preset S/4 --minutes 60', 'pictures of your own, for an hour'],
      ['--latents runs/latents-smileys-32 --preset tiny', 'on latents that encode-latents left, decoded to be seen'],
    ],
  })
  const { preset = 'S/2', out = `runs/mdt-${preset.toLowerCase().replace('/', '-')}` } = given
  return { ...given, out }
}

/**
 * The settings of a run: `started` are those of the run that is resumed, which may differ in the learning rate, clipping
 * and skipping. Throws UserError on a flag that contradicts them.
 */
export function settingsOf(given: ReturnType<typeof trainingFlags>, started: Settings | undefined): Settings {
  const asked = { ...given, maskRatio: given['mask-ratio'] }
  const base: Settings = (started && { ...started, latents: started.latents ?? null }) ?? {
    preset: 'S/2',
    size: 16,
    data: 'emoji:smileys',
    ...picturesOf(given),
    seed: 0,
    maskRatio: 0.3,
    labels: asked.preset === 'tiny' ? 'no' : 'yes', // tiny learns faster without
    ...unguarded,
    ...trainingPreset(asked.preset ?? 'S/2'),
  }
  return settled(base, asked, { out: given.out, resumed: started !== undefined })
}

/** Steps until samples on emoji:smileys at 16 px are recognisable as faces: seen with tiny, guessed for the others. */
const facesAfter = { tiny: 500, S: 800, B: 1500, L: 3000, XL: 4000 } as const

/** What a run can hope for, once a step has been timed. */
export function expected({ preset, data, size, latents }: Settings, step: number, seconds: number): string {
  const speed = `${seconds.toFixed(2)} s a step`
  const faces = facesAfter[preset.split('/')[0] as keyof typeof facesAfter]
  if (data !== 'emoji:smileys' || size !== 16 || latents !== null || step >= faces) return speed
  const hope = `${speed}: first recognisable faces after about ${faces} steps, in ${duration(seconds * (faces - step))}`
  return preset === 'tiny' ? hope : `${hope}, by estimate (--preset tiny gets there in minutes)`
}

/** The model for a run's settings and pictures. Throws UserError where they do not fit. */
export function modelOptions(settings: Settings, { classes, channels, size }: TrainingSet): MDTOptions {
  const { preset, maskRatio, labels } = settings
  const numClasses = labels === 'yes' ? classes.length : 0
  const options = { ...mdtPreset(preset, { inputSize: size, inChannels: channels, numClasses }), maskRatio }
  checkPatches(options, settings)
  return options
}
