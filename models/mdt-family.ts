/** The records of MDT and MDTv2, which differ in their blocks, in the weighting of the loss and in the mask ratio. */

import { UserError } from '../io/index.ts'
import { optimizerOf, warmUpDecay } from '../nn/index.ts'
import { mdtCost, mdtV2Cost } from './cost.ts'
import { timestepGeneration, timestepLossSettings, withVariances } from './dit-family.ts'
import type { Family, FamilyGeneration, FamilyTraining, SettingsTable } from './family.ts'
import { timestepDiffusion } from './generate.ts'
import { type MaskedDiffusionTransformer, MDT, type MDTOptions, MDTv2 } from './mdt.ts'
import {
  AblatedMDT,
  ablatedPasses,
  type MDTAblation,
  type MDTAblationName,
  mdtAblationNames,
  mdtAblations,
} from './mdt-ablations.ts'
import { mdtPasses, mdtTerms } from './mdt-loss.ts'
import { gridIn, mdtPreset, mdtV2Preset, presetNames, samplesIn, tinyFor, trainingDefaults } from './presets.ts'
import { presetOf, publishedPictures, StateShapes } from './state-shapes.ts'
import { mdtRules } from './transfer-rules.ts'

const settings = {
  maskRatio: {
    type: 'number',
    min: 0,
    max: 0.95,
    default: 0.3,
    help: 'share of tokens removed in the masked pass',
  },
  ...timestepLossSettings,
} as const satisfies SettingsTable

const mdtSettings = {
  ...settings,
  ablation: {
    type: 'text',
    choices: mdtAblationNames,
    help: "a row of the paper's tables 3 to 5 in place of its model",
  },
} as const satisfies SettingsTable

const v2Settings = {
  ...settings,
  weighting: { ...settings.weighting, default: 'min-snr-5' },
} as const satisfies SettingsTable

const training: FamilyTraining<MaskedDiffusionTransformer, typeof settings> = {
  settings,
  defaults: trainingDefaults,
  samples: samplesIn,
  grid: gridIn,
  optimizer: optimizerOf,
  decay: ({ emaDecay }) => warmUpDecay(emaDecay),
  lrStep: 'from 1',
  terms: mdtTerms,
  columns: mdtColumns,
  curves: ['full', 'masked'],
  passes: (model, part, options) => mdtPasses(model, timestepDiffusion(model.options), part, options),
  transfer: mdtRules,
}

const generation: FamilyGeneration<MaskedDiffusionTransformer> = {
  ...timestepGeneration,
  inpainting: {
    ...timestepGeneration.inpainting,
    maskedNetwork: (model, labels, mask) => (x, t) => model.forward(x, t, labels, mask),
  },
}

/**
 * The loss, and of each pass that was made its own and that one's terms. The bound's are absent in a model without
 * variances, those of a pass in an ablation that leaves it out.
 */
function mdtColumns({
  mse,
  vb,
  maskedMse,
  maskedVb,
}: Readonly<Record<string, number | undefined>>): Record<string, number> {
  const full = mse !== undefined && { full: mse + (vb ?? 0), mse, ...(vb !== undefined && { vb }) }
  const masked = maskedMse !== undefined && {
    masked: maskedMse + (maskedVb ?? 0),
    maskedMse,
    ...(maskedVb !== undefined && { maskedVb }),
  }
  const loss = [mse, vb, maskedMse, maskedVb].reduce<number>((sum, term) => sum + (term ?? 0), 0)
  return { loss, ...full, ...masked }
}

/** Number of heads: columns of a block's bias table. */
function headsOf(shapes: StateShapes, block: string): number {
  return shapes.of(`${block}.attn.rel_pos_bias.relative_position_bias_table`, 2)[1]
}

/** Options of an MDT, and the row of the paper's tables that it is. */
export interface AblatedMDTOptions extends MDTOptions {
  /** Absent for the paper's model. */
  readonly ablation?: MDTAblationName
}

/** The record of MDT [MDT]. */
export const mdt: Family<MDT, AblatedMDTOptions, typeof mdtSettings> = {
  name: 'MDT',
  command: 'mdt',
  presets: presetNames,
  defaultPreset: tinyFor,
  options(preset, pictures, { maskRatio = 0.3, loss, ablation } = {}) {
    const options = withVariances({ ...mdtPreset(preset, pictures), maskRatio }, loss)
    return ablation === undefined ? options : { ...options, ablation }
  },
  make({ ablation, ...options }, init) {
    return ablation === undefined ? new MDT(options, init) : new AblatedMDT(options, mdtAblations[ablation], init)
  },

  recognise(state, path, { classes, heads, ablation }) {
    const shapes = new StateShapes(state, path)
    const row = mdtAblationNames.find(name => name === ablation)
    if (!shapes.has(row === undefined ? 'sideblocks.0.attn.qkv.weight' : 'mask_token')) return null
    if (!shapes.has('blocks.0.attn.qkv.weight')) return null
    const sizes = shapes.body('blocks', shapes.count('blocks'))
    const preset = presetOf(sizes, presetNames, name => mdtPreset(name, publishedPictures))
    const withoutBias = row !== undefined && 'relativePosBias' in mdtAblations[row]
    const numHeads = withoutBias
      ? shapes.heads(heads ?? preset?.options.numHeads, sizes.hiddenSize)
      : headsOf(shapes, 'blocks.0')
    // N₂ and the ratio leave no trace in shapes; all official models have these.
    const rest = { numHeads, maskRatio: 0.3, decodeLayer: Math.min(2, sizes.depth) }
    const options = { ...sizes, ...shapes.labelsAndSigma(sizes, classes), ...rest, ...(row && { ablation: row }) }
    return { family: mdt, options, preset: preset?.name ?? null, state }
  },

  training: {
    ...training,
    settings: mdtSettings,
    settle(options, given) {
      const { ablation } = options
      const row: MDTAblation = ablation === undefined ? {} : mdtAblations[ablation]
      if (row.maskingRatio === undefined) return options
      if (given.maskRatio === undefined || given.maskRatio === row.maskingRatio)
        return { ...options, maskRatio: row.maskingRatio }
      throw new UserError(`--mask-ratio: expected none beside --ablation ${ablation}, got ${given.maskRatio}`)
    },
    passes(model, part, options) {
      const diffusion = timestepDiffusion(model.options)
      if (model instanceof AblatedMDT) return ablatedPasses(model, diffusion, part, options)
      return mdtPasses(model, diffusion, part, options)
    },
  },
  generation,
  cost: mdtCost,
}

/** The record of MDTv2. */
export const mdtV2: Family<MDTv2, MDTOptions, typeof v2Settings> = {
  name: 'MDTv2',
  command: 'mdtv2',
  presets: presetNames,
  defaultPreset: tinyFor,
  options: (preset, pictures, { maskRatio = 0.3, loss } = {}) =>
    withVariances({ ...mdtV2Preset(preset, pictures), maskRatio }, loss),
  make: (options, init) => new MDTv2(options, init),

  recognise(state, path, { classes }) {
    const shapes = new StateShapes(state, path)
    if (!shapes.has('en_inblocks.0.attn.qkv.weight')) return null
    const decodeLayer = shapes.count('de_blocks')
    const depth = 2 * shapes.count('en_inblocks') + decodeLayer
    const sizes = shapes.body('en_inblocks', depth)
    const preset = presetOf(sizes, presetNames, name => mdtV2Preset(name, publishedPictures))
    const rest = { numHeads: headsOf(shapes, 'en_inblocks.0'), maskRatio: 0.3, decodeLayer }
    const options = { ...sizes, ...shapes.labelsAndSigma(sizes, classes), ...rest }
    return { family: mdtV2, options, preset: preset?.name ?? null, state }
  },

  training: { ...training, settings: v2Settings },
  generation,
  cost: mdtV2Cost,
}
