/**
 * Where a run begins and how it goes on: a new run never writes over another, a resumed one is the unbroken one continued,
 * and what it leaves can be gone on with. Needs Node. The files themselves are checkpoint.ts and metrics.ts.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend } from '../core/index.ts'
import { lockFolder } from '../io/lock.ts'
import { UserError } from '../io/user-error.ts'
import type { Ema, Module, Optimizer } from '../nn/index.ts'
import { writeLossCurve } from './charts.ts'
import {
  type Checkpoint,
  type CheckpointState,
  latestCheckpoint,
  loadCheckpoint,
  readState,
  saveCheckpoint,
} from './checkpoint.ts'
import { type MetricsLog, readRows } from './metrics.ts'
import { samplesPath } from './pictures.ts'
import { readRunFile } from './readme.ts'
import { reportPath, writeReport } from './report.ts'
import type { StepGuard } from './step-guard.ts'

/** Everything that a step changes. */
export interface TrainingState {
  readonly model: Module
  readonly ema: Ema<Module>
  readonly optimizer: Optimizer
  readonly guard: StepGuard
}

/** What every program says of its run, in all checkpoints and from the start in run.json. */
export interface RunDescribed {
  /** Which program trains; this and the next are absent in runs of earlier versions. */
  readonly program?: string
  /** How many pictures it is trained on. */
  readonly pictures?: number
  /** Their classes, where the model may be told them. */
  readonly classes?: readonly string[]
  readonly settings: object
}

/** That of a run whose pictures are chosen. */
interface OnPictures extends RunDescribed {
  readonly settings: { readonly data: string; readonly latents?: string | null }
}

/** What is in state.json: with the tensors, all that a run needs to go on; `Own` is what the program adds. */
export type RunState<Own> = Own &
  CheckpointState & {
    readonly emaUpdates: number
    /** Steps in a row, the last among them, that were skipped; absent for none. */
    readonly skipped?: number
    /** What `arithmetic` says of the backend. */
    readonly backend: string
  }

/**
 * The checkpoint that a run in `folder` goes on from; undefined for a new run, and for one that ended before its first
 * checkpoint, which begins again. From now on the folder is this process's. Throws UserError where there is nothing to
 * resume, where a new run would write over another's steps, and where another process is at work.
 */
export function startingPoint(folder: string, resume: boolean): Checkpoint | undefined {
  const nothing = () => new UserError(`${folder}: wanted a checkpoint to resume from, got none`)
  if (resume && !begun(folder)) throw nothing() // before a folder is made
  const release = lockFolder(folder)
  try {
    if (resume && !begun(folder)) throw nothing()
    if (!resume && holdsSteps(folder))
      throw new UserError(`${folder}: there is a run already: --resume goes on with it, --out chooses another folder`)
  } catch (error) {
    release()
    throw error
  }
  return latestCheckpoint(folder)
}

const metricsOf = (folder: string) => statSync(join(folder, 'metrics.jsonl'), { throwIfNoEntry: false })

function begun(folder: string): boolean {
  return latestCheckpoint(folder) !== undefined || metricsOf(folder) !== undefined
}

/** A run that ended before its first step, for lack of memory say, may begin again with other settings. */
function holdsSteps(folder: string): boolean {
  return latestCheckpoint(folder) !== undefined || (metricsOf(folder)?.size ?? 0) > 0
}

/**
 * What the run in `folder` that is resumed said of itself: in the checkpoint that it goes on from, or when it began.
 * Undefined for a new run. Throws UserError where another program made it.
 */
export function saidBefore<Own extends RunDescribed>(
  folder: string,
  from: Checkpoint | undefined,
  { resume, program }: { readonly resume: boolean; readonly program: string },
): (Own & Partial<Pick<RunState<unknown>, 'backend'>>) | undefined {
  if (!resume) return undefined
  const before =
    from === undefined ? (readRunFile(folder)?.described as Own | undefined) : readState<RunState<Own>>(from.path)
  if (before?.program !== undefined && before.program !== program)
    throw new UserError(`${folder}: wanted a run of ${program}, got one of ${before.program}`)
  return before
}

/**
 * What to tell a person whose pictures are not as many as before; null where they are. Throws UserError where labels, if the
 * model is told any, would mean other classes than before, and where a set that is in another place now is another set.
 */
export function otherPictures(
  folder: string,
  before: OnPictures | undefined,
  { settings, classes = [], pictures }: OnPictures,
  labelled = false,
): string | null {
  const { classes: had, pictures: hadPictures = pictures } = before ?? {}
  if (labelled && had !== undefined && had.join('\n') !== classes.join('\n'))
    throw new UserError(
      `${folder}: wanted the classes that the run began with, ${listed(had)}, got ${listed(classes)}: labels would mean others`,
    )
  if (hadPictures === pictures) return null
  const change = `the run had ${hadPictures} pictures until now, got ${pictures}`
  if (before?.settings.data !== settings.data || (before?.settings.latents ?? null) !== (settings.latents ?? null))
    throw new UserError(`${folder}: ${change}: other pictures need a new run`)
  return change
}

/** Names, the first few of many. */
function listed(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 8).join(', ')} … (${names.length})` : names.join(', ')
}

/** Puts everything where `checkpoint` left it. Throws UserError or SafetensorsError where it is damaged or of another model. */
export function restore({ path }: Pick<Checkpoint, 'path'>, { model, ema, optimizer, guard }: TrainingState): void {
  const { state, ...saved } = loadCheckpoint<RunState<unknown>>(path)
  const load = (part: keyof typeof saved, into: Pick<Module | Optimizer, 'loadStateDict'>) => {
    try {
      into.loadStateDict(saved[part])
    } catch (error) {
      throw new UserError(`${join(path, part)}.safetensors: ${(error as Error).message}`, { cause: error })
    }
  }
  load('model', model)
  load('ema', ema.average)
  load('optimizer', optimizer)
  ema.updates = state.emaUpdates
  guard.skipped = state.skipped ?? 0
}

/** What to tell a person whose run was on another backend or build until now; null where it was on this one. */
export function otherArithmetic(before: { readonly backend?: string } | undefined, backend: Backend): string | null {
  if (before?.backend === undefined || before.backend === arithmetic(backend)) return null
  return `the run was on ${before.backend} until now: expect other last digits`
}

/** A backend and its build, 'wasm relaxed' or 'cpu': what may differ in the last bits from another one. */
export function arithmetic(backend: Backend): string {
  return 'build' in backend ? `${backend.name} ${backend.build}` : backend.name
}

/**
 * Whether a run left all that it should at a step: it did not where it was ended after its checkpoint. The page is what
 * `keep` writes last.
 */
export function isKept(folder: string, step: number): boolean {
  const written = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs
  const [samples, report] = [samplesPath(folder, step), reportPath(folder)].map(written)
  return samples !== undefined && report !== undefined && samples <= report
}

/**
 * All that a run leaves at a step: its log on the disk, a checkpoint, the loss curve of these `terms` of the log, the
 * picture `draw` makes at the path it is given, and the page that shows all of it. Returns the checkpoint's path. Throws
 * UserError where the disk refuses.
 */
export async function keep<Own>(
  folder: string,
  log: MetricsLog,
  { model, ema, optimizer, guard }: TrainingState,
  state: Own & Omit<RunState<unknown>, 'emaUpdates' | 'skipped'>,
  terms: readonly string[],
  draw: (path: string) => Promise<void>,
): Promise<string> {
  log.sync()
  const checkpoint = await saveCheckpoint(
    folder,
    { model: model.stateDict(), ema: ema.average.stateDict(), optimizer: optimizer.stateDict() },
    { ...state, emaUpdates: ema.updates, ...(guard.skipped > 0 && { skipped: guard.skipped }) },
  )
  try {
    const rows = readRows(join(folder, 'metrics.jsonl'))
    await writeLossCurve(join(folder, 'loss.png'), rows, terms)
    const samples = samplesPath(folder, state.step)
    await draw(samples)
    if (existsSync(samples)) log.picture(samples, state.step)
    await writeReport(folder, rows)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    throw new UserError(`${error.message}; the last good checkpoint is ${checkpoint}`, { cause: error })
  }
  return checkpoint
}
