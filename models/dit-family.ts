/** DiT's record. */

import { mean, scope } from '../core/index.ts'
import { type Network, trainingLoss } from '../diffusion/index.ts'
import { dropLabels, type Module, optimizerOf, warmUpDecay } from '../nn/index.ts'
import { ditCost } from './cost.ts'
import { DiT, type TransformerOptions } from './dit.ts'
import { type Family, type FamilyGeneration, type SettingsTable, samplerNames } from './family.ts'
import { generateOverTimesteps, guidedChannels, type TimestepModel, timestepDiffusion } from './generate.ts'
import { ditPreset, gridIn, presetNames, samplesIn, tinyFor, trainingDefaults, weightingIn } from './presets.ts'
import { presetOf, publishedPictures, StateShapes } from './state-shapes.ts'
import { ditRules } from './transfer-rules.ts'

/** Generation that DiT and MDT have in common. */
export const timestepGeneration = {
  samplers: samplerNames,
  defaults: { sampler: 'ddim', steps: 25 },
  guidance: { channels: guidedChannels, power: true },
  generate: generateOverTimesteps,
  inpainting: {
    diffusion: model => timestepDiffusion(model.options),
    network: (model, labels) => (x, t) => model.forward(x, t, labels),
  },
} as const satisfies FamilyGeneration<Module & TimestepModel>

/** Settings of the loss over timesteps, in which DiT, MDT and MDTv2 differ. */
export const timestepLossSettings = {
  loss: {
    type: 'text',
    choices: ['hybrid', 'simple'],
    default: 'hybrid',
    help: 'the squared error and the bound that learns variances, or the squared error alone',
  },
  weighting: {
    type: 'text',
    choices: ['uniform', 'min-snr-5'],
    /** Weighting for a preset. */
    default: weightingIn,
    help: 'weight of the squared error by timestep',
  },
} as const satisfies SettingsTable

/** The same options for a model without variances, where `loss` leaves them out. */
export function withVariances<Options extends TransformerOptions>(options: Options, loss = 'hybrid'): Options {
  return loss === 'simple' ? { ...options, learnSigma: false } : options
}

/** The record of DiT [DiT]. */
export const dit: Family<DiT, TransformerOptions, typeof timestepLossSettings> = {
  name: 'DiT',
  command: 'dit',
  presets: presetNames,
  defaultPreset: tinyFor,
  options: (preset, pictures, { loss } = {}) => withVariances(ditPreset(preset, pictures), loss),
  make: (options, init) => new DiT(options, init),

  recognise(state, path, { heads, classes }) {
    const shapes = new StateShapes(state, path)
    const isMasked = shapes.has('mask_token') || shapes.has('sideblocks.0.attn.qkv.weight')
    if (!shapes.has('x_embedder.proj.weight') || isMasked) return null
    const sizes = shapes.body('blocks', shapes.count('blocks'))
    const preset = presetOf(sizes, presetNames, name => ditPreset(name, publishedPictures))
    const numHeads = shapes.heads(heads ?? preset?.options.numHeads, sizes.hiddenSize)
    const options = { ...sizes, ...shapes.labelsAndSigma(sizes, classes), numHeads }
    return { family: dit, options, preset: preset?.name ?? null, state }
  },

  training: {
    settings: timestepLossSettings,
    defaults: trainingDefaults,
    samples: samplesIn,
    grid: gridIn,
    optimizer: optimizerOf,
    decay: ({ emaDecay }) => warmUpDecay(emaDecay),
    lrStep: 'from 1',
    terms: ['mse', 'vb'],
    columns: terms => ({ loss: Object.values(terms).reduce((sum, term) => sum + term), ...terms }),
    curves: ['loss'],
    *passes(model, { images, labels, rng }, { weighting }) {
      const { numClasses, classDropoutProb = 0.1 } = model.options
      const [N] = images.shape
      const diffusion = timestepDiffusion(model.options)
      const t = rng.integersArray(0, diffusion.steps, N)
      const noise = rng.normal(images.shape, { dtype: images.dtype, backend: images.backend })
      const y = labels && dropLabels(labels, rng.uniformArray(N), classDropoutProb, numClasses)
      yield () =>
        scope(() => {
          const network: Network = (x, time) => model.forward(x, time, y)
          const { loss, mse, vb } = trainingLoss(diffusion, network, images, t, noise, { weighting })
          return { loss: mean(loss), terms: { mse: mean(mse).detach(), ...(vb && { vb: mean(vb).detach() }) } }
        })
    },
    transfer: ditRules,
  },
  generation: timestepGeneration,
  cost: ditCost,
}
