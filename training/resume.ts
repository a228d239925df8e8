/**
 * Starting and resuming: a new run never overwrites an existing one, a resumed run keeps its settings and data. Needs
 * Node. The loop around the steps is run.ts, the files are checkpoint.ts and metrics.ts.
 */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import {
  aBackend,
  aBoolean,
  anObject,
  aSize,
  aString,
  check,
  checkOptions,
  instanceOf,
  objectWith,
  optional,
  strings,
} from '../core/arguments.ts'
import type { Backend } from '../core/index.ts'
import { lockFolder } from '../io/lock.ts'
import { UserError } from '../io/user-error.ts'
import type { Ema, Module, Optimizer } from '../nn/index.ts'
import { aCheckpoint, checkTrained } from './arguments.ts'
import { type Checkpoint, type CheckpointState, latestCheckpoint, loadCheckpoint, readState } from './checkpoint.ts'
import { samplesPath } from './pictures.ts'
import { readRunFile } from './readme.ts'
import { reportPath } from './report.ts'
import { StepGuard } from './step-guard.ts'

/** Everything that a step changes. */
export interface TrainingState {
  readonly model: Module
  readonly ema: Ema<Module>
  readonly optimizer: Optimizer
  readonly guard: StepGuard
}

/** Description of a run, in run.json from the start and in the state.json of every checkpoint. */
export interface RunDescribed {
  /** Program that trains. Absent in runs of earlier versions, like the next two. */
  readonly program?: string
  /** Number of pictures in the data set. */
  readonly pictures?: number
  /** Names of their classes. */
  readonly classes?: readonly string[]
  readonly settings: object
}

/** Description of a run on a data set that a flag names. */
interface OnPictures extends RunDescribed {
  readonly settings: { readonly data?: unknown; readonly latents?: unknown }
}

/** Contents of state.json: with the tensors, all that resuming needs. `Own` is the program's description. */
export type RunState<Own> = Own &
  CheckpointState & {
    readonly emaUpdates: number
    /** Number of latest steps in a row that were skipped; absent for none. */
    readonly skipped?: number
    /** Backend and build, as `arithmetic` names them. */
    readonly backend: string
  }

/** Where a run begins, in a folder that is locked. */
export interface ResumePoint {
  /** Checkpoint to resume. Undefined for a new run, and for a run that ended before its first one, which begins again. */
  readonly from: Checkpoint | undefined
  /** Unlocks the folder. Does nothing the second time. */
  release(): void
}

/**
 * Locks `folder` until `release` is called or the process ends, and finds the checkpoint to resume. Throws UserError if
 * there is nothing to resume, if a new run would overwrite the steps of another, and if the folder is locked.
 */
export function resumePoint(folder: string, resume: boolean): ResumePoint {
  check('resumePoint', 'folder', folder, aString)
  check('resumePoint', 'resume', resume, aBoolean)
  const nothing = () => new UserError(`${folder}: expected a checkpoint to resume from, got none`)
  if (resume && !holdsRun(folder)) throw nothing() // before a folder is made
  const release = lockFolder(folder)
  try {
    if (resume && !holdsRun(folder)) throw nothing()
    if (!resume && holdsSteps(folder))
      throw new UserError(
        `${folder}: expected a folder without a run, got one. Pass --resume to continue it, --out to choose another folder`,
      )
  } catch (error) {
    release()
    throw error
  }
  return { from: latestCheckpoint(folder), release }
}

const metricsOf = (folder: string) => statSync(join(folder, 'metrics.jsonl'), { throwIfNoEntry: false })

/** True if a run began in `folder`. */
export function holdsRun(folder: string): boolean {
  return latestCheckpoint(folder) !== undefined || metricsOf(folder) !== undefined
}

/** True if a run has made a step. One that has not, for example out of memory, may start again with other settings. */
function holdsSteps(folder: string): boolean {
  return latestCheckpoint(folder) !== undefined || (metricsOf(folder)?.size ?? 0) > 0
}

/**
 * Returns the description of the run that is resumed in `folder`, from its checkpoint or, before the first one, from
 * run.json. Undefined for a new run. Throws UserError if another program made the run.
 */
export function previousRun<Own extends RunDescribed>(
  folder: string,
  from: Checkpoint | undefined,
  options: { readonly resume: boolean; readonly program: string },
): (Own & Partial<Pick<RunState<unknown>, 'backend'>>) | undefined {
  check('previousRun', 'folder', folder, aString)
  check('previousRun', 'from', from, optional(aCheckpoint))
  checkOptions('previousRun', options, { resume: aBoolean, program: aString }, ['resume', 'program'])
  const { resume, program } = options
  if (!resume) return undefined
  const before =
    from === undefined ? (readRunFile(folder)?.described as Own | undefined) : readState<RunState<Own>>(from.path)
  if (before?.program !== undefined && before.program !== program)
    throw new UserError(`${folder}: expected a run of ${program}, got one of ${before.program}`)
  return before
}

const aDescription = objectWith('a description with settings', {
  program: optional(aString),
  pictures: optional(aSize),
  classes: optional(strings),
  settings: anObject,
})

/**
 * Returns a warning if the number of pictures changed since the checkpoint, else null. Throws UserError if the classes
 * changed and the model is conditioned on them, and if a data set at another path has another number of pictures.
 */
export function checkSameData(
  folder: string,
  before: OnPictures | undefined,
  now: OnPictures,
  labelled = false,
): string | null {
  check('checkSameData', 'folder', folder, aString)
  check('checkSameData', 'before', before, optional(aDescription))
  check('checkSameData', 'now', now, aDescription)
  check('checkSameData', 'labelled', labelled, aBoolean)
  const { settings, classes = [], pictures } = now
  const { classes: had, pictures: hadPictures = pictures } = before ?? {}
  if (labelled && had !== undefined && had.join('\n') !== classes.join('\n'))
    throw new UserError(
      `${folder}: expected the classes that the run began with, ${listed(had)}, got ${listed(classes)}: labels would change their meaning`,
    )
  if (hadPictures === pictures) return null
  const change = `the run had ${hadPictures} pictures until now, got ${pictures}`
  if (before?.settings.data !== settings.data || (before?.settings.latents ?? null) !== (settings.latents ?? null))
    throw new UserError(`${folder}: ${change}: other pictures need a new run`)
  return change
}

/** Lists names, the first eight of many. */
function listed(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 8).join(', ')} … (${names.length})` : names.join(', ')
}

/** Loads a checkpoint. Throws UserError or SafetensorsError if it is damaged or of another model. */
export function restore(from: Pick<Checkpoint, 'path'>, trained: TrainingState): void {
  check('restore', 'from', from, aCheckpoint)
  checkTrained('restore', trained)
  check('restore', 'guard', trained.guard, instanceOf('a StepGuard', StepGuard))
  const { path } = from
  const { model, ema, optimizer, guard } = trained
  const { state, ...saved } = loadCheckpoint<RunState<unknown>>(path)
  const load = (part: keyof typeof saved, into: Pick<Module | Optimizer, 'loadStateDict'>) => {
    try {
      into.loadStateDict(saved[part])
    } catch (error) {
      throw new UserError(`${join(path, part)}.safetensors: ${(error as Error).message}`, { cause: error })
    }
  }
  load('ema', ema.average) // first: averages that other ranks keep share the model's memory
  load('model', model)
  load('optimizer', optimizer)
  ema.updates = state.emaUpdates
  guard.skipped = state.skipped ?? 0
}

/** Returns a warning if the run used another backend or build so far, else null. */
export function backendWarning(before: { readonly backend?: string } | undefined, backend: Backend): string | null {
  check('backendWarning', 'before', before, optional(anObject))
  check('backendWarning', 'backend', backend, aBackend)
  if (before?.backend === undefined || before.backend === arithmetic(backend)) return null
  return `the run was on ${before.backend} until now: expect other last digits`
}

/** Names a backend and its build, 'wasm relaxed' or 'cpu'. Two of them may differ in the last bits of their results. */
export function arithmetic(backend: Backend): string {
  check('arithmetic', 'backend', backend, aBackend)
  return 'build' in backend ? `${backend.name} ${backend.build}` : backend.name
}

/** True if all files of a step are there. A run that was ended after its checkpoint lacks the report, written last. */
export function isSaved(folder: string, step: number): boolean {
  const written = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs
  const [samples, report] = [samplesPath(folder, step), reportPath(folder)].map(written)
  return samples !== undefined && report !== undefined && samples <= report
}
