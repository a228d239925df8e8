/** The flags of `demask sample`, and the request that follows from them and the model. Needs Node. */

import { backendNames } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { type GenerationRequest, type Recognised, samplerNames } from '../models/index.ts'
import { demask } from './command.ts'
import { type Flags, readFlags, type Values } from './flags.ts'
import { labelsOf } from './label.ts'

const flags = {
  from: {
    type: 'text',
    value: 'PATH',
    about: 'a run, a checkpoint, a .safetensors or .pt file (default in a clone of demask: the model that it has)',
  },
  weights: { type: 'text', choices: ['ema', 'model'], default: 'ema', about: 'averaged weights, or the last ones' },
  part: {
    type: 'text',
    value: 'KEYS',
    about: 'the state dict in a .pt file that has several, as demask info lists them',
  },
  heads: { type: 'integer', min: 1, about: 'attention heads, for sizes that no preset has' },
  'decoder-heads': { type: 'integer', min: 1, about: "those of MaskDiT's decoder" },
  classes: {
    type: 'integer',
    min: 1,
    about: "how many classes a DiT or MDT has (default all rows of its label table but the last, which is 'no class')",
  },
  schedule: {
    type: 'text',
    choices: ['cosine', 'linear'],
    about: 'that MaskDM was trained with (default by the file or its sizes)',
  },
  vae: { type: 'text', value: 'FILE', about: "the autoencoder that makes pictures of latents (default the run's)" },
  count: { type: 'integer', min: 1, about: 'pictures (default 24, or as many as seeds are listed)' },
  seed: {
    type: 'text',
    default: '0',
    about: 'seed of the first picture, the next one has the next seed; or a list, 3,14,15',
  },
  class: {
    type: 'text',
    many: true,
    about: 'names or numbers of classes, a,b,c, in turn, or #3 for an index (default all)',
  },
  guidance: { type: 'number', min: 0, default: 1, about: 'classifier-free guidance: 1 is none' },
  power: { type: 'number', min: 0, about: "MDT's power-cosine guidance, with this power (default constant)" },
  sampler: { type: 'text', choices: samplerNames, about: 'the sampler (default ddim; heun for MaskDiT)' },
  steps: { type: 'integer', min: 1, max: 1000, about: 'its steps (default 25; MaskDiT 18)' },
  batch: { type: 'integer', min: 1, about: 'pictures that are drawn at a time (default by the size of the model)' },
  out: {
    type: 'text',
    value: 'PATH',
    default: 'samples.png',
    about: 'a grid (.png), an .npz as ADM writes, or a folder',
  },
  ranks: { type: 'integer', min: 1, about: 'start this many processes over MPI, which draw batches in turn' },
  backend: { type: 'text', choices: backendNames, about: 'where tensors live (default wasm)' },
  threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
} as const satisfies Flags

export type SampleFlags = Values<typeof flags>

export const command = `${demask} sample`

/** Reads the words after `demask sample`. Throws UserError. */
export function sampleFlags(words: readonly string[]): SampleFlags {
  const program = {
    command,
    about: 'Draws pictures with a trained DiT, MDT, MaskDiT or MaskDM. The same seed gives the same picture.',
    flags,
    examples: [
      ['', 'pictures of a model that was trained already, in a clone'],
      ['--from runs/mdt-tiny --count 96 --out faces.png', 'a sheet of pictures'],
      ['--from runs/mdt-s-2 --class face-smiling,cat-face --guidance 3 --seed 7', 'two classes, more typical'],
      ['--from runs/mdt-tiny --sampler dpm-solver --steps 12', 'a faster sampler'],
      [
        '--from runs/mdt-tiny --count 10000 --out samples.npz',
        "as evaluation programs take them; a folder's name works too",
      ],
      ['--from DiT-XL-2-256x256.pt --class 207 --guidance 4 --vae sd-vae-ft-mse.safetensors', 'published weights'],
    ],
  } as const
  return readFlags(program, words)
}

/** A request for all pictures, and how many to generate at a time. */
export interface Plan extends GenerationRequest {
  readonly batch: number
}

/**
 * Plans what the flags ask of a model. `classes` are the names that are known, `latent` is true if the model generates
 * latents. Throws UserError on flags that do not fit it.
 */
export function planOf(given: SampleFlags, found: Recognised, classes: readonly string[], latent: boolean): Plan {
  const { family, options, schedule } = found
  const { samplers, defaults, guidance } = family.generation
  const { numClasses, inputSize, patchSize, hiddenSize } = options
  const seeds = seedsOf(given)
  const chosen = given.class.flatMap(text => labelsOf(text, numClasses, classes))
  const labels =
    numClasses === 0 ? null : seeds.map((_, i) => (chosen.length > 0 ? chosen[i % chosen.length] : i % numClasses))
  const { sampler = defaults.sampler, steps = defaults.steps } = given
  if (!samplers.includes(sampler))
    throw new UserError(`--sampler: expected one of ${samplers.join(', ')} for a ${family.name}, got ${sampler}`)
  const guided = given.guidance !== 1
  if (guided && (numClasses === 0 || guidance === null))
    throw new UserError(
      `--guidance: expected a model that is guided by classes, got a ${family.name} with ${numClasses === 0 ? 'none' : numClasses}`,
    )
  if (guided && 'classDropoutProb' in options && options.classDropoutProb === 0)
    throw new UserError(`--guidance: expected a model with a row for 'no class', got a ${family.name} without`)
  if (given.power !== undefined && !guided) throw new UserError('--power: expected with --guidance, got it alone')
  if (given.power !== undefined && guidance?.power === false)
    throw new UserError(`--power: expected a model of timesteps, got a ${family.name}`)
  // Pictures whose activations take about 256 MiB, guided ones twice.
  const tokens = (inputSize / patchSize) ** 2
  const fits = Math.floor(2 ** 28 / (tokens * hiddenSize * 4 * 12 * (guided ? 2 : 1)))
  return {
    seeds,
    labels,
    sampler,
    steps,
    guidance: guided ? { scale: given.guidance, power: given.power } : undefined,
    clip: !latent,
    schedule: schedule ?? undefined,
    batch: given.batch ?? Math.min(Math.max(fits, 1), 48),
  }
}

function seedsOf({ seed, count }: SampleFlags): readonly number[] {
  const numbers = seed.split(',').map(text => (/^\s*\d+\s*$/.test(text) ? Number(text) : Number.NaN))
  if (!numbers.every(number => Number.isSafeInteger(number)))
    throw new UserError(`--seed: expected a whole number, or some with commas between, got '${seed}'`)
  if (numbers.length === 1) return Array.from({ length: count ?? 24 }, (_, i) => numbers[0] + i)
  if (count !== undefined && count !== numbers.length)
    throw new UserError(`--count: expected ${numbers.length}, as many as seeds, or none, got ${count}`)
  return numbers
}
