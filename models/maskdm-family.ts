/** MaskDM's record. Training has two stages: on masked pictures, then on whole ones. */

import { aNumber, anObject, check, oneOf } from '../core/arguments.ts'
import { mean, scope } from '../core/index.ts'
import { cropSize, logSnrTimesteps, type Masking, maskdmTimesteps, type Network, respace } from '../diffusion/index.ts'
import { UserError } from '../io/index.ts'
import { optimizerOf, powerDecay } from '../nn/index.ts'
import { maskDMCost } from './cost.ts'
import {
  type Family,
  type NoiseSchedule,
  type OwnSettings,
  type SettingsOf,
  type SettingsTable,
  type State,
  samplerNames,
} from './family.ts'
import { generateOverLevels, seedNoise } from './generate.ts'
import { extraTokens, type MaskDMOptions, MaskedUViT } from './maskdm.ts'
import { maskdmDiffusion, maskdmSteps, maskedDenoisingScoreMatching, sampleMaskDMInputs } from './maskdm-diffusion.ts'
import { maskdmOptimizer, maskdmPreset, maskdmPresets } from './maskdm-presets.ts'
import { maskDMNetwork } from './network-names.ts'
import { tinyFor } from './presets.ts'
import { gridSide, mlpRatioOf, StateShapes } from './state-shapes.ts'
import { maskDMRules } from './transfer-rules.ts'

const maskingOfPreset = (preset: string) => maskdmPreset(preset).masking

const ownSettings = {
  stage: {
    type: 'text',
    choices: ['pretrain', 'finetune'],
    operand: true,
    default: 'pretrain',
    help: 'the first stage or the second',
  },
  mask: {
    type: 'text',
    choices: ['patch', 'block', 'crop'],
    /** Mask of the preset. */
    default: preset => maskingOfPreset(preset)?.way ?? 'block',
    help: 'what pretrain hides',
  },
  maskRatio: {
    type: 'number',
    min: 0,
    max: 0.95,
    /** Value of the preset. */
    default: preset => {
      const masking = maskingOfPreset(preset)
      return masking !== null && 'ratio' in masking ? masking.ratio : 0.5
    },
    help: 'share of patches that pretrain hides',
  },
  maskSize: {
    type: 'integer',
    min: 1,
    /** Value of the preset. */
    default: preset => {
      const masking = maskingOfPreset(preset)
      return masking !== null && 'size' in masking ? masking.size : 2
    },
    help: 'side of a block, or of the square that a crop keeps, in patches (of a crop by its ratio)',
  },
  from: {
    type: 'text',
    value: 'PATH',
    help: 'finetune begins with this run, checkpoint or .safetensors file, or from scratch',
  },
} as const satisfies SettingsTable

type Settings = OwnSettings<typeof ownSettings>

/** The mask of a step: null in fine-tuning. `keptPatches` throws if it does not fit a grid. */
export function maskingOf(settings: Pick<Settings, 'stage' | 'mask' | 'maskRatio' | 'maskSize'>): Masking | null {
  check('maskingOf', 'settings', settings, anObject)
  const { stage, mask, maskRatio: ratio, maskSize: size } = settings
  check('maskingOf', 'stage', stage, oneOf(ownSettings.stage.choices))
  if (stage === 'finetune') return null
  check('maskingOf', 'mask', mask, oneOf(ownSettings.mask.choices))
  check('maskingOf', 'maskRatio', ratio, aNumber)
  check('maskingOf', 'maskSize', size, aNumber)
  const kinds = {
    patch: { way: 'patch', ratio },
    block: { way: 'block', ratio, size },
    crop: { way: 'crop', size },
  } as const
  return kinds[mask]
}

/** Rejects settings that the stage or the mask does not use, and sizes a crop by its ratio. */
function settle(
  settings: Settings,
  given: Partial<SettingsOf<typeof ownSettings>>,
  resumed: boolean,
  inputSize = settings.size,
): Settings {
  const { stage, mask, maskRatio, preset } = settings
  const unused =
    stage === 'pretrain'
      ? ([['from', 'from']] as const)
      : ([
          ['mask', 'mask'],
          ['mask-ratio', 'maskRatio'],
          ['mask-size', 'maskSize'],
        ] as const)
  for (const [flag, name] of unused)
    if (given[name] !== undefined) throw new UserError(`--${flag}: expected none in ${stage}, got ${given[name]}`)
  if (resumed || stage === 'finetune') return settings
  const { maskRatio: ratio, maskSize: side } = given
  if (mask === 'patch' && side !== undefined) throw new UserError(`--mask-size: expected none for patches, got ${side}`)
  if (mask !== 'crop') return settings
  if (side !== undefined) {
    if (ratio === undefined) return settings
    throw new UserError(`--mask-ratio: expected a crop's ratio or its --mask-size, got both`)
  }
  const { network, masking } = maskdmPreset(preset)
  if (masking?.way === 'crop' && ratio === undefined) return settings
  const patches = Math.floor(inputSize / network.patchSize)
  return { ...settings, maskSize: cropSize([patches, patches], maskRatio) }
}

const diffusions = { cosine: maskdmDiffusion({ schedule: 'cosine' }), linear: maskdmDiffusion({ schedule: 'linear' }) }

const presets = Object.keys(maskdmPresets)

/** The record of MaskDM [MaskDM]. */
export const maskDM: Family<MaskedUViT, MaskDMOptions, typeof ownSettings> = {
  name: 'MaskDM',
  command: 'maskdm',
  presets,
  defaultPreset: tinyFor,
  options: (preset, pictures) => ({ ...maskdmPreset(preset).network, ...pictures }),
  make: (options, init) => new MaskedUViT(options, init),

  recognise(checkpoint, path, { heads, preset: trained, schedule }) {
    const state = maskDMNetwork(checkpoint)
    if (state === null) return null
    const shapes = new StateShapes(state, path)
    const [hiddenSize, inChannels, patchSize] = shapes.of('encoder.patch_embed.proj.weight', 4)
    const numClasses = shapes.has('encoder.label_emb.weight') ? shapes.of('encoder.label_emb.weight', 2)[0] : 0
    const [, rows] = shapes.of('encoder.encoder_pos_embed', 3)
    const half = shapes.count('encoder.in_blocks')
    const sizes = { hiddenSize, patchSize, inputSize: gridSide(rows - extraTokens({ numClasses })) * patchSize }
    // Presets of an even depth have the same blocks as those of the next odd one.
    const alike = presets.filter(name => {
      const { network } = maskdmPresets[name]
      const isSize = (key: keyof typeof sizes) => network[key] === sizes[key]
      return half === network.depth >> 1 && (Object.keys(sizes) as (keyof typeof sizes)[]).every(isSize)
    })
    const known = alike.length === 0 ? undefined : maskdmPresets[alike[0]].network.numHeads
    const options = {
      ...sizes,
      inChannels,
      depth: 2 * half + 1,
      numHeads: shapes.heads(heads ?? known, hiddenSize),
      numClasses,
      mlpRatio: mlpRatioOf(shapes.of('encoder.mid_block.mlp.fc1.weight', 2)[0], hiddenSize),
      qkvBias: shapes.has('encoder.mid_block.attn.q_bias'),
      mlpTimeEmbed: shapes.has('encoder.time_embed.0.weight'),
    }
    const schedules = new Set(alike.map(name => maskdmPresets[name].schedule))
    return {
      family: maskDM,
      options,
      preset: alike[0] ?? null,
      state,
      schedule:
        schedule ??
        maskdmPresets[trained ?? '']?.schedule ??
        scheduleIn(checkpoint) ??
        (schedules.size === 1 ? [...schedules][0] : null),
    }
  },

  training: {
    settings: ownSettings,
    defaults(preset) {
      const { network, training } = maskdmPreset(preset)
      return { size: network.inputSize, ...training, weightDecay: maskdmOptimizer.weightDecay, labels: 'no' }
    },
    settle,
    samples: () => 48,
    optimizer: (parameters, settings) => optimizerOf(parameters, { ...settings, betas: maskdmOptimizer.betas }),
    decay: ({ emaDecay }) => powerDecay(emaDecay),
    lrStep: 'from 0',
    terms: ['loss'],
    columns: ({ loss }) => ({ loss }),
    curves: ['loss'],
    *passes(model, { images, labels, rng }, settings) {
      const diffusion = diffusions[maskdmPreset(settings.preset).schedule]
      const t = rng.integersArray(0, diffusion.steps, images.shape[0])
      const inputs = sampleMaskDMInputs(model, images, maskingOf(settings), rng)
      yield () =>
        scope(() => {
          const loss = mean(maskedDenoisingScoreMatching(model, diffusion, images, t, inputs, { labels }))
          return { loss, terms: { loss: loss.detach() } }
        })
    },
    transfer: maskDMRules,
  },

  generation: {
    samplers: samplerNames,
    defaults: { sampler: 'ddim', steps: 25 },
    guidance: null,
    schedule: preset => maskdmPreset(preset).schedule,
    // Ancestral sampling is that of the official code, DDIM with η = 1.
    *generate(model, { seeds, labels, sampler, steps, schedule = 'cosine' }) {
      const { inputSize: S, inChannels: C } = model.options
      const network: Network = (x, t) => model.forward(x, t, labels)
      const noise = seedNoise(seeds, [C, S, S])
      const d = diffusions[schedule]
      if (sampler === 'ddim' || sampler === 'ddpm') {
        using xT = noise()
        yield* maskdmSteps(d, network, xT, { steps, eta: sampler === 'ddim' ? 0 : 1, noise })
      } else {
        const kept = sampler === 'dpm-solver' ? logSnrTimesteps(d, steps) : maskdmTimesteps(d.steps, steps)
        yield* generateOverLevels(respace(d, kept), network, noise, sampler, true)
      }
    },
  },
  cost: maskDMCost,
}

/** The noise schedule by the β_t that official checkpoints hold beside the network. */
function scheduleIn(checkpoint: State): NoiseSchedule | undefined {
  const table = ['betas', 'ema_model.betas'].map(name => checkpoint.get(name)).find(found => found !== undefined)
  if (table === undefined) return undefined
  const last = Number(table.data[table.data.length - 1])
  return (['cosine', 'linear'] as const).find(schedule => Math.abs(diffusions[schedule].betas.at(-1)! - last) < 1e-4)
}
