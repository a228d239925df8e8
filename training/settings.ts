/**
 * The settings of a training run as data: flag, default, range, help, and whether a resume may change it. Every family has
 * the common ones here and those of its record. A run's settings decide all that it computes, and its checkpoints hold
 * them. Runs in a browser, too; cli/train-flags.ts reads them from a command line.
 */

import { aCount, check, optional } from '../core/arguments.ts'
import { backendNames } from '../core/index.ts'
import { type ClassFrom, classFromHelp, classSources, dataHelp } from '../data/help.ts'
import { keptTokens } from '../diffusion/index.ts'
import { ranksThatFit } from '../distributed/world.ts'
import { UserError } from '../io/user-error.ts'
import type { Setting, SettingsOf, SettingsTable, Trainable, TrainingDefaults } from '../models/family.ts'
import {
  constant,
  type Module,
  type OptimizerName,
  optimizerNames,
  type Schedule,
  type ScheduleName,
  scheduleNames,
  scheduleOf,
  warmUp,
} from '../nn/index.ts'
import { checkGiven, checkTrainable } from './arguments.ts'

/** Clipping, and what happens to steps that are not finite. */
export interface GuardSettings {
  /** Clips the gradients' global norm, in `optimizer.step`; null for no clipping. */
  readonly maxNorm: number | null
  /** Number of steps in a row that may be skipped as not finite; the next one ends the run. */
  readonly skipNonfinite: number
}

/** Settings that the run itself uses, beside the model's. */
export interface RunSettings extends GuardSettings {
  /** Pictures a step. */
  readonly batch: number
  /** Parts of a batch whose gradients are computed one after another. */
  readonly parts: number
  /** Steps between checkpoints; by default 50, from step 500 on 250. */
  readonly saveEvery?: number
  /** Steps between grids of samples; by default 50, from step 100 on 250. */
  readonly sampleEvery?: number
}

/** Settings of every run. */
export interface CommonSettings extends Omit<TrainingDefaults, 'flip'>, RunSettings {
  readonly preset: string
  readonly data: string
  /** Where a folder of pictures has their classes. */
  readonly classFrom: ClassFrom
  /** Folder of latents of these pictures; null for a model of pictures. */
  readonly latents: string | null
  readonly seed: number
  readonly optimizer: OptimizerName
  /** The learning rate over the run, after the warm-up. */
  readonly lrSchedule: ScheduleName
  /** Random mirroring: where the data allow it, always, never. */
  readonly flip: 'auto' | 'yes' | 'no'
  /** Side of the pictures from which random squares of `size` are cut; undefined for central squares. */
  readonly crop?: number
  /** Share of the pictures that is not trained on, but measured. */
  readonly heldOut: number
  /** True if blocks keep only their inputs for backward. */
  readonly checkpointBlocks: boolean
  /** Length of the run, if what its steps compute depends on it; else null. */
  readonly steps: number | null
  /** Run, checkpoint or file of weights that the run started from; absent for random weights. */
  readonly init?: string
  /** Names and globs of the parameters that are not trained; absent for none. */
  readonly freeze?: readonly string[]
}

/** All that decides what a run computes. */
export type Settings<Own extends SettingsTable> = CommonSettings & SettingsOf<Own>

/** Flags of a run that its results do not depend on. */
export const runTable = {
  strict: { type: 'switch', help: 'end at a picture that cannot be read instead of leaving it out' },
  steps: { type: 'integer', min: 1, help: 'steps in all, those before a resume among them (default 10000)' },
  minutes: { type: 'number', min: 0, help: 'stop after this many minutes, if that comes first' },
  ranks: { type: 'integer', min: 1, help: 'start this many processes over MPI, each with a share of the parts' },
  shardOptimizer: {
    type: 'switch',
    help: 'share out the moments and the moving average over the ranks, to save memory',
  },
  timeout: { type: 'number', min: 1, help: 'seconds within which every rank must answer (default 1800)' },
  backend: { type: 'text', choices: backendNames, help: 'where tensors live (default wasm)' },
  threads: { type: 'integer', min: 1, max: 256, help: 'threads of the wasm backend (default one per core)' },
  config: {
    type: 'text',
    value: 'FILE',
    help: 'settings of another run: its run.json, or what --print-config printed',
  },
  resume: { type: 'switch', help: 'continue from the last checkpoint in DIR' },
  vae: { type: 'text', value: 'FILE', help: 'the autoencoder of the latents, if it was moved' },
  out: { type: 'text', value: 'DIR', help: 'the folder of the run' },
} as const satisfies SettingsTable

/** Flags that look at a run instead of training. */
export const lookTable = {
  dryRun: { type: 'switch', help: 'measure two steps, print what the run needs, and write nothing' },
  printConfig: { type: 'switch', help: 'print the run.json that the run would have, for --config, and write nothing' },
} as const satisfies SettingsTable

/** The common settings and a family's own, which may redefine a common one. */
export function settingsTable<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
): SettingsTable {
  checkTrainable('settingsTable', family)
  const { without = [] } = family
  return Object.fromEntries(Object.entries(allSettings(family)).filter(([name]) => !without.includes(name)))
}

/** The common settings and a family's own, those among them that have no meaning for it. */
function allSettings<Model extends Module, Options, Own extends SettingsTable>({
  presets,
  defaultPreset,
  training,
}: Trainable<Model, Options, Own>): SettingsTable {
  const byPreset =
    <K extends keyof TrainingDefaults>(name: K) =>
    (preset: string): TrainingDefaults[K] =>
      training.defaults(preset)[name]
  const bySize = [...new Set([16, 32, 64].map(defaultPreset))]
  const usual = `${bySize.join(', ')}${bySize.length > 1 ? ' by size' : ''}`
  const common: SettingsTable = {
    preset: { type: 'text', choices: presets, help: `the model (default ${usual})` },
    data: { type: 'text', value: 'SET', default: 'emoji:smileys', mayChange: true, help: dataHelp },
    classFrom: { type: 'text', choices: classSources, default: 'folder', mayChange: true, help: classFromHelp },
    latents: {
      type: 'text',
      value: 'DIR',
      mayChange: true,
      help: 'train on the latents that encode-latents left in DIR, not on pictures',
    },
    size: {
      type: 'integer',
      min: 1,
      max: 256,
      default: byPreset('size'),
      help: `height and width of the pictures; ${ownSize} for a folder or file without a preset`,
    },
    crop: {
      type: 'integer',
      min: 1,
      max: 1024,
      help: 'scale pictures to N pixels and train on random squares of --size (default central squares)',
    },
    flip: {
      type: 'text',
      choices: ['auto', 'yes', 'no'],
      default: preset => (training.defaults(preset).flip ? 'auto' : 'no'),
      help: 'mirror pictures at random: where the data allow it, always, never',
    },
    heldOut: {
      type: 'number',
      min: 0,
      max: 0.5,
      default: 0,
      help: 'share of the pictures to leave out of training and to measure the loss on',
    },
    labels: {
      type: 'text',
      choices: ['yes', 'no'],
      default: byPreset('labels'),
      help: 'condition the model on the class of each picture',
    },
    batch: { type: 'integer', min: 1, default: byPreset('batch'), help: 'pictures per step' },
    parts: {
      type: 'integer',
      min: 1,
      default: 1,
      help: 'split a batch into this many parts, to save memory or for ranks',
    },
    checkpointBlocks: {
      type: 'switch',
      mayChange: true,
      help: 'keep only the inputs of blocks for backward, to save memory: about 1.35 times the time',
    },
    optimizer: {
      type: 'text',
      choices: optimizerNames,
      default: 'adamw',
      help: 'AdamW, Adan, or SGD with momentum 0.9',
    },
    lr: { type: 'number', min: 0, default: byPreset('lr'), mayChange: true, help: 'learning rate after the warm-up' },
    lrSchedule: {
      type: 'text',
      choices: scheduleNames,
      default: 'constant',
      help: 'the rate over the run: half a cosine to 0, a line to 0, or a tenth after each third',
    },
    warmUpSteps: {
      type: 'integer',
      min: 0,
      flag: 'warm-up',
      default: byPreset('warmUpSteps'),
      help: 'steps over which the rate rises from 0',
    },
    weightDecay: {
      type: 'number',
      min: 0,
      default: byPreset('weightDecay'),
      mayChange: true,
      help: 'weight decay of the optimizer',
    },
    emaDecay: {
      type: 'number',
      min: 0,
      max: 0.9999999,
      flag: 'ema',
      default: byPreset('emaDecay'),
      mayChange: true,
      help: 'decay of the moving average of weights',
    },
    maxNorm: {
      type: 'number',
      min: 1e-6,
      flag: 'clip',
      mayChange: true,
      help: 'scale gradients of a larger norm down to this (default by preset)',
    },
    skipNonfinite: {
      type: 'integer',
      min: 0,
      default: 0,
      mayChange: true,
      help: 'skip up to N steps in a row whose loss or gradient is NaN or infinite; 0 stops at once',
    },
    saveEvery: {
      type: 'integer',
      min: 1,
      mayChange: true,
      help: 'steps between checkpoints and measurements of --held-out (default 50, from step 500 on 250)',
    },
    sampleEvery: {
      type: 'integer',
      min: 1,
      mayChange: true,
      help: 'steps between grids of samples (default 50, from step 100 on 250)',
    },
    init: {
      type: 'text',
      value: 'FILE',
      help: 'start from these weights: a run, a checkpoint, or a file (.pt, .safetensors) of the same family',
    },
    freeze: {
      type: 'text',
      value: 'PATTERN',
      many: true,
      help: 'do not train the parameters of this name, such as blocks.0 or *.attn; may be repeated',
    },
    seed: { type: 'integer', min: 0, default: 0, help: 'the same seed gives the same run' },
  }
  return { ...common, ...training.settings }
}

/** Name of a setting on the command line: --mask-ratio, or STAGE for an operand. */
export function flagOf(name: string, setting: Setting): string {
  if ('operand' in setting) return name.toUpperCase()
  return `--${setting.flag ?? name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
}

/** Default folder of a run: runs/mdt-s-2. */
export function folderOf(
  { command, defaultPreset }: { readonly command: string; readonly defaultPreset: (side: number) => string },
  preset = defaultPreset(usualSize),
): string {
  return `runs/${command}-${preset.toLowerCase().replaceAll('/', '-')}`
}

/** Size that a preset is chosen for where nothing tells it. */
const usualSize = 16
/** Size of a person's own pictures, where neither size nor preset is given. */
const ownSize = 32

/**
 * Chooses the preset of a new run by the size of its pictures, or the `side` of their latents, where none is given. Pictures
 * of one's own then are of 32 pixels and their classes are learned, unless `given` says otherwise.
 */
export function withPreset<Model extends Module, Options, Own extends SettingsTable>(
  { defaultPreset, without = [] }: Trainable<Model, Options, Own>,
  given: Partial<Settings<Own>>,
  side?: number,
): Partial<Settings<Own>> & { readonly preset: string } {
  const { preset, data } = given
  if (preset !== undefined) return { ...given, preset }
  const own = data !== undefined && !/^emoji(:|$)/.test(data)
  const size = given.size ?? (own ? ownSize : undefined)
  const labels = given.labels ?? (own && !without.includes('labels') ? 'yes' : undefined)
  return {
    ...given,
    preset: defaultPreset(side ?? size ?? usualSize),
    ...(size !== undefined && { size }),
    ...(labels !== undefined && { labels }),
  }
}

/**
 * Settings of a new run: those given, or else the preset's defaults. `inputSize` is the side of the model's input, if that is
 * not the pictures'. Throws UserError where settings contradict each other.
 */
export function newSettings<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
  given: Partial<Settings<Own>> = {},
  inputSize?: number,
): Settings<Own> {
  checkTrainable('newSettings', family)
  checkGiven('newSettings', given, [allSettings(family), { steps: runTable.steps }])
  check('newSettings', 'inputSize', inputSize, optional(aCount))
  const { preset = family.defaultPreset(given.size ?? usualSize) } = given
  const settings = { ...defaultsOf(family, preset), preset, ...defined(given) } as Settings<Own>
  checkParts(settings)
  checkCrop(settings)
  return { ...settings, ...family.training.settle?.(settings, given, false, inputSize) }
}

/**
 * Settings of a run that resumes with those it `started` with, some of which may change. Throws UserError on a change of
 * another one, and names the run by `folder`.
 */
export function resumedSettings<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
  given: Partial<Settings<Own>>,
  started: Partial<Settings<Own>>,
  folder: string,
): Settings<Own> {
  // Runs of earlier versions lack some settings.
  const { preset = family.defaultPreset(usualSize) } = started
  const settings = { ...defaultsOf(family, preset), preset, ...started, ...flipOf(started) } as Settings<Own>
  for (const name of family.without ?? []) {
    const had: unknown = started[name as keyof CommonSettings]
    if (had != null && name in family.training.settings)
      throw new UserError(
        `${folder}: expected a run without ${flagOf(name, family.training.settings[name])}, got ${had}`,
      )
  }
  for (const [name, setting] of Object.entries(settingsTable(family))) {
    const [had, got] = [settings, given].map(values => values[name as keyof CommonSettings])
    if (got !== undefined && `${got}` !== `${had}` && !setting.mayChange)
      throw changeOf(flagOf(name, setting), had, got, folder)
  }
  const changed = { ...settings, ...defined(given) }
  return { ...changed, ...family.training.settle?.(changed, given, true) }
}

/** The error of a resume that changes a setting. */
export function changeOf(
  flag: string,
  had: unknown,
  got: unknown,
  folder: string,
  fix = 'Pass --out to start a new run',
): UserError {
  return new UserError(`${flag}: expected ${had ?? 'none'}, as the run in ${folder} has, got ${got}. ${fix}`)
}

function defaultsOf<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
  preset: string,
): object {
  const table = Object.entries(settingsTable(family)).map(([name, { type, default: value }]) => [
    name,
    typeof value === 'function' ? value(preset) : type === 'switch' ? false : value,
  ])
  return { latents: null, steps: null, ...family.training.defaults(preset), ...defined(Object.fromEntries(table)) }
}

/** Runs of earlier versions say true for 'auto' and false for 'no'. */
export function flipOf({ flip }: { readonly flip?: unknown }): Partial<CommonSettings> {
  return typeof flip === 'boolean' ? { flip: flip ? 'auto' : 'no' } : {}
}

/**
 * The learning rate by the number of steps done: the run's schedule, scaled up from 0 during the warm-up, which counts steps
 * from 0 or from 1.
 */
export function learningRateOf(
  { lr, lrSchedule, warmUpSteps, steps }: Pick<CommonSettings, 'lr' | 'lrSchedule' | 'warmUpSteps' | 'steps'>,
  lrStep: 'from 0' | 'from 1',
): Schedule {
  const schedule = scheduleOf(lrSchedule, lr, steps ?? 0)
  const ramp = warmUp(warmUpSteps, constant(1))
  const first = lrStep === 'from 0' ? 0 : 1
  return step => schedule(step) * ramp(step + first)
}

function defined<T extends object>(values: T): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T
}

function checkParts({ batch, parts }: RunSettings): void {
  if (batch % parts !== 0) throw new UserError(`--parts: expected a divisor of the batch, ${batch}, got ${parts}`)
}

function checkCrop({ crop, size, latents }: Pick<CommonSettings, 'crop' | 'size' | 'latents'>): void {
  if (crop === undefined) return
  if (latents != null) throw new UserError(`--crop: expected none beside --latents, got ${crop}`)
  if (crop < size) throw new UserError(`--crop: expected at least the size of the pictures, ${size}, got ${crop}`)
}

/** Throws UserError if a batch of `parts` parts would have other bytes on `ranks` ranks than on one process. */
export function checkRanks(parts: number, ranks: number): void {
  const fit = ranksThatFit(parts)
  if (!fit.includes(ranks))
    throw new UserError(`ranks: expected ${listOf(fit)} for a batch of ${parts} parts, got ${ranks}`)
}

/** Throws UserError if --ranks is not the number of ranks. */
export function checkRanksFlag(flag: number | undefined, ranks: number): void {
  if (flag !== undefined && flag !== ranks)
    throw new UserError(`--ranks: expected ${ranks}, as the launcher started, got ${flag}`)
}

const listOf = (numbers: readonly number[]) => numbers.join(', ').replace(/, (\d+)$/, ' or $1')

/** Throws UserError if patches do not divide the model's input, or if its mask would keep no token. */
export function checkPatches(
  { inputSize, patchSize }: { readonly inputSize: number; readonly patchSize: number },
  { preset, latents, ...own }: Pick<CommonSettings, 'preset' | 'latents'> & { readonly maskRatio?: number },
): void {
  const flag = latents === null ? '--size' : '--latents'
  if (inputSize % patchSize !== 0)
    throw new UserError(`${flag}: expected a multiple of ${preset}'s patch size, ${patchSize}, got ${inputSize}`)
  const T = (inputSize / patchSize) ** 2
  if (own.maskRatio !== undefined && keptTokens(T, own.maskRatio) === 0)
    throw new UserError(`--mask-ratio: expected a mask that keeps at least one of ${T} tokens, got ${own.maskRatio}`)
}
