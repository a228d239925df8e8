/** MaskDiT's record. */

import { aNumber, anObject, check, oneOf, orNull } from '../core/arguments.ts'
import { mean, scope } from '../core/index.ts'
import { optimizerOf, warmUpDecay } from '../nn/index.ts'
import { maskDiTCost } from './cost.ts'
import type { Family, SettingsOf, SettingsTable } from './family.ts'
import { generateByDenoiser, levelSamplers, seedNoise } from './generate.ts'
import { type DecoderOptions, type MaskDiTOptions, officialDecoder, PreconditionedMaskDiT } from './maskdit.ts'
import { type MaskRatio, maskDiTLoss, maskRatioSchedule, sampleMaskDiTInputs, unmaskingTuning } from './maskdit-loss.ts'
import { maskDiTPreset, maskDiTPresetNames, tinyFor, trainingDefaults } from './presets.ts'
import { presetOf, publishedPictures, StateShapes } from './state-shapes.ts'
import { maskDiTRules } from './transfer-rules.ts'

const settings = {
  maskRatio: { type: 'number', min: 0, max: 0.95, default: 0.5, help: 'share of tokens removed, at first' },
  loss: {
    type: 'text',
    choices: ['dsm+mae', 'dsm'],
    default: 'dsm+mae',
    help: 'denoising score matching, with or without the reconstruction of removed patches',
  },
  tune: {
    type: 'text',
    choices: ['zero', 'cosine'],
    help: 'unmasking tuning of a trained run: no mask, or less and less',
  },
  from: { type: 'text', value: 'DIR', help: 'the run to tune' },
} as const satisfies SettingsTable

const aTuning = orNull(oneOf(settings.tune.choices))

/** The mask ratio over a run: constant in training, zero or falling in tuning. */
export function maskRatioOf(chosen: Pick<SettingsOf<typeof settings>, 'maskRatio' | 'tune'>): MaskRatio {
  check('maskRatioOf', 'settings', chosen, anObject)
  const { maskRatio, tune } = chosen
  check('maskRatioOf', 'maskRatio', maskRatio, aNumber)
  check('maskRatioOf', 'tune', tune ?? null, aTuning)
  return tune == null ? maskRatioSchedule('constant', { ratio: maskRatio }) : unmaskingTuning(tune, maskRatio)
}

/** The record of MaskDiT [MaskDiT]. */
export const maskDiT: Family<PreconditionedMaskDiT, MaskDiTOptions, typeof settings> = {
  name: 'MaskDiT',
  command: 'maskdit',
  presets: maskDiTPresetNames,
  defaultPreset: tinyFor,
  options(preset, pictures, { loss } = {}) {
    const options = maskDiTPreset(preset, pictures)
    return loss === 'dsm' ? { ...options, maeLossCoef: 0 } : options
  },
  make: (options, init) => new PreconditionedMaskDiT(options, init),

  recognise(state, path, { heads, decoderHeads }) {
    const shapes = new StateShapes(state, path, 'model.')
    if (!shapes.has('x_embedder.proj.weight')) return null
    const sizes = shapes.body('blocks', shapes.count('blocks'))
    const preset = presetOf(sizes, maskDiTPresetNames, name => maskDiTPreset(name, publishedPictures))
    const table = 'y_embedder.embedding_table.weight'
    const options = {
      ...sizes,
      numHeads: shapes.heads(heads ?? preset?.options.numHeads, sizes.hiddenSize),
      numClasses: shapes.has(table) ? shapes.of(table, 2)[1] : 0,
      decoder: decoderOf(shapes, preset?.options.decoder, decoderHeads),
      maeLossCoef: shapes.has('mask_token') ? 0.1 : 0,
    }
    return { family: maskDiT, options, preset: preset?.name ?? null, state }
  },

  training: {
    settings,
    defaults: trainingDefaults,
    samples: () => 24,
    optimizer: optimizerOf,
    decay: ({ emaDecay }) => warmUpDecay(emaDecay),
    skipFrozen: true,
    lrStep: 'from 1',
    terms: ['loss', 'dsm'],
    columns: ({ loss, dsm }, settings, progress) => ({ loss, dsm, ratio: maskRatioOf(settings)(progress) }),
    curves: ['loss', 'dsm'],
    *passes(net, { images, labels, rng, progress }, settings) {
      const ratio = maskRatioOf(settings)(progress)
      yield () =>
        scope(() => {
          const terms = maskDiTLoss(net, images, sampleMaskDiTInputs(net, images, labels, ratio, rng))
          const loss = mean(terms.loss)
          return { loss, terms: { loss: loss.detach(), dsm: mean(terms.dsm).detach() } }
        })
    },
    transfer: maskDiTRules,
  },

  generation: {
    samplers: levelSamplers,
    defaults: { sampler: 'heun', steps: 18 },
    guidance: { channels: 'all', power: false },
    generate(net, { seeds, labels, sampler, steps, guidance }) {
      const { inputSize: S, inChannels: C } = net.model.options
      return generateByDenoiser(net.denoiser(labels, guidance?.scale), seedNoise(seeds, [C, S, S]), sampler, steps)
    },
  },
  cost: maskDiTCost,
}

/** Sizes of the decoder; null without one. Throws UserError where nothing tells its heads. */
function decoderOf(
  shapes: StateShapes,
  preset: DecoderOptions | null | undefined,
  told: number | undefined,
): DecoderOptions | null {
  if (!shapes.has('decoder_pos_embed')) return null
  const [, , hiddenSize] = shapes.of('decoder_pos_embed', 3)
  const known = [preset, officialDecoder].find(each => each?.hiddenSize === hiddenSize)?.numHeads
  const numHeads = shapes.heads(told ?? known, hiddenSize, '--decoder-heads')
  return { hiddenSize, depth: shapes.count('decoder_blocks'), numHeads }
}
