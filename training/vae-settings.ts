/**
 * The flags of train-vae.ts, and the settings that follow from them, the preset and the run that is resumed. What other
 * training programs have too is run-settings.ts.
 */

import { commandOf, type Flags, readFlags, type Values } from '../cli/flags.ts'
import type { ImageDataset } from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import {
  type AutoencoderKLOptions,
  type AutoencoderPresetName,
  autoencoderPresetNames,
  autoencoderPresets,
  type Training,
} from '../models/index.ts'
import { type RunDescribed, type StepGuardOptions, unguarded } from './index.ts'
import { runFlags, settled } from './run-settings.ts'

/** All that decides what a run computes: kept in its checkpoints. */
export interface Settings extends Training, StepGuardOptions {
  readonly preset: AutoencoderPresetName
  readonly size: number
  readonly data: string
  readonly seed: number
  readonly klWeight: number
}

/** What a checkpoint says of its run, so that it can be read without it. */
export interface Described extends RunDescribed {
  readonly settings: Settings
  readonly model: AutoencoderKLOptions
}

const flags = {
  preset: { type: 'text', choices: autoencoderPresetNames, about: 'the autoencoder (default tiny)' },
  ...runFlags,
  size: { type: 'integer', min: 1, max: 1024, about: 'height and width of the pictures (default 32)' },
  'kl-weight': { type: 'number', min: 0, about: 'of the divergence from N(0, 1), beside an error of 1 (default 1e-3)' },
  out: { type: 'text', value: 'DIR', about: 'the folder of the run (default runs/vae-PRESET)' },
} as const satisfies Flags

export const command = commandOf('examples/train-vae.ts')
export const program = 'train vae'

/** What stands on the command line. Throws UserError. */
export function trainingFlags(): Omit<Values<typeof flags>, 'out'> & { readonly out: string } {
  const given = readFlags({
    command,
    about: 'Trains the autoencoder between pictures and latents [LDM §3.1], and shows what is left of pictures.',
    flags,
    examples: [
      ['', 'a small one on smileys, of 4 × 8 × 8 latents'],
      ['--resume --steps 20000', 'go on with it, for longer'],
      ['--data my-pictures --size 64 --minutes 60', 'pictures of your own, for an hour'],
    ],
  })
  const { preset = 'tiny', out = `runs/vae-${preset}` } = given
  return { ...given, out }
}

/**
 * AdamW on `batch` pictures a step. For tiny, a rate at which pictures are recognisable within minutes; Stable Diffusion's
 * was trained at 4.5e-6 for each picture of a batch. [LDM]
 */
function trainingOf(preset: AutoencoderPresetName): Training {
  const rest = { warmUpSteps: 100, weightDecay: 0, emaDecay: 0.999 }
  if (preset === 'sd') return { ...rest, batch: 4, lr: 2e-5 }
  return { ...rest, batch: 16, lr: preset === 'tiny' ? 2e-3 : 5e-4 }
}

/**
 * The settings of a run: `started` are those of the run that is resumed, which may differ in the learning rate, clipping
 * and skipping. Throws UserError on a flag that contradicts them.
 */
export function settingsOf(given: ReturnType<typeof trainingFlags>, started: Settings | undefined): Settings {
  const asked = { ...given, klWeight: given['kl-weight'] }
  const { preset = 'tiny' } = given
  const base: Settings = started ?? {
    preset,
    size: 32,
    data: 'emoji:smileys',
    seed: 0,
    klWeight: 1e-3,
    ...unguarded,
    maxNorm: 1,
    ...trainingOf(preset),
  }
  return settled(base, asked, { out: given.out, resumed: started !== undefined })
}

/** The autoencoder for a run's settings and pictures. Throws UserError where pictures do not halve so often. */
export function modelOptions({ preset, size }: Settings, { channels }: ImageDataset): AutoencoderKLOptions {
  const options = autoencoderPresets[preset]
  const factor = 2 ** (options.blockOutChannels.length - 1)
  if (size % factor !== 0)
    throw new UserError(`--size: wanted a multiple of ${factor}, by which ${preset} shrinks, got ${size}`)
  return { ...options, inChannels: channels, outChannels: channels }
}
