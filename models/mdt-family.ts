/** The records of MDT and MDTv2, which differ in their blocks, in the weighting of the loss and in the mask ratio. */

import { AdamW, warmUpDecay } from '../nn/index.ts'
import { mdtCost, mdtV2Cost } from './cost.ts'
import { timestepGeneration } from './dit-family.ts'
import type { Family, FamilyGeneration, FamilyTraining, SettingsTable } from './family.ts'
import { timestepDiffusion } from './generate.ts'
import { type MaskedDiffusionTransformer, MDT, type MDTOptions, MDTv2 } from './mdt.ts'
import { mdtPasses, mdtTerms } from './mdt-loss.ts'
import { mdtPreset, mdtV2Preset, presetNames, trainingDefaults } from './presets.ts'
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
} as const satisfies SettingsTable

const training: FamilyTraining<MaskedDiffusionTransformer, typeof settings> = {
  settings,
  defaults: trainingDefaults,
  samples: preset => (preset === 'tiny' ? 96 : 24), // larger models take their time
  optimizer: (parameters, options) => new AdamW(parameters, options),
  decay: ({ emaDecay }) => warmUpDecay(emaDecay),
  lrStep: 'from 1',
  terms: mdtTerms,
  columns({ mse, vb, maskedMse, maskedVb }) {
    const [full, masked] = [mse + vb, maskedMse + maskedVb]
    return { loss: mse + vb + maskedMse + maskedVb, full, mse, vb, masked, maskedMse, maskedVb }
  },
  curves: ['full', 'masked'],
  passes: (model, part) => mdtPasses(model, timestepDiffusion(model.options), part),
  transfer: mdtRules,
}

const generation: FamilyGeneration<MaskedDiffusionTransformer> = {
  ...timestepGeneration,
  inpainting: {
    ...timestepGeneration.inpainting,
    maskedNetwork: (model, labels, mask) => (x, t) => model.forward(x, t, labels, mask),
  },
}

/** Number of heads: columns of a block's bias table. */
function headsOf(shapes: StateShapes, block: string): number {
  return shapes.of(`${block}.attn.rel_pos_bias.relative_position_bias_table`, 2)[1]
}

/** The record of MDT [MDT]. */
export const mdt: Family<MDT, MDTOptions, typeof settings> = {
  name: 'MDT',
  command: 'mdt',
  presets: presetNames,
  defaultPreset: 'S/2',
  options: (preset, pictures, { maskRatio = 0.3 } = {}) => ({ ...mdtPreset(preset, pictures), maskRatio }),
  make: (options, init) => new MDT(options, init),

  recognise(state, path, { classes }) {
    const shapes = new StateShapes(state, path)
    if (!shapes.has('sideblocks.0.attn.qkv.weight') || shapes.has('en_inblocks.0.attn.qkv.weight')) return null
    const sizes = shapes.body('blocks', shapes.count('blocks'))
    const preset = presetOf(sizes, presetNames, name => mdtPreset(name, publishedPictures))
    // N₂ and the ratio leave no trace in shapes; all official models have these.
    const rest = { numHeads: headsOf(shapes, 'blocks.0'), maskRatio: 0.3, decodeLayer: Math.min(2, sizes.depth) }
    const options = { ...sizes, ...shapes.labelsAndSigma(sizes, classes), ...rest }
    return { family: mdt, options, preset: preset?.name ?? null, state }
  },

  training,
  generation,
  cost: mdtCost,
}

/** The record of MDTv2. */
export const mdtV2: Family<MDTv2, MDTOptions, typeof settings> = {
  name: 'MDTv2',
  command: 'mdtv2',
  presets: presetNames,
  defaultPreset: 'S/2',
  options: (preset, pictures, { maskRatio = 0.3 } = {}) => ({ ...mdtV2Preset(preset, pictures), maskRatio }),
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

  training,
  generation,
  cost: mdtV2Cost,
}
