/**
 * A training program: a family's record, what `demask train` says of it, and where its runs start. `openRun` does all that
 * comes before the model: it settles the settings, opens the data and finds the checkpoint to resume. Needs Node. The loop
 * is train.ts.
 */

import { type Rng, ready, rng } from '../core/index.ts'
import type { ImageDataset, LatentDataset } from '../data/index.ts'
import { init, quietRanks, threadsPerRank } from '../distributed/index.ts'
import type { SettingsOf, SettingsTable, Trainable } from '../models/family.ts'
import type { Module, StateSource } from '../nn/index.ts'
import type { Checkpoint } from './checkpoint.ts'
import {
  contentsOf,
  type Decode,
  decoderOf,
  type LatentSpace,
  openTrainingSet,
  picturesOf,
  spaceOf,
} from './latents.ts'
import type { RunDescription } from './readme.ts'
import { checkSameData, previousRun, type RunDescribed, resumePoint, type TrainingState } from './resume.ts'
import { Run } from './run.ts'
import {
  changeOf,
  checkRanks,
  checkRanksFlag,
  newSettings,
  resumedSettings,
  type runTable,
  type Settings,
} from './settings.ts'

/** A run's command line. */
export interface TrainingCommand<Own extends SettingsTable> {
  /** Settings that were given. */
  readonly given: Partial<Settings<Own>>
  readonly flags: SettingsOf<typeof runTable>
  /** The command as it was typed. */
  readonly line: string
  /** The command that resumes the run in a folder, up to a number of steps. */
  resume(folder: string, steps: number): string
}

/** Description of a run in run.json and state.json. */
export interface Described<Options, Own extends SettingsTable> extends RunDescribed {
  readonly settings: Settings<Own>
  readonly model: Options
  readonly classes: readonly string[]
  /** Null for a model of pictures; absent in runs of earlier versions. */
  readonly latents?: LatentSpace | null
  /** In runs of earlier versions: the run that this one tunes. */
  readonly tuned?: string | null
}

/** Where a new run starts, other than from random weights. */
export interface Origin {
  /** Weights of a model that may have another size. */
  readonly weights?: StateSource | null
  /** Checkpoint of a run of the same model: weights, averages and moments. */
  readonly checkpoint?: Pick<Checkpoint, 'path'>
  /** A line about it. */
  readonly note: string
}

/** Values for the pictures of a run's progress. */
export interface Shown<Model extends Module, Options, Own extends SettingsTable> {
  readonly folder: string
  readonly settings: Settings<Own>
  readonly options: Options
  readonly data: ImageDataset | LatentDataset
  /** Decodes latents; null for a model of pictures. */
  readonly decode: Decode | null
  /** The model with averaged weights. */
  readonly average: Model
}

/** A program of `demask train`. */
export interface TrainingProgram<Model extends Module, Options, Own extends SettingsTable> {
  readonly family: Trainable<Model, Options, Own>
  /** For --help. */
  readonly about: string
  readonly examples: readonly (readonly [words: string, what: string])[]
  /** Default folder of a run. */
  folder(given: Partial<Settings<Own>>): string
  /**
   * Completes what was given for a new run, with settings that it inherits from another one. `steps` is the length of the
   * run, if it was given. Throws UserError.
   */
  complete?(given: Partial<Settings<Own>>, steps: number | undefined): Partial<Settings<Own>>
  /** Throws UserError if options do not fit the settings. */
  check?(options: Options, settings: Settings<Own>): void
  /** The run's stream of random numbers. Default: that of its seed. */
  random?(settings: Settings<Own>): Rng
  /** Where a new run starts; null for random weights. Throws UserError. */
  origin?(settings: Settings<Own>): Origin | null
  /** Name of the model, with its preset. */
  title(settings: Settings<Own>): string
  /** Lines to print below the title. */
  notes?(options: Options, settings: Settings<Own>): readonly string[]
  /** Lines of README.md on what `show` writes. */
  readonly readme?: Pick<RunDescription, 'pictures' | 'also'>
  /** The first line about speed. Default: seconds a step. */
  speed?(settings: Settings<Own>, step: number, seconds: number): string
  /** Writes a picture of the model's progress to `path`, unless the run is asked to stop meanwhile. */
  show(path: string, run: Run, shown: Shown<Model, Options, Own>): Promise<void>
}

/** A run before its model is made. */
export interface OpenedRun<Model extends Module, Options, Own extends SettingsTable> {
  readonly settings: Settings<Own>
  /** Of the model. */
  readonly options: Options
  readonly data: ImageDataset | LatentDataset
  /** Stream of the run. */
  readonly random: Rng
  /** Weights to transfer to the new model before its average is made; null for none. */
  readonly weights: StateSource | null
  /** Loads the checkpoint, if there is one, and announces the run. */
  begin(trained: Omit<TrainingState, 'guard'> & { readonly ema: { readonly average: Model } }): Run
}

/**
 * Opens a run: settles its settings, locks its folder, and opens its backend and data. Throws UserError if a flag has no
 * meaning, contradicts another one or changes what a resumed run has computed.
 */
export async function openRun<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  { given, flags, line, resume }: TrainingCommand<Own>,
): Promise<OpenedRun<Model, Options, Own>> {
  const { family } = program
  const { training } = family
  const folder = flags.out ?? program.folder(given)
  const world = await init(flags)
  quietRanks()
  checkRanksFlag(flags.ranks, world.size)
  const from = world.agreed(world.first ? resumePoint(folder, flags.resume) : undefined) ?? undefined
  const name = `train ${family.command}`
  const previous = previousRun<Described<Options, Own>>(folder, from, { resume: flags.resume, program: name })
  const settings =
    previous === undefined
      ? settle(program, given, flags.steps, world.size)
      : resumedSettings(family, given, startedWith(previous), folder)
  checkRanks(settings.parts, world.size)
  if (settings.steps !== null && flags.steps !== undefined && flags.steps !== settings.steps)
    throw changeOf('--steps', settings.steps, flags.steps, folder)
  const steps = settings.steps ?? flags.steps ?? 10_000

  const backend = await ready({ ...flags, threads: flags.threads ?? threadsPerRank() })
  const data = await openTrainingSet(settings, previous, flags)
  const decode = await decoderOf(spaceOf(data), flags.vae) // null for a model of pictures
  const numClasses = settings.labels === 'yes' ? data.classes.length : 0
  const options = family.options(
    settings.preset,
    { inputSize: data.size, inChannels: data.channels, numClasses },
    settings,
  )
  program.check?.(options, settings)
  const { length: pictures, classes } = data
  const latents = spaceOf(data)
  const described: Described<Options, Own> = { program: name, settings, pictures, classes, model: options, latents }
  const changed = checkSameData(folder, previous, described, numClasses > 0)
  const origin = from === undefined ? (program.origin?.(settings) ?? null) : null
  const random = program.random?.(settings) ?? rng(settings.seed)
  return {
    settings,
    options,
    data,
    random,
    weights: origin?.weights ?? null,
    begin: trained =>
      new Run(
        {
          world,
          shardOptimizer: flags.shardOptimizer,
          folder,
          steps,
          minutes: flags.minutes,
          settings,
          rng: random,
          backend,
          data,
          labelled: numClasses > 0,
          from,
          start: origin?.checkpoint,
          previous,
          described,
          readme: {
            title: `${program.title(settings)} on ${contentsOf(data)}`,
            command: line,
            resume: resume(folder, steps),
            ...program.readme,
          },
          notes: [world.about, changed, ...(program.notes?.(options, settings) ?? []), origin?.note ?? null],
          columns: (terms, progress) => training.columns(terms, settings, progress),
          curves: training.curves,
          speed: program.speed && ((step, seconds) => program.speed!(settings, step, seconds)),
          show: (path, run) =>
            program.show(path, run, { folder, settings, options, data, decode, average: trained.ema.average }),
        },
        trained,
      ),
  }
}

/** Settings of a new run. */
function settle<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  given: Partial<Settings<Own>>,
  steps: number | undefined,
  ranks: number,
): Settings<Own> {
  const withData = { ...given, ...picturesOf(given) }
  const parts = given.parts ?? (ranks > 1 ? ranks : undefined)
  return newSettings(program.family, { ...(program.complete?.(withData, steps) ?? withData), ...(parts && { parts }) })
}

/** Settings of a resumed run. Runs of earlier versions name the run they tune in `tuned`. */
function startedWith<Options, Own extends SettingsTable>({
  settings,
  tuned,
}: Described<Options, Own>): Partial<Settings<Own>> {
  return tuned == null ? settings : { ...settings, from: tuned }
}
