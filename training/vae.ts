/**
 * The training record of the autoencoder between pictures and latents [LDM §3.1], and its program. Latents of a trained
 * autoencoder are what transformers train on next (`demask encode-latents`, `demask train mdt --latents`). Needs Node.
 */

import { join } from 'node:path'
import { scope } from '../core/index.ts'
import type { ImageDataset } from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import type { SettingsTable, Trainable, TrainingDefaults } from '../models/family.ts'
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  type AutoencoderPresetName,
  autoencoderLoss,
  autoencoderPresetNames,
  autoencoderPresets,
} from '../models/index.ts'
import { optimizerOf, warmUpDecay } from '../nn/index.ts'
import type { TrainingProgram } from './program.ts'
import { folderOf } from './settings.ts'
import { scalingFactorOf, writeReconstructions } from './vae-pictures.ts'
import { saveVae, vaeFile } from './vae-weights.ts'

const ownSettings = {
  size: { type: 'integer', min: 1, max: 1024, default: 32, help: 'height and width of the pictures' },
  klWeight: {
    type: 'number',
    min: 0,
    default: 1e-3,
    help: 'weight of the KL term, relative to a reconstruction loss of 1',
  },
} as const satisfies SettingsTable

/**
 * For tiny, a rate at which pictures are recognisable within minutes; Stable Diffusion's was trained at 4.5e-6 for each
 * picture of a batch. [LDM]
 */
function defaultsOf(preset: string): TrainingDefaults {
  const rest = {
    size: 32,
    warmUpSteps: 100,
    weightDecay: 0,
    emaDecay: 0.999,
    maxNorm: 1,
    labels: 'no',
    flip: true,
  } as const
  if (preset === 'sd') return { ...rest, batch: 4, lr: 2e-5 }
  return { ...rest, batch: 16, lr: preset === 'tiny' ? 2e-3 : 5e-4 }
}

/** Record of the autoencoder for training. */
export const autoencoder: Trainable<AutoencoderKL, AutoencoderKLOptions, typeof ownSettings> = {
  name: 'AutoencoderKL',
  command: 'vae',
  presets: autoencoderPresetNames,
  defaultPreset: () => 'tiny',
  without: ['labels', 'latents', 'classFrom', 'init'],
  options(preset, { inputSize, inChannels: C }) {
    const options = autoencoderPresets[preset as AutoencoderPresetName]
    const factor = 2 ** (options.blockOutChannels.length - 1)
    if (inputSize % factor !== 0)
      throw new UserError(`--size: expected a multiple of ${factor}, the downsampling of ${preset}, got ${inputSize}`)
    return { ...options, inChannels: C, outChannels: C }
  },
  make: (options, init) => new AutoencoderKL(options, init),
  training: {
    settings: ownSettings,
    defaults: defaultsOf,
    samples: () => 48,
    optimizer: optimizerOf,
    decay: ({ emaDecay }) => warmUpDecay(emaDecay),
    lrStep: 'from 1',
    terms: ['loss', 'error', 'kl'],
    columns: ({ loss, error, kl }) => ({ loss, error, kl }),
    curves: ['error'],
    *passes(model, { images, rng }, { klWeight }) {
      yield () =>
        scope(() => {
          const { loss, error, kl } = autoencoderLoss(model, images, klWeight, rng)
          return { loss, terms: { loss: loss.detach(), error: error.detach(), kl: kl.detach() } }
        })
    },
  },
}

/** Trains the autoencoder, and shows pictures beside their reconstructions. */
export const vaeProgram: TrainingProgram<AutoencoderKL, AutoencoderKLOptions, typeof ownSettings> = {
  family: autoencoder,
  about: 'Trains the autoencoder between pictures and latents [LDM §3.1], and shows what is left of pictures.',
  examples: [
    ['', 'a small one on smileys, of 4 × 8 × 8 latents'],
    ['--resume --steps 20000', 'continue it, for longer'],
    ['--data my-pictures --size 64 --minutes 60', 'pictures of your own, for an hour'],
  ],
  folder: given => folderOf(autoencoder, given.preset),
  title: ({ preset }) => `AutoencoderKL-${preset}`,
  notes({ latentChannels, blockOutChannels }, { size }) {
    const side = size / 2 ** (blockOutChannels.length - 1)
    return [`${latentChannels} × ${side} × ${side} latents a picture`]
  },
  readme: {
    pictures: 'pictures, each with its reconstruction by the averaged weights to the right',
    also: [[vaeFile, 'the averaged weights of the last checkpoint, with their options as metadata']],
  },
  async show(path, run, { folder, data, average, settings, samples }) {
    const pictures = data as ImageDataset // it has no setting for latents
    await saveVae(join(folder, vaeFile), average, await scalingFactorOf(average, pictures), settings.size)
    const ratio = await writeReconstructions(path, average, pictures, samples, () => run.isDrawingOver())
    if (ratio !== null) run.print(`step ${run.step}: reconstructions at ${ratio.toFixed(1)} dB`)
  },
}
