/**
 * Summary of a run of any age by its folder: steps, losses, settings and size. Needs Node. Pages and
 * lists of runs show it.
 */

import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { aString, check } from '../core/arguments.ts'
import { isLocked } from '../io/lock.ts'
import { UserError } from '../io/user-error.ts'
import { type Checkpoint, checkpoints, readState } from './checkpoint.ts'
import { type Row, readRows } from './metrics.ts'
import { type RunFile, readRunFile } from './readme.ts'

/** Fields of the state.json of all programs and versions. */
export interface SavedState {
  readonly step: number
  readonly backend?: string
  readonly settings?: Readonly<Record<string, unknown>>
  readonly model?: Readonly<Record<string, unknown>>
}

/** A run, read from its folder. */
export interface RunSummary {
  readonly folder: string
  readonly title: string
  readonly rows: readonly Row[]
  readonly timing: readonly Row[]
  readonly checkpoints: readonly Checkpoint[]
  /** Of the last checkpoint. */
  readonly state: SavedState | undefined
  readonly file: RunFile | undefined
}

/**
 * Reads a run; not its rows if they are `known`. Throws UserError on a folder that is no run, and on a damaged log or
 * checkpoint.
 */
export function readRun(folder: string, known?: readonly Row[]): RunSummary {
  if (!existsSync(join(folder, 'metrics.jsonl')))
    throw new UserError(`${folder}: expected the folder of a run, with a metrics.jsonl, got none`)
  const kept = checkpoints(folder)
  const file = readRunFile(folder)
  return {
    folder,
    title: file?.title ?? basename(resolve(folder)),
    rows: known ?? readRows(join(folder, 'metrics.jsonl')),
    timing: readRows(join(folder, 'timing.jsonl')),
    checkpoints: kept,
    state: kept.length > 0 ? readState<SavedState>(kept[kept.length - 1].path) : undefined,
    file,
  }
}

/** Settings of a run: those of its last checkpoint, or of its beginning. */
export function settingsOf({ state, file }: RunSummary): Readonly<Record<string, unknown>> {
  const described = file?.described as SavedState | undefined
  return state?.settings ?? described?.settings ?? {}
}

/** The mean of a column over the last 20 steps that have a number there; NaN if none has. */
export function meanOfLast(rows: readonly Row[], column: string): number {
  const some: number[] = []
  for (let i = rows.length - 1; i >= 0 && some.length < 20; i--)
    if (Number.isFinite(rows[i][column])) some.push(rows[i][column])
  return some.reduce((sum, value) => sum + value, 0) / some.length
}

/** The last number of a column; undefined if there is none. */
export function lastOf(rows: readonly Row[], column: string): number | undefined {
  return rows.findLast(row => Number.isFinite(row[column]))?.[column]
}

/** Number of steps done. */
export function stepOf({ rows, state }: RunSummary): number {
  return rows.at(-1)?.step ?? state?.step ?? 0
}

/** One line of a list of runs. */
export interface ListedRun {
  readonly name: string
  readonly state: 'running' | 'finished' | 'stopped' | 'not begun' | 'damaged'
  /** Steps done. */
  readonly step: number
  /** Number of the last step, if the run says. */
  readonly steps: number | undefined
  /** Mean of the last 20 steps; NaN before the first. */
  readonly loss: number
  readonly heldOut: number | undefined
  /** Bytes of all files. */
  readonly bytes: number
  /** When the last step was done, in seconds since 1970. */
  readonly time: number | undefined
}

/** The runs in a folder, by name. Throws UserError if there is no such folder. */
export function listRuns(folder: string): ListedRun[] {
  check('listRuns', 'folder', folder, aString)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new UserError(`${folder}: expected a folder of runs: no such folder`)
  const names = readdirSync(folder).filter(name => existsSync(join(folder, name, 'metrics.jsonl')))
  return names.sort().map(name => listed(join(folder, name), name))
}

function listed(folder: string, name: string): ListedRun {
  const bytes = bytesOf(folder)
  const running = isLocked(folder)
  try {
    const run = readRun(folder)
    const { rows, timing, file } = run
    const [step, steps] = [stepOf(run), file?.steps]
    const ended = step === 0 ? 'not begun' : steps !== undefined && step >= steps ? 'finished' : 'stopped'
    return {
      name,
      state: running ? 'running' : ended,
      step,
      steps,
      loss: meanOfLast(rows, 'loss'),
      heldOut: lastOf(rows, 'heldOut'),
      bytes,
      time: lastOf(timing, 'time'),
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const nothing = { step: 0, steps: undefined, loss: Number.NaN, heldOut: undefined, time: undefined }
    return { name, state: 'damaged', bytes, ...nothing }
  }
}

/** Bytes of all files in a folder and below. Files that go meanwhile count nothing. */
export function bytesOf(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).reduce((sum, name) => {
    const stats = statSync(join(folder, name), { throwIfNoEntry: false })
    return sum + (stats?.isFile() ? stats.size : 0)
  }, 0)
}
