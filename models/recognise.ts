/**
 * Which model a file of weights is of, from the names and shapes of its tensors: family, sizes, and the preset that has
 * them. What leaves no trace in shapes, the number of heads, comes from the preset, or has to be told. Used by
 * sample.ts and inpaint.ts.
 */

import type { Shape } from '../core/index.ts'
import { UserError } from '../io/index.ts'
import type { HostState, Init, Module } from '../nn/index.ts'
import {
  type DecoderOptions,
  DiT,
  ditPreset,
  type MaskDiTOptions,
  type MaskDMDiffusionOptions,
  type MaskDMOptions,
  MaskedUViT,
  MDT,
  type MDTOptions,
  MDTv2,
  maskDiTPreset,
  maskdmDiffusion,
  maskdmPresets,
  mdtPreset,
  mdtV2Preset,
  networkState,
  officialDecoder,
  PreconditionedMaskDiT,
  presetNames,
  type TransformerOptions,
} from './index.ts'
import { fromDiffusers, isDiffusersDiT, networkNames } from './network-names.ts'

/** A model's family and sizes, how to make it, and its state under the model's own names. */
export type Recognised = Found<'DiT', TransformerOptions, DiT> | FoundMDT | FoundMaskDiT | FoundMaskDM
export type FoundMDT = Found<'MDT', MDTOptions, MDT> | Found<'MDTv2', MDTOptions, MDTv2>
export type FoundMaskDiT = Found<'MaskDiT', MaskDiTOptions, PreconditionedMaskDiT>
export interface FoundMaskDM extends Found<'MaskDM', MaskDMOptions, MaskedUViT> {
  /** By the file's own table, else by the presets of these sizes; null where they have several, or there is none. */
  readonly schedule: Schedule | null
}
type Schedule = NonNullable<MaskDMDiffusionOptions['schedule']>

export interface Found<Family extends string, Options, Model extends Module> {
  readonly family: Family
  readonly options: Options
  /** The preset of these sizes; null where there is none. */
  readonly preset: string | null
  readonly make: (init: Init) => Model
  readonly state: State
}

/** Tensors of a file; a tensor's data may be read when it is asked for. */
export type State = ReadonlyMap<string, HostState>

/** What a person may say of the model. */
export interface Told {
  /** Attention heads, and those of MaskDiT's decoder. */
  readonly heads?: number
  readonly decoderHeads?: number
  /** Classes of a DiT or MDT: as many as its table of labels has rows if there is none for 'no label'. */
  readonly classes?: number
  /** The text of diffusers' config.json. */
  readonly config?: string
}

/** Throws UserError where the tensors are those of no model known here; `path` is what messages call them. */
export function recognise(given: State, path: string, told: Told = {}): Recognised {
  if (isDiffusersDiT(given)) {
    const { state, heads } = fromDiffusers(given, told.config, path)
    return recognise(state, path, { ...told, heads: told.heads ?? heads })
  }
  const state = networkNames(given)
  const shapes = new Shapes(state, path)
  const has = (name: string) => state.has(name)
  if ([...state.keys()].some(name => name.endsWith('encoder.encoder_pos_embed'))) return maskdm(state, path, told)
  if (has('model.x_embedder.proj.weight')) return maskdit(state, shapes, told)
  if (!has('x_embedder.proj.weight'))
    throw new UserError(
      `${path}: wanted the state dict of a DiT, MDT, MaskDiT or MaskDM, got ${state.size} tensors of other names`,
    )
  if (has('en_inblocks.0.attn.qkv.weight')) return mdtV2(state, shapes, told)
  if (has('sideblocks.0.attn.qkv.weight')) return mdt(state, shapes, told)
  return dit(state, shapes, told)
}

/** A model in a line. */
export function describe({ family, preset, options }: Recognised): string {
  const { inputSize: S, inChannels: C, numClasses, depth, hiddenSize, numHeads, patchSize } = options
  const sizes = `${depth} blocks × ${hiddenSize}, ${numHeads} heads, patch ${patchSize}`
  const classes = numClasses > 0 ? `${numClasses} classes` : 'no classes'
  return `${preset === null ? family : `${family} ${preset}`}: ${sizes}, ${C} × ${S} × ${S}, ${classes}`
}

/** Shapes by name. */
class Shapes {
  readonly #state: State
  readonly #path: string

  constructor(state: State, path: string) {
    this.#state = state
    this.#path = path
  }

  /** Throws UserError where there is no such tensor, or one with another number of axes. */
  of(name: string, rank: number): Shape {
    const shape = this.#state.get(name)?.shape
    if (shape?.length === rank) return shape
    const got = shape === undefined ? 'none' : `[${shape.join(', ')}]`
    throw new UserError(`${this.#path}: wanted ${name} with ${rank} axes, got ${got}`)
  }

  has(name: string): boolean {
    return this.#state.has(name)
  }

  /** How many modules `name`.0, `name`.1, … there are. */
  count(name: string): number {
    let n = 0
    const names = [...this.#state.keys()]
    while (names.some(each => each.startsWith(`${name}.${n}.`))) n++
    return n
  }

  /** Heads by preset, or as told. Throws UserError where neither says. */
  heads(flag: string, known: number | undefined, width: number): number {
    if (known !== undefined) return known
    throw new UserError(
      `${this.#path}: no preset has width ${width} and this depth: wanted ${flag}, which no shape tells`,
    )
  }
}

/** A ratio by which ⌊D · ratio⌋ is the hidden width again: half of one keeps it clear of rounding. */
const ratioOf = (hidden: number, D: number) => (hidden % D === 0 ? hidden / D : (hidden + 0.5) / D)

/** What DiT, MDT and MaskDiT share, but for the heads. */
function body(shapes: Shapes, prefix: string, blocks: string, depth: number) {
  const [hiddenSize, inChannels, patchSize] = shapes.of(`${prefix}x_embedder.proj.weight`, 4)
  const [, T] = shapes.of(`${prefix}pos_embed`, 3)
  const [hidden] = shapes.of(`${prefix}${blocks}.0.mlp.fc1.weight`, 2)
  const inputSize = Math.round(Math.sqrt(T)) * patchSize
  return { inputSize, patchSize, inChannels, hiddenSize, depth, mlpRatio: ratioOf(hidden, hiddenSize) }
}

/**
 * Classes by the label table, whose last row is 'no label' unless told otherwise; and whether the output has variances. Throws
 * UserError on another number of classes.
 */
function labelsAndSigma(
  shapes: Shapes,
  { inChannels, patchSize }: { inChannels: number; patchSize: number },
  { classes }: Told,
) {
  const table = 'y_embedder.embedding_table.weight'
  const [out] = shapes.of('final_layer.linear.weight', 2)
  const rows = shapes.has(table) ? shapes.of(table, 2)[0] : 0
  const numClasses = classes ?? Math.max(rows - 1, 0)
  if (rows - numClasses !== 1 && rows !== numClasses)
    throw new UserError(`--classes: wanted ${rows} or, with a row for 'no class', ${rows - 1}, got ${numClasses}`)
  return {
    numClasses,
    classDropoutProb: rows > numClasses ? 0.1 : 0, // what matters here is that there is a row for 'no label'
    learnSigma: out === 2 * inChannels * patchSize ** 2,
  }
}

interface Sizes {
  readonly hiddenSize: number
  readonly depth: number
  readonly patchSize: number
}

const pictures = { inputSize: 32, inChannels: 4, numClasses: 1000 }

/** The name of the preset with these sizes. */
function presetOf(sizes: Sizes, names: readonly string[], preset: (name: string) => Sizes): string | null {
  const keys = ['hiddenSize', 'depth', 'patchSize'] as const
  return names.find(name => keys.every(key => preset(name)[key] === sizes[key])) ?? null
}

function dit(state: State, shapes: Shapes, told: Told): Recognised {
  const { heads } = told
  const sizes = body(shapes, '', 'blocks', shapes.count('blocks'))
  const preset = presetOf(sizes, presetNames, name => ditPreset(name, pictures))
  const known = heads ?? (preset === null ? undefined : ditPreset(preset, pictures).numHeads)
  const options = {
    ...sizes,
    ...labelsAndSigma(shapes, sizes, told),
    numHeads: shapes.heads('--heads', known, sizes.hiddenSize),
  }
  return { family: 'DiT', options, preset, state, make: init => new DiT(options, init) }
}

/** Heads of an MDT are columns of its bias tables. */
const headsOf = (shapes: Shapes, block: string) =>
  shapes.of(`${block}.attn.rel_pos_bias.relative_position_bias_table`, 2)[1]

function mdt(state: State, shapes: Shapes, told: Told): FoundMDT {
  const sizes = body(shapes, '', 'blocks', shapes.count('blocks'))
  const preset = presetOf(sizes, presetNames, name => mdtPreset(name, pictures))
  // N₂ and the ratio leave no trace either; all official models have these.
  const rest = { numHeads: headsOf(shapes, 'blocks.0'), maskRatio: 0.3, decodeLayer: Math.min(2, sizes.depth) }
  const options = { ...sizes, ...labelsAndSigma(shapes, sizes, told), ...rest }
  return { family: 'MDT', options, preset, state, make: init => new MDT(options, init) }
}

function mdtV2(state: State, shapes: Shapes, told: Told): FoundMDT {
  const decodeLayer = shapes.count('de_blocks')
  const depth = 2 * shapes.count('en_inblocks') + decodeLayer
  const sizes = body(shapes, '', 'en_inblocks', depth)
  const preset = presetOf(sizes, presetNames, name => mdtV2Preset(name, pictures))
  const rest = { numHeads: headsOf(shapes, 'en_inblocks.0'), maskRatio: 0.3, decodeLayer }
  const options = { ...sizes, ...labelsAndSigma(shapes, sizes, told), ...rest }
  return { family: 'MDTv2', options, preset, state, make: init => new MDTv2(options, init) }
}

const maskditNames = [...presetNames, 'H/2', 'H/4', 'H/8']

function maskdit(state: State, shapes: Shapes, { heads, decoderHeads }: Told): FoundMaskDiT {
  const sizes = body(shapes, 'model.', 'blocks', shapes.count('model.blocks'))
  const preset = presetOf(sizes, maskditNames, name => maskDiTPreset(name, pictures))
  const official = preset === null ? undefined : maskDiTPreset(preset, pictures)
  const table = 'model.y_embedder.embedding_table.weight'
  let decoder: DecoderOptions | null = null
  if (shapes.has('model.decoder_pos_embed')) {
    const [, , hiddenSize] = shapes.of('model.decoder_pos_embed', 3)
    const known = [official?.decoder, officialDecoder].find(each => each?.hiddenSize === hiddenSize)?.numHeads
    const numHeads = shapes.heads('--decoder-heads', decoderHeads ?? known, hiddenSize)
    decoder = { hiddenSize, depth: shapes.count('model.decoder_blocks'), numHeads }
  }
  const options = {
    ...sizes,
    numHeads: shapes.heads('--heads', heads ?? official?.numHeads, sizes.hiddenSize),
    numClasses: shapes.has(table) ? shapes.of(table, 2)[1] : 0,
    decoder,
    maeLossCoef: shapes.has('model.mask_token') ? 0.1 : 0,
  }
  return { family: 'MaskDiT', options, preset, state, make: init => new PreconditionedMaskDiT(options, init) }
}

function maskdm(checkpoint: State, path: string, { heads }: Told): FoundMaskDM {
  const state = networkState(checkpoint) as State
  const shapes = new Shapes(state, path)
  const [hiddenSize, inChannels, patchSize] = shapes.of('encoder.patch_embed.proj.weight', 4)
  const numClasses = shapes.has('encoder.label_emb.weight') ? shapes.of('encoder.label_emb.weight', 2)[0] : 0
  const [, rows] = shapes.of('encoder.encoder_pos_embed', 3)
  const T = rows - (numClasses > 0 ? 2 : 1)
  const half = shapes.count('encoder.in_blocks')
  const inputSize = Math.round(Math.sqrt(T)) * patchSize
  const sizes = { hiddenSize, patchSize, inputSize }
  // Presets of an even depth have the same blocks as those of the next odd one.
  const presets = Object.keys(maskdmPresets).filter(name => {
    const { network } = maskdmPresets[name]
    const isSize = (key: keyof typeof sizes) => network[key] === sizes[key]
    return half === network.depth >> 1 && (Object.keys(sizes) as (keyof typeof sizes)[]).every(isSize)
  })
  const preset = presets[0] ?? null
  const schedules = new Set(presets.map(name => maskdmPresets[name].schedule))
  const known = heads ?? (preset === null ? undefined : maskdmPresets[preset].network.numHeads)
  const options = {
    ...sizes,
    inChannels,
    depth: 2 * half + 1,
    numHeads: shapes.heads('--heads', known, hiddenSize),
    numClasses,
    mlpRatio: ratioOf(shapes.of('encoder.mid_block.mlp.fc1.weight', 2)[0], hiddenSize),
    qkvBias: shapes.has('encoder.mid_block.attn.q_bias'),
    mlpTimeEmbed: shapes.has('encoder.time_embed.0.weight'),
  }
  const schedule = scheduleIn(checkpoint) ?? (schedules.size === 1 ? [...schedules][0] : null)
  return { family: 'MaskDM', options, preset, state, schedule, make: init => new MaskedUViT(options, init) }
}

/** Official checkpoints hold the diffusion's β_t beside the network. */
function scheduleIn(checkpoint: State): Schedule | undefined {
  const table = ['betas', 'ema_model.betas'].map(name => checkpoint.get(name)).find(found => found !== undefined)
  if (table === undefined) return undefined
  const last = Number(table.data[table.data.length - 1])
  return (['cosine', 'linear'] as const).find(
    schedule => Math.abs(maskdmDiffusion({ schedule }).betas.at(-1)! - last) < 1e-4,
  )
}
