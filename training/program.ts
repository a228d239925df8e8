/**
 * A training program: a family's record, what `demask train` says of it, and where its runs start. `openRun` does all that
 * comes before the model: it settles the settings, opens the data and finds the checkpoint to resume. Needs Node. The loop
 * is train.ts.
 */

import { type Backend, type Rng, ready, rng } from '../core/index.ts'
import type { ImageDataset, LatentDataset } from '../data/index.ts'
import { alone, init, quietRanks, threadsPerRank, type World } from '../distributed/index.ts'
import { UserError } from '../io/user-error.ts'
import type { SettingsOf, SettingsTable, Trainable } from '../models/family.ts'
import { checkpointBlocks, type Module } from '../nn/index.ts'
import { type Advised, timeAdvice } from './advice.ts'
import { advisedRun } from './advised-run.ts'
import { checkProgram } from './arguments.ts'
import { type Checkpoint, latestCheckpoint, presetOfRun } from './checkpoint.ts'
import { DryRun, memoryOf, printMemory, usableBytes } from './dry-run.ts'
import { HeldOut } from './held-out.ts'
import { contentsOf, type Decode, decoderOf, type LatentSpace, picturesOf, spaceOf } from './latents.ts'
import { freeze, startFrom, type WeightsSource } from './pretrained.ts'
import { type RunDescription, runFileText } from './readme.ts'
import {
  arithmetic,
  checkSameData,
  previousRun,
  type ResumePoint,
  type RunDescribed,
  resumePoint,
  type TrainingState,
} from './resume.ts'
import { Run, type RunOptions, type TrainingRun } from './run.ts'
import {
  changeOf,
  checkRanks,
  checkRanksFlag,
  newSettings,
  resumedSettings,
  type runTable,
  type Settings,
  withPreset,
} from './settings.ts'
import { openTrainingSets } from './training-set.ts'

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
  /** The flag that asked for it. */
  readonly flag: string
  /** Weights of a model that may have other classes or another size. */
  readonly weights?: WeightsSource
  /** Checkpoint of a run of the same model: weights, averages and moments. */
  readonly checkpoint?: Pick<Checkpoint, 'path'>
  /** A line about it. */
  readonly note?: string
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
  /** Pictures to show: fewer in a short run. */
  readonly samples: number
}

/** A program of `demask train`. */
export interface TrainingProgram<Model extends Module, Options, Own extends SettingsTable> {
  readonly family: Trainable<Model, Options, Own>
  /** For --help. */
  readonly about: string
  readonly examples: readonly (readonly [words: string, what: string])[]
  /** Default folder of a run with these settings, the preset among them. */
  folder(given: Partial<Settings<Own>>): string
  /** Preset that a new run has from another one; undefined if there is none. */
  inheritedPreset?(given: Partial<Settings<Own>>): string | undefined
  /**
   * Completes what was given for a new run, with settings that it inherits from another one. `steps` is the length of the
   * run, if it was given; `preset` the default one. Throws UserError.
   */
  complete?(given: Partial<Settings<Own>>, steps: number | undefined, preset: string): Partial<Settings<Own>>
  /** Throws UserError if options do not fit the settings. */
  check?(options: Options, settings: Settings<Own>): void
  /** The run's stream of random numbers. Default: that of its seed. */
  random?(settings: Settings<Own>): Rng
  /** Where a new run starts; null for random weights, or those of --init. Throws UserError. */
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

/** Steps of a run, unless given. */
const usualSteps = 10_000
/** A run of fewer steps draws one small grid of samples, at its end. */
const shortRun = 20

/** A run before its model is made. */
export interface OpenedRun<Model extends Module, Options, Own extends SettingsTable> {
  readonly settings: Settings<Own>
  /** Of the model. */
  readonly options: Options
  readonly data: ImageDataset | LatentDataset
  /** Stream of the run. */
  readonly random: Rng
  /**
   * Puts the weights of --init into the new model and freezes parameters. Call it before the average and the optimizer are
   * made. Rejects with UserError.
   */
  prepare(model: Model): Promise<void>
  /** Unlocks the folder, for a run that does not begin. */
  close(): void
  /** Content of its run.json. */
  readonly description: RunDescription
  /** Loads the checkpoint, if there is one, and announces the run. */
  begin(trained: Omit<TrainingState, 'guard'> & { readonly ema: { readonly average: Model } }): TrainingRun
}

/**
 * Opens a run: settles its settings, locks its folder, and opens its backend and data. Throws UserError if a flag has no
 * meaning, contradicts another one or changes what a resumed run has computed.
 */
export async function openRun<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  command: TrainingCommand<Own>,
): Promise<OpenedRun<Model, Options, Own>> {
  checkProgram('openRun', program, command)
  const { given, flags } = command
  const folder = flags.out ?? folderOf(program, given)
  const world = await init(flags)
  quietRanks()
  checkRanksFlag(flags.ranks, world.size)
  const point = world.first ? resumePoint(folder, flags.resume) : undefined
  const from = world.agreed(point?.from) ?? undefined
  const release = () => point?.release()
  const failed = (error: unknown): never => {
    release()
    throw error
  }
  const opened = await openAt(program, command, { world, folder, from, release }, realRun).catch(failed)
  return {
    ...opened,
    prepare: model => opened.prepare(model).catch(failed),
    begin(trained) {
      try {
        return opened.begin(trained)
      } catch (error) {
        return failed(error)
      }
    },
  }
}

/** Where a run lies and begins, and the ranks that share it. */
interface Place extends ResumePoint {
  readonly world: World
  readonly folder: string
}

/** Continuation of opening a run, once the model is made. */
interface Start {
  /** Looks at a new run before its model is made. Throws UserError. */
  look?<Model extends Module, Options, Own extends SettingsTable>(
    advised: Advised<Model, Options, Own>,
    about: { readonly title: string; readonly samples: number; readonly backend: Backend },
  ): void
  run(options: RunOptions, trained: Omit<TrainingState, 'guard'>): TrainingRun
}

/** A run that trains, after advice where it does not fit into memory. */
const realRun: Start = {
  look(advised, { backend }) {
    for (const line of memoryOf(advised, 0, usableBytes(backend)).advice) console.log(line) // of a step, which needs the most
  },
  run: (options, trained) => new Run(options, trained),
}

/** Opens a run that only looks: in a folder that is neither made nor locked. Throws UserError as `openRun` does. */
export async function openDryRun<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  command: TrainingCommand<Own>,
): Promise<OpenedRun<Model, Options, Own>> {
  checkProgram('openDryRun', program, command)
  let checkpoint = 0
  return openAt(program, command, lookAt(program, command), {
    look(advised, { title, samples, backend }) {
      const usable = usableBytes(backend)
      const memory = memoryOf(advised, samples, usable)
      checkpoint = memory.needs.checkpoint
      const { batch } = advised.run.settings
      const millions = (memory.needs.parameters / 1e6).toFixed(1)
      console.log(`${title}: ${millions} M parameters, batch ${batch}, ${arithmetic(backend)}`)
      printMemory(memory, usable)
    },
    run: (options, trained) => new DryRun(options, trained, checkpoint),
  })
}

/** The text of the run.json that a run would have. Throws UserError as `openRun` does. */
export async function describeRun<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  command: TrainingCommand<Own>,
): Promise<string> {
  checkProgram('describeRun', program, command)
  const { description } = await openAt(program, command, lookAt(program, command), { run: realRun.run })
  return runFileText(description)
}

/** Where a run would begin. Throws UserError if there is nothing to resume. */
function lookAt<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  { given, flags }: TrainingCommand<Own>,
): Place {
  const folder = flags.out ?? folderOf(program, given)
  const from = flags.resume ? latestCheckpoint(folder) : undefined
  if (flags.resume && from === undefined)
    throw new UserError(`${folder}: expected a checkpoint to resume from, got none`)
  return { world: alone, folder, from, release() {} }
}

/** Opens a run in a folder. */
async function openAt<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  { given, flags, line, resume }: TrainingCommand<Own>,
  { world, folder, from, release }: Place,
  start: Start,
): Promise<OpenedRun<Model, Options, Own>> {
  const { family } = program
  const { training } = family
  const name = `train ${family.command}`
  const previous = previousRun<Described<Options, Own>>(folder, from, { resume: flags.resume, program: name })
  const settings =
    previous === undefined
      ? settle(program, given, flags.steps, world.size)
      : resumedSettings(family, given, startedWith(previous), folder)
  checkRanks(settings.parts, world.size)
  if (settings.steps !== null && flags.steps !== undefined && flags.steps !== settings.steps)
    throw changeOf('--steps', settings.steps, flags.steps, folder)
  const steps = settings.steps ?? flags.steps ?? usualSteps

  // The kernels are compiled while the data are read.
  const [backend, { training: data, heldOut, pictures }] = await Promise.all([
    ready({ backend: flags.backend, threads: flags.threads ?? threadsPerRank() }),
    openTrainingSets(settings, previous, flags),
  ])
  const decode = await decoderOf(spaceOf(data), flags.vae) // null for a model of pictures
  const numClasses = settings.labels === 'yes' ? data.classes.length : 0
  const options = family.options(
    settings.preset,
    { inputSize: data.size, inChannels: data.channels, numClasses },
    settings,
  )
  program.check?.(options, settings)
  const { classes } = data
  const latents = spaceOf(data)
  const described: Described<Options, Own> = { program: name, settings, pictures, classes, model: options, latents }
  const changed = checkSameData(folder, previous, described, numClasses > 0)
  const origin = from === undefined ? originOf(program, settings) : null
  const advised = advisedRun<Model, Options, Own>({
    family,
    given,
    settings,
    data,
    settle: other => settle(program, other, flags.steps, world.size),
    check: program.check,
  })
  const title = `${program.title(settings)} on ${contentsOf(data)}`
  const samples = Math.min(training.samples(settings.preset), steps < shortRun ? 12 : Infinity)
  start.look?.(advised, { title, samples, backend })
  const readme = {
    title,
    command: line,
    resume: resume(folder, steps),
    ...program.readme,
  }
  const prepared: string[] = []
  const random = program.random?.(settings) ?? rng(settings.seed)
  const labelled = numClasses > 0
  const measured =
    heldOut &&
    new HeldOut<Model>(heldOut, {
      passes: (model, part) => training.passes(model, part, settings),
      loss: terms => training.columns(terms, settings, 0).loss,
      labelled,
    })
  const heldOutNote = heldOut && `${heldOut.length} of ${pictures} pictures are held out to measure the loss on`
  return {
    close: release,
    settings,
    options,
    data,
    random,
    description: { ...readme, steps, described },
    async prepare(model) {
      if (origin?.weights !== undefined) {
        const { weights, flag } = origin
        prepared.push(...(await startFrom(family, model, { options, classes }, weights, flag)))
      }
      if (settings.freeze !== undefined) prepared.push(freeze(model, settings.freeze))
    },
    begin(trained) {
      if (settings.checkpointBlocks) checkpointBlocks(trained.model)
      const { average } = trained.ema
      return start.run(
        {
          world,
          shardOptimizer: flags.shardOptimizer,
          folder,
          release,
          steps,
          minutes: flags.minutes,
          settings,
          rng: random,
          backend,
          data,
          labelled,
          heldOut: measured && (() => measured.measure(average)),
          from,
          start: origin?.checkpoint,
          previous,
          described,
          readme,
          notes: [
            world.about,
            changed,
            heldOutNote,
            ...(program.notes?.(options, settings) ?? []),
            origin?.note ?? null,
            ...prepared,
          ],
          columns: (terms, progress) => training.columns(terms, settings, progress),
          curves: training.curves,
          speed: program.speed && ((step, seconds) => program.speed!(settings, step, seconds)),
          advice: seconds => (previous === undefined ? timeAdvice(advised, seconds) : []),
          show: (path, run) => program.show(path, run, { folder, settings, options, data, decode, average, samples }),
        },
        trained,
      )
    },
  }
}

/** Default folder of a run. */
function folderOf<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  given: Partial<Settings<Own>>,
): string {
  const { pictures, inputSize } = picturesOf(given)
  return program.folder(presetFor(program, { ...given, ...pictures }, inputSize))
}

/** The settings of a new run so far, with a preset. */
function presetFor<Model extends Module, Options, Own extends SettingsTable>(
  { family, inheritedPreset }: TrainingProgram<Model, Options, Own>,
  given: Partial<Settings<Own>>,
  inputSize: number | undefined,
): ReturnType<typeof withPreset<Model, Options, Own>> {
  const inherited = inheritedPreset?.(given) ?? presetOfRun(given.init)
  const known = inherited !== undefined && family.presets.includes(inherited) // weights of another family are refused later
  const preset = given.preset ?? (known ? inherited : undefined)
  return withPreset(family, { ...given, ...(preset !== undefined && { preset }) }, inputSize)
}

/** Where a new run starts. Throws UserError on --init beside another origin. */
function originOf<Model extends Module, Options, Own extends SettingsTable>(
  { origin }: TrainingProgram<Model, Options, Own>,
  settings: Settings<Own>,
): Origin | null {
  const own = origin?.(settings) ?? null
  if (settings.init === undefined) return own
  if (own !== null) throw new UserError(`--init: expected none beside ${own.flag}, got ${settings.init}`)
  return { flag: '--init', weights: { path: settings.init, weights: 'ema' } }
}

/** Settings of a new run. */
function settle<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  given: Partial<Settings<Own>>,
  steps: number | undefined,
  ranks: number,
): Settings<Own> {
  const { pictures, inputSize } = picturesOf(given)
  const withData = { ...given, ...pictures }
  const parts = given.parts ?? (ranks > 1 ? ranks : undefined)
  const { preset } = presetFor(program, withData, inputSize)
  const all = { ...(program.complete?.(withData, steps, preset) ?? withData), ...(parts && { parts }) }
  const settings = newSettings(program.family, presetFor(program, all, inputSize), inputSize)
  // A schedule over the run needs its length.
  return settings.lrSchedule === 'constant' ? settings : { ...settings, steps: settings.steps ?? steps ?? usualSteps }
}

/** Settings of a resumed run. Runs of earlier versions name the run they tune in `tuned`. */
function startedWith<Options, Own extends SettingsTable>({
  settings,
  tuned,
}: Described<Options, Own>): Partial<Settings<Own>> {
  return tuned == null ? settings : { ...settings, from: tuned }
}
