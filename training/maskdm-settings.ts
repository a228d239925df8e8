/**
 * The command line of train-maskdm.ts, `pretrain` or `finetune` and flags, and the settings that follow from it, the preset
 * and the run that is resumed. Needs Node.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { commandOf, type Flags, readFlags, type Values } from '../cli/flags.ts'
import { cropSize, keptPatches, type Masking } from '../diffusion/index.ts'
import { readSafetensors } from '../io/safetensors-node.ts'
import { UserError } from '../io/user-error.ts'
import { type MaskDMOptions, type MaskDMTraining, maskdmPreset, maskdmPresets } from '../models/index.ts'
import type { HostState } from '../nn/index.ts'
import { latestCheckpoint, type RunDescribed, type StepGuardOptions, unguarded } from './index.ts'
import { runFlags, settled } from './run-settings.ts'

export type Stage = 'pretrain' | 'finetune'

/** All that decides what a run computes: kept in its checkpoints. */
export interface Settings extends MaskDMTraining, StepGuardOptions {
  readonly stage: Stage
  readonly preset: string
  readonly size: number
  readonly data: string
  readonly seed: number
  /** What pre-training hides; `maskSize` is the side of a block, or of what a crop keeps, in patches. */
  readonly mask: Masking['way']
  readonly maskRatio: number
  readonly maskSize: number
  /** What fine-tuning begins with: a run, a checkpoint, a file of weights, or `scratch`. */
  readonly from: string
}

/** What a checkpoint says of its run, so that it can be read without it. */
export interface Described extends RunDescribed {
  readonly settings: Settings
  readonly model: MaskDMOptions
}

const flags = {
  preset: { type: 'text', choices: Object.keys(maskdmPresets), about: 'the model (default tiny)' },
  ...runFlags,
  size: { ...runFlags.size, about: 'height and width of the pictures (default by preset)' },
  mask: { type: 'text', choices: ['patch', 'block', 'crop'], about: 'what pretrain hides (default by preset)' },
  'mask-ratio': {
    type: 'number',
    min: 0,
    max: 0.95,
    about: 'share of patches that pretrain hides (default by preset)',
  },
  'mask-size': {
    type: 'integer',
    min: 1,
    about:
      'side of a block, or of the square that a crop keeps, in patches (default by preset, of a crop by its ratio)',
  },
  from: {
    type: 'text',
    value: 'PATH',
    about:
      'finetune begins with this run, checkpoint or .safetensors file, or from scratch (default what pretrain left)',
  },
  out: { type: 'text', value: 'DIR', about: 'the folder of the run (default runs/maskdm-PRESET-STAGE)' },
} as const satisfies Flags

export const command = commandOf('examples/train-maskdm.ts')
export const program = 'train maskdm'

type Given = Omit<Values<typeof flags>, 'out'> & { readonly stage: Stage; readonly out: string }

/** What stands on the command line. Throws UserError. */
export function commandLine(): Given {
  const given = readFlags({
    command,
    about:
      'Trains MaskDM on pictures in two stages: the first, on masked ones, is cheap; the second goes on with whole ones.',
    operands: { stage: { about: 'the first stage or the second', choices: ['pretrain', 'finetune'] } },
    flags,
    examples: [
      ['pretrain', 'the first stage, on smileys'],
      ['finetune', 'the second, which begins with what the first has learnt'],
      ['pretrain --mask-ratio 0.9', 'learn from a tenth of every picture'],
      ['finetune --from runs/maskdm-tiny-pretrain --data my-pictures --size 32', 'other pictures, larger ones'],
    ],
  })
  const { preset = 'tiny', stage, out = `runs/maskdm-${preset.replaceAll('/', '-')}-${stage}` } = given
  return { ...given, out }
}

/**
 * The settings of a run: `started` are those of the run that is resumed. Throws UserError on a flag that contradicts them,
 * and on one that the stage has no use for.
 */
export function settingsOf(given: Given, started: Settings | undefined): Settings {
  const useless = given.stage === 'pretrain' ? (['from'] as const) : (['mask', 'mask-ratio', 'mask-size'] as const)
  for (const name of useless)
    if (given[name] !== undefined)
      throw new UserError(`--${name}: ${given.stage} has no use for it, got ${given[name]}`)
  if (started !== undefined && started.stage !== given.stage)
    throw new UserError(`STAGE: the run in ${given.out} has ${started.stage}, got ${given.stage}`)
  const asked = { ...given, maskRatio: given['mask-ratio'], maskSize: given['mask-size'] }
  const { preset = 'tiny' } = asked
  const { network, masking, training } = maskdmPreset(preset)
  const base: Settings = started ?? {
    stage: given.stage,
    preset,
    size: network.inputSize,
    data: 'emoji:smileys',
    seed: 0,
    mask: masking?.way ?? 'block',
    maskRatio: masking !== null && 'ratio' in masking ? masking.ratio : 0.5,
    maskSize: masking !== null && 'size' in masking ? masking.size : 2,
    from: given.stage === 'pretrain' ? 'scratch' : `runs/maskdm-${preset.replaceAll('/', '-')}-pretrain`,
    ...unguarded,
    ...training,
  }
  const settings = settled(base, asked, { out: given.out, resumed: started !== undefined })
  return started === undefined && given.stage === 'pretrain'
    ? { ...settings, ...maskSizeOf(given, settings) }
    : settings
}

/** A crop's side, where neither flag nor preset gives it. Throws UserError on a flag that the mask has no use for. */
function maskSizeOf(given: Given, { mask, maskRatio, preset, size }: Settings): Partial<Settings> {
  const { 'mask-ratio': ratio, 'mask-size': side } = given
  if (mask === 'patch' && side !== undefined) throw new UserError(`--mask-size: patches have size 1, got ${side}`)
  if (mask !== 'crop' || side !== undefined) {
    if (mask === 'crop' && ratio !== undefined)
      throw new UserError(
        `--mask-ratio: of a crop it says the size: wanted one of the two, got --mask-size ${side} too`,
      )
    return {}
  }
  const { network, masking } = maskdmPreset(preset)
  if (masking?.way === 'crop' && ratio === undefined) return {}
  const patches = Math.floor(size / network.patchSize)
  return { maskSize: cropSize([patches, patches], maskRatio) }
}

/** The network for a run's settings. Throws UserError where patches do not divide the pictures. */
export function modelOptions({ preset, size }: Settings): MaskDMOptions {
  const { network } = maskdmPreset(preset)
  if (size % network.patchSize !== 0)
    throw new UserError(`--size: wanted a multiple of ${preset}'s patch size, ${network.patchSize}, got ${size}`)
  return { ...network, inputSize: size }
}

/** What a step hides of a grid of side·side patches: nothing in fine-tuning. Throws RangeError where it does not fit. */
export function maskingOf({ stage, mask, maskRatio: ratio, maskSize: size }: Settings, side: number): Masking | null {
  if (stage === 'finetune') return null
  const grid = [side, side] as const
  const ways = {
    patch: { way: 'patch', ratio },
    block: { way: 'block', ratio, size },
    crop: { way: 'crop', size },
  } as const
  keptPatches(ways[mask], grid) // says what does not fit before a run begins
  return ways[mask]
}

/**
 * The weights that fine-tuning begins with, those of the last step as in the official code; null from scratch. Throws
 * UserError.
 */
export function pretrained({ from }: Settings): ReadonlyMap<string, HostState> | null {
  if (from === 'scratch') return null
  const folder = statSync(from, { throwIfNoEntry: false })?.isDirectory() === true
  const path = folder ? join(latestCheckpoint(from)?.path ?? from, 'model.safetensors') : from
  if (!existsSync(path)) throw new UserError(`--from: wanted a run, a checkpoint or a file of weights, got ${from}`)
  return readSafetensors(path).tensors
}
