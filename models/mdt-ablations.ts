/**
 * The MDT paper's ablations [MDT §4.3, tables 3, 4, 5]: what each row changes in the model or in what it is trained on,
 * as one option in the paper's words. mdt.ts has no code for them. If the paper gives no more than a word, the option's
 * docstring says how it is read here. Parameters that an option keeps have the same name and initial value, because
 * parts are removed from, or added to, the finished model. Read mdt.ts and mdt-loss.ts first.
 */

import { aBoolean, aNumber, aString, check, checkOptions, instanceOf, oneOf } from '../core/arguments.ts'
import {
  add,
  broadcastTo,
  concat,
  div,
  gatherRows,
  mean,
  patchify,
  reshape,
  sum,
  type Tensor,
  where,
  zeros,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { callNetwork, type GaussianDiffusion, qSample } from '../diffusion/gaussian.ts'
import { type Diffused, hybridLoss, type LossOptions, type LossTerms } from '../diffusion/losses.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import { frozen, type Init, type Module, ModuleList } from '../nn/index.ts'
import { checkTransformer, mdtKinds } from './arguments.ts'
import type { LossPass, Part } from './family.ts'
import { MDT, MDTBlock, type MDTOptions } from './mdt.ts'
import {
  checkPart,
  checkStep,
  lossOf,
  type MDTInputs,
  optionsOf,
  type PassInputs,
  passTerms,
  sampleMDTInputs,
} from './mdt-loss.ts'

/** One option for each row; the defaults are the paper's model. */
export interface MDTAblation {
  /** Share of tokens removed, in [0, 1): 0.1 … 0.8. Default `maskRatio` of the model's options. [MDT table 3] */
  readonly maskingRatio?: number
  /** Blocks behind the side-interpolator: Last0 … Last6. Default `decodeLayer` of the model's options. [MDT table 4] */
  readonly decoderPosition?: `Last${number}`
  /**
   * false: a symmetric structure, as in MaskGIT. The encoder gets all tokens, the mask token in place of the removed
   * ones, and computes as without a mask; there is no side-interpolator. [MDT table 5a]
   */
  readonly asymmetricStructure?: boolean
  /** false: no block predicts the removed tokens, the decoder gets q, with mask tokens and positions. [MDT table 5b] */
  readonly sideInterpolator?: boolean
  /** false: k̂ replaces kept tokens too. [MDT table 5c] */
  readonly maskedShortcut?: boolean
  /** Which of the two passes are trained on. The paper then takes more steps, for the same cost. [MDT table 5d] */
  readonly latentType?: 'full+masked' | 'full' | 'masked'
  /** Which tokens' loss the masked pass minimises; the full pass has no removed ones, and keeps all. [MDT table 5e] */
  readonly supervisedParts?: 'all' | 'masked'
  /** Blocks in the side-interpolator: 1, 2, 3. [MDT table 5f] */
  readonly interpolatorBlocks?: number
  /** false: no position embedding in the side-interpolator, nor where it is replaced by that alone. [MDT table 5g] */
  readonly interpolatorPosEmbed?: boolean
  /** false: both position embeddings stay the sinusoids that they begin as. [MDT table 5h] */
  readonly learnablePos?: boolean
  /** false: attention without a bias, in all blocks. [MDT table 5i] */
  readonly relativePosBias?: boolean
}

const ablationKinds = {
  maskingRatio: aNumber,
  decoderPosition: aString,
  asymmetricStructure: aBoolean,
  sideInterpolator: aBoolean,
  maskedShortcut: aBoolean,
  latentType: oneOf(['full+masked', 'full', 'masked']),
  supervisedParts: oneOf(['all', 'masked']),
  interpolatorBlocks: aNumber,
  interpolatorPosEmbed: aBoolean,
  learnablePos: aBoolean,
  relativePosBias: aBoolean,
}

const maskingRatios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] as const
const decoderPositions = [0, 1, 2, 4, 6] as const
type RatioName = `masking-ratio-${(typeof maskingRatios)[number]}`
type PositionName = `decoder-last${(typeof decoderPositions)[number]}`

const named = <Name extends string>(rows: readonly (readonly [Name, MDTAblation])[]) =>
  Object.fromEntries(rows) as Readonly<Record<Name, MDTAblation>>

/** Every row of the paper's tables 3, 4 and 5 by name, without rows that repeat the paper's model. */
export const mdtAblations = {
  ...named(maskingRatios.map(ratio => [`masking-ratio-${ratio}` as RatioName, { maskingRatio: ratio }] as const)),
  ...named(decoderPositions.map(N => [`decoder-last${N}` as PositionName, { decoderPosition: `Last${N}` }] as const)),
  symmetric: { asymmetricStructure: false },
  'no-side-interpolator': { sideInterpolator: false },
  'no-masked-shortcut': { maskedShortcut: false },
  'full-latent': { latentType: 'full' },
  'masked-latent': { latentType: 'masked' },
  'supervise-masked': { supervisedParts: 'masked' },
  'interpolator-blocks-2': { interpolatorBlocks: 2 },
  'interpolator-blocks-3': { interpolatorBlocks: 3 },
  'no-interpolator-pos': { interpolatorPosEmbed: false },
  'fixed-pos': { learnablePos: false },
  'no-relative-bias': { relativePosBias: false },
} as const satisfies Readonly<Record<string, MDTAblation>>

/** Name of a row. */
export type MDTAblationName = keyof typeof mdtAblations

/** All names, in the order of the tables. */
export const mdtAblationNames = Object.keys(mdtAblations) as readonly MDTAblationName[]

/** The paper's MDT with an ablation. Its loss is `ablatedLoss`. */
export class AblatedMDT extends MDT {
  readonly ablation: Required<MDTAblation>

  /** Throws RangeError on sizes that do not fit, and on rows that contradict each other. */
  constructor(options: MDTOptions, ablation: MDTAblation, init: Init) {
    checkTransformer('AblatedMDT', options, mdtKinds, init)
    checkOptions('AblatedMDT', ablation, ablationKinds)
    const chosen = resolved(options, ablation)
    const decodeLayer = Number(chosen.decoderPosition.slice('Last'.length))
    // MDT itself wants a decoder; where it begins is no matter while the model is made.
    super({ ...options, maskRatio: chosen.maskingRatio, decodeLayer: Math.max(decodeLayer, 1) }, init)
    this.ablation = chosen
    Object.assign(this, { options: { ...this.options, decodeLayer } })

    const count = chosen.asymmetricStructure && chosen.sideInterpolator ? chosen.interpolatorBlocks : 0
    const kept = this.sideblocks.items.slice(0, count)
    for (const block of this.sideblocks.items.slice(count)) block.dispose()
    const more = Array.from({ length: count - kept.length }, () => new MDTBlock(options, init))
    Object.assign(this, { sideblocks: new ModuleList([...kept, ...more]) })

    if (!chosen.relativePosBias)
      for (const { attn } of [...this.blocks, ...this.sideblocks]) remove(attn, 'rel_pos_bias')
    if (!chosen.learnablePos)
      Object.assign(this, { pos_embed: frozen(this.pos_embed), decoder_pos_embed: frozen(this.decoder_pos_embed) })
    if (!chosen.interpolatorPosEmbed) remove(this, 'decoder_pos_embed')
  }

  override encodeFull(embedded: Tensor, c: Tensor): Tensor {
    return this.ablation.interpolatorPosEmbed ? super.encodeFull(embedded, c) : this.encode(embedded, c, null)
  }

  override encodeMasked(embedded: Tensor, c: Tensor, mask: TokenMask): Tensor {
    if (this.ablation.asymmetricStructure) return super.encodeMasked(embedded, c, mask)
    const token = add(this.mask_token, this.pos_embed) // (1, T, D)
    return this.encodeFull(where(ofTokens(mask), token, embedded), c)
  }

  override sideInterpolator(x: Tensor, c: Tensor, mask: TokenMask): Tensor {
    const { maskedShortcut, interpolatorPosEmbed } = this.ablation
    const [[N, T], D] = [mask.mask.shape, x.shape[2]]
    const filled = mask.kept === T ? x : concat([x, broadcastTo(this.mask_token, [N, T - mask.kept, D])], 1) // (N, T, D)
    const tokens = gatherRows(filled, mask.idsRestore)
    const q = interpolatorPosEmbed ? add(tokens, this.decoder_pos_embed) : tokens
    const k = this.sideblocks.items.reduce((y, block) => block.forward(y, c), q)
    return maskedShortcut && k !== q ? where(ofTokens(mask), k, q) : k
  }
}

/** 1 where a token was removed: (N, T, 1). */
function ofTokens({ mask }: TokenMask): Tensor {
  return reshape(mask, [...mask.shape, 1])
}

/** Takes a parameter, or a module with all of its own, out of a model. */
function remove<M extends Module>(owner: M, field: keyof M): void {
  const part = owner[field] as { dispose(): void } | null
  part?.dispose()
  delete owner[field]
}

function resolved({ maskRatio, decodeLayer, depth }: MDTOptions, ablation: MDTAblation): Required<MDTAblation> {
  const chosen: Required<MDTAblation> = {
    maskingRatio: maskRatio ?? 0,
    decoderPosition: `Last${decodeLayer}`,
    asymmetricStructure: true,
    sideInterpolator: true,
    maskedShortcut: true,
    latentType: 'full+masked',
    supervisedParts: 'all',
    interpolatorBlocks: 1,
    interpolatorPosEmbed: true,
    learnablePos: true,
    relativePosBias: true,
    ...ablation,
  }
  const { decoderPosition, interpolatorBlocks } = chosen
  const last = /^Last(\d+)$/.exec(decoderPosition)?.[1]
  if (last === undefined || Number(last) > depth)
    throw atCaller(new RangeError(`AblatedMDT: decoderPosition: expected Last0 … Last${depth}, got ${decoderPosition}`))
  if (!(Number.isInteger(interpolatorBlocks) && interpolatorBlocks >= 1))
    throw atCaller(
      new RangeError(`AblatedMDT: interpolatorBlocks: expected an integer from 1, got ${interpolatorBlocks}`),
    )
  const without = (['asymmetricStructure', 'sideInterpolator'] as const).find(row => !chosen[row])
  if (without !== undefined && (interpolatorBlocks !== 1 || !chosen.maskedShortcut))
    throw atCaller(new RangeError(`AblatedMDT: ${without}: false leaves no side-interpolator to change`))
  return chosen
}

/** Terms of the passes that were made; the others are null. */
export interface AblatedLoss {
  readonly full: LossTerms | null
  readonly masked: LossTerms | null
  /** Sum of the means: what is minimised. */
  readonly loss: Tensor
}

/** `mdtLoss` of x0 (N, C, H, W) with the rows of the model's ablation that concern it. [MDT tables 5d, 5e] Throws as that. */
export function ablatedLoss(
  model: AblatedMDT,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  inputs: MDTInputs,
  given: LossOptions = {},
): AblatedLoss {
  check('ablatedLoss', 'model', model, anAblatedMDT)
  const { full, masked } = checkStep('ablatedLoss', diffusion, x0, t, inputs, given)
  const { latentType } = model.ablation
  const terms = {
    full: latentType === 'masked' ? null : lossOf(model, diffusion, x0, t, full, given),
    masked: latentType === 'full' ? null : maskedPassLoss(model, diffusion, x0, t, masked, given),
  }
  const means = [terms.full, terms.masked].flatMap(term => (term === null ? [] : mean(term.loss)))
  return { ...terms, loss: means.reduce((a, b) => add(a, b)) }
}

/** The loss of the masked pass, over all tokens or over the removed ones alone. [MDT table 5e] */
function maskedPassLoss(
  model: AblatedMDT,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  inputs: PassInputs,
  given: LossOptions,
): LossTerms {
  if (model.ablation.supervisedParts === 'all') return lossOf(model, diffusion, x0, t, inputs, given)
  const { noise, labels, mask } = inputs
  const xt = qSample(diffusion, x0, t, noise)
  const output = callNetwork('ablatedLoss', diffusion, (x, time) => model.forward(x, time, labels, mask), xt, t)
  return lossOfRemoved(model, diffusion, output, { x0, xt, noise, t }, mask, optionsOf(model, given))
}

/** `mdtPasses` of an ablated model: those passes that its row trains on, with the same random numbers. */
export function ablatedPasses(
  model: AblatedMDT,
  diffusion: GaussianDiffusion,
  part: Part,
  options: LossOptions = {},
): Generator<LossPass, void> {
  check('ablatedPasses', 'model', model, anAblatedMDT)
  checkPart('ablatedPasses', diffusion, part, options)
  return passesOf(model, diffusion, part, options)
}

const anAblatedMDT = instanceOf('an AblatedMDT', AblatedMDT)

function* passesOf(
  model: AblatedMDT,
  diffusion: GaussianDiffusion,
  { images, labels, rng }: Part,
  options: LossOptions,
): Generator<LossPass, void> {
  const t = rng.integersArray(0, diffusion.steps, images.shape[0])
  const { full, masked } = sampleMDTInputs(model, images, labels, rng)
  const { latentType } = model.ablation
  if (latentType !== 'masked') yield passTerms(['mse', 'vb'], () => lossOf(model, diffusion, images, t, full, options))
  if (latentType !== 'full')
    yield passTerms(['maskedMse', 'maskedVb'], () => maskedPassLoss(model, diffusion, images, t, masked, options))
}

/** `hybridLoss` of every patch, as if it were a picture, and per picture the mean over those that were removed. */
function lossOfRemoved(
  model: AblatedMDT,
  diffusion: GaussianDiffusion,
  output: Tensor,
  { x0, xt, noise, t }: Diffused,
  mask: TokenMask | null,
  options: LossOptions,
): LossTerms {
  if (mask === null || mask.kept === mask.mask.shape[1])
    throw atCaller(
      new RangeError("MDT: supervisedParts: 'masked' wants a masked pass that removes a token, got one without"),
    )
  const [N, T] = mask.mask.shape
  const { patchSize: P } = model.options
  const patches = (x: Tensor) => reshape(patchify(x, P), [N * T, x.shape[1], P, P])
  const times = Int32Array.from({ length: N * T }, (_, i) => t[Math.floor(i / T)])
  const all = { x0: patches(x0), xt: patches(xt), noise: patches(noise), t: times }
  const { mse, vb, loss } = hybridLoss(diffusion, patches(output), all, options) // (N·T) each
  const none = zeros([], { dtype: x0.dtype, backend: x0.backend })
  const ofRemoved = (x: Tensor) => div(sum(where(mask.mask, reshape(x, [N, T]), none), 1), T - mask.kept) // (N)
  return { mse: ofRemoved(mse), vb: vb && ofRemoved(vb), loss: ofRemoved(loss) }
}
