/**
 * One family of models, one record: its presets and construction, how a file of its weights is recognised, what training
 * minimises, and how it generates pictures. The records lie beside their models (dit-family.ts, …) and
 * families.ts lists them. Training, sampling, `demask info`, benchmarks and playground know a family by its record alone.
 */

import type { Rng, Tensor } from '../core/index.ts'
import type { GaussianDiffusion, Network, Sampled, TokenMask } from '../diffusion/index.ts'
import type { Decay, HostState, Init, Module, NamedOptimizerOptions, NamedParameters, Optimizer } from '../nn/index.ts'
import type { TransformerOptions } from './dit.ts'
import type { Pictures } from './presets.ts'
import type { TransferRules } from './transfer.ts'

// ---- settings as data -----------------------------------------------------------------------------------------------

interface CommonSetting<V> {
  readonly help: string
  /** Value where the setting is not given, in general or by preset. Without one, such a setting is undefined. */
  readonly default?: V | ((preset: string) => V)
  /** A resumed run may change it. */
  readonly mayChange?: true
  /** Name of the flag, if it is not the dashed name of the setting. */
  readonly flag?: string
}

/** A setting whose value is a number. */
export interface NumberSetting extends CommonSetting<number> {
  readonly type: 'integer' | 'number'
  readonly min: number
  readonly max?: number
}

/** A setting whose value is text, one of `choices` if there are any. */
export interface TextSetting extends CommonSetting<string> {
  readonly type: 'text'
  readonly choices?: readonly string[]
  /** Placeholder of the value in --help. */
  readonly value?: string
  /** Given as a word of its own instead of a flag: `demask train maskdm pretrain`. */
  readonly operand?: true
  /** May be given again; the value is a list. */
  readonly many?: true
}

/** False unless given. */
export interface SwitchSetting extends CommonSetting<boolean> {
  readonly type: 'switch'
}

/** One setting of training as data. */
export type Setting = NumberSetting | TextSetting | SwitchSetting

/** Settings by name in camel case; the flag of `maskRatio` is --mask-ratio. */
export type SettingsTable = Readonly<Record<string, Setting>>

type ValueOf<S extends Setting> = S extends SwitchSetting
  ? boolean
  : S extends NumberSetting
    ? number
    : S extends { readonly choices: readonly (infer Choice)[] }
      ? Choice
      : string

/** Values of a table's settings. */
export type SettingsOf<T extends SettingsTable> = {
  readonly [K in keyof T]: T[K] extends SwitchSetting | { readonly default: unknown }
    ? ValueOf<T[K]>
    : ValueOf<T[K]> | undefined
}

/** Settings of a training run that every family has, with defaults of its own. */
export interface TrainingDefaults {
  /** Height and width of the pictures. */
  readonly size: number
  /** Pictures a step. */
  readonly batch: number
  /** Learning rate after the warm-up. */
  readonly lr: number
  /** Steps over which the rate rises linearly from 0. */
  readonly warmUpSteps: number
  readonly weightDecay: number
  readonly emaDecay: number
  /** Clips the gradients' global norm; null for no clipping. */
  readonly maxNorm: number | null
  /** 'yes': the model is conditioned on the class of each picture. */
  readonly labels: 'yes' | 'no'
  /** True if pictures are mirrored at random, where that is a valid augmentation. */
  readonly flip: boolean
}

// ---- training -------------------------------------------------------------------------------------------------------

/** Part of a batch: all of it, or a piece whose gradients are added to those of the others. */
export interface Part {
  /** (N, C, H, W) pictures in [-1, 1], or latents. */
  readonly images: Tensor
  /** N labels; null for a model without classes. */
  readonly labels: ArrayLike<number> | null
  /** Random numbers of this step and part. */
  readonly rng: Rng
  /** Share of the run's steps that are over, in [0, 1): for schedules over a run. */
  readonly progress: number
}

/** One forward pass; its backward runs before the next pass begins, so that only one pass is in memory. */
export type LossPass = () => {
  /** Scalar to minimise, a mean over the part. */
  readonly loss: Tensor
  /** Detached scalars to report, by name, in the order of `FamilyTraining.terms`. */
  readonly terms: Readonly<Record<string, Tensor>>
}

/** Settings that a family's own functions get: its own ones, and these of the common ones. */
export type OwnSettings<Own extends SettingsTable> = SettingsOf<Own> &
  Pick<TrainingDefaults, 'size'> & { readonly preset: string }

/** Training of a family. */
export interface FamilyTraining<Model extends Module, Own extends SettingsTable> {
  /** Settings beside the common ones. */
  readonly settings: Own
  /** Returns the training defaults of a preset. Throws RangeError on an unknown name. */
  defaults(preset: string): TrainingDefaults
  /**
   * Settles own settings that follow from others. `given` are those of the command line, `resumed` is true if a run
   * resumes, `inputSize` is the side of the model's input (default: that of the pictures). Throws UserError where they
   * contradict each other.
   */
  settle?(
    settings: OwnSettings<Own>,
    given: Partial<SettingsOf<Own>>,
    resumed: boolean,
    inputSize?: number,
  ): SettingsOf<Own>
  /** Pictures in the grid of samples that a run writes. */
  samples(preset: string): number
  /** How the grid is drawn, where that differs from `generation.defaults`. */
  grid?(preset: string, labelled: boolean): Partial<Pick<GenerationRequest, 'sampler' | 'steps' | 'guidance'>>
  /** Creates the optimizer that `settings` name, by default the paper's, with the paper's betas. */
  optimizer(parameters: NamedParameters, settings: NamedOptimizerOptions): Optimizer
  /** Decay of the moving average of weights. */
  decay(settings: Pick<TrainingDefaults, 'emaDecay'>): Decay
  /** The moving average leaves frozen parameters out. */
  readonly skipFrozen?: true
  /** Argument of the learning-rate schedule at the first step: 0, so that a warm-up begins with a rate of 0, or 1. */
  readonly lrStep: 'from 0' | 'from 1'
  /** Names of the terms that a step's passes report, in order. */
  readonly terms: readonly string[]
  /**
   * Columns of metrics.jsonl between `step` and `gradNorm`, in order, from the values of a step's terms. `loss` is one of
   * them.
   */
  columns(
    terms: Readonly<Record<string, number>>,
    settings: OwnSettings<Own>,
    progress: number,
  ): Readonly<Record<string, number>>
  /** The columns that a run's loss curve shows. */
  readonly curves: readonly string[]
  /** Passes of a step over a part, to be run one after the other. Throws RangeError. */
  passes(model: Model, part: Part, settings: OwnSettings<Own>): Iterable<LossPass>
  /** Rules for the tensors that follow classes, size and variances (transfer.ts). Absent where weights cannot be transferred. */
  readonly transfer?: TransferRules
}

// ---- recognition ----------------------------------------------------------------------------------------------------

/** Tensors of a file; a tensor's data may be read when it is accessed. */
export type State = ReadonlyMap<string, HostState>

/** Facts about a model that names and shapes may not tell. */
export interface Told {
  /** Attention heads, and those of MaskDiT's decoder. */
  readonly heads?: number
  readonly decoderHeads?: number
  /** Classes of a DiT or MDT: as many as its label table has rows if there is none for 'no label'. */
  readonly classes?: number
  /** The text of diffusers' config.json. */
  readonly config?: string
  /** The preset it was trained as. */
  readonly preset?: string
  readonly schedule?: NoiseSchedule
  /** The row of MDT's tables 3 to 5 that it was trained as. */
  readonly ablation?: string
}

/** Noise schedule of a discrete diffusion. */
export type NoiseSchedule = 'cosine' | 'linear'

/** A model's family and sizes, and its state under the model's own names. */
export interface Recognised<Options extends TransformerOptions = TransformerOptions> {
  readonly family: Family
  readonly options: Options
  /** The preset of these sizes; null if there is none. */
  readonly preset: string | null
  readonly state: State
  /** In families with several: the noise schedule, null if nothing tells it. */
  readonly schedule?: NoiseSchedule | null
}

// ---- generation -----------------------------------------------------------------------------------------------------

/** DDIM without noise; ancestral sampling; and over noise levels Heun, Euler and DPM-Solver++(2M). */
export const samplerNames = ['ddim', 'ddpm', 'heun', 'euler', 'dpm-solver'] as const
/** Name of a sampler, as on the command line. */
export type SamplerName = (typeof samplerNames)[number]

/** Which pictures to generate, and how. */
export interface GenerationRequest {
  /** One per picture. */
  readonly seeds: readonly number[]
  /** One per picture, in [0, classes], of which `classes` means none; null for a model without classes. */
  readonly labels: readonly number[] | null
  readonly sampler: SamplerName
  readonly steps: number
  /** Classifier-free guidance: a scale of 1 is none. With a power, the scale follows MDT's power-cosine. */
  readonly guidance?: { readonly scale: number; readonly power?: number }
  /** True to keep x_0 in [-1, 1], where pictures are. Latents have no such bounds. */
  readonly clip: boolean
  /** In families with several; default 'cosine'. */
  readonly schedule?: NoiseSchedule
}

/**
 * A loop over sampling steps. The x of the last step are the pictures, (N, C, S, S). Yielded tensors stay valid until the
 * generator advances or is closed.
 */
export type Generation = Generator<Sampled, void>

/** Generation of pictures by a family. */
export interface FamilyGeneration<Model extends Module> {
  readonly samplers: readonly SamplerName[]
  readonly defaults: { readonly sampler: SamplerName; readonly steps: number }
  /** Leading channels that guidance changes, and whether its scale may follow a power; null for a family without. */
  readonly guidance: { readonly channels: number | 'all'; readonly power: boolean } | null
  /** The noise schedule of a preset, in families with several. */
  schedule?(preset: string): NoiseSchedule
  /** Generates pictures, each from the noise of its own seed. Throws RangeError. */
  generate(model: Model, request: GenerationRequest): Generation
  /** Absent in a family that cannot inpaint. */
  readonly inpainting?: FamilyInpainting<Model>
}

/** A model as a network of timesteps, for samplers that put known pixels back at every step. */
export interface FamilyInpainting<Model extends Module> {
  diffusion(model: Model): GaussianDiffusion
  network(model: Model, labels: ArrayLike<number> | null): Network
  /** The same without the tokens that a mask removes, in a family that predicts those. */
  maskedNetwork?(model: Model, labels: ArrayLike<number> | null, mask: TokenMask): Network
}

// ---- the record -----------------------------------------------------------------------------------------------------

/** Floating-point operations of the matrix products on N pictures: forward alone, and a training step. */
export interface Cost {
  readonly forward: number
  readonly step: number
}

/** A record as far as training needs it: that of a family, or of the autoencoder. */
export interface Trainable<Model extends Module, Options, Own extends SettingsTable> {
  /** As the papers write it: 'MDTv2'. */
  readonly name: string
  /** The word after `demask train`: 'mdt'. */
  readonly command: string
  /** Small to large. */
  readonly presets: readonly string[]
  /** Preset of a new run on inputs of `side` by `side`, where none is given. */
  defaultPreset(side: number): string
  /** Options of a preset's model for such pictures. Throws RangeError on an unknown preset. */
  options(preset: string, pictures: Pictures, settings?: Partial<SettingsOf<Own>>): Options
  /** Throws RangeError on options that fit no model. */
  make(options: Options, init: Init): Model
  readonly training: FamilyTraining<Model, Own>
  /** Common settings that have no meaning for it. */
  readonly without?: readonly string[]
}

/**
 * One family. Without arguments the types are erased, for code that treats all families alike: a record is only ever given
 * models, options and settings of its own.
 */
export interface Family<
  Model extends Module = Module,
  Options extends TransformerOptions = TransformerOptions,
  Own extends SettingsTable = SettingsTable,
> extends Trainable<Model, Options, Own> {
  /** Null if the names are those of another family. Throws UserError on shapes that fit no model, calling them `path`. */
  recognise(state: State, path: string, told: Told): Recognised<Options> | null
  readonly generation: FamilyGeneration<Model>
  /** `maskRatio` is the share of tokens that the step's mask removes, by default the family's own. */
  cost(options: Options, N: number, maskRatio?: number): Cost
}
