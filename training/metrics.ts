/**
 * The two logs of a run, one JSON object a line. Needs Node. `metrics.jsonl` holds what the computation decides (step,
 * losses, gradient norm, learning rate), so two runs of the same seed write the same bytes; `timing.jsonl` holds what the
 * clock says. A resumed run first cuts both back to its checkpoint's step, and with them what TensorBoard shows
 * (tensorboard.ts).
 */

import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { aSize, aString, check } from '../core/arguments.ts'
import { wholeFile, wholeText } from '../io/open-node.ts'
import { replaceFile } from '../io/replace.ts'
import { UserError } from '../io/user-error.ts'
import { AppendedFile } from './append.ts'
import { aRow } from './arguments.ts'
import { samplesOf } from './pictures.ts'
import { imageEvent, openEvents, scalarsEvent } from './tensorboard.ts'

/** One line: the step it belongs to, and named numbers. */
export interface Row {
  readonly step: number
  readonly [name: string]: number
}

/** Appends to both logs of the run in a folder, and to what TensorBoard shows of them. */
export class MetricsLog {
  readonly #metrics: AppendedFile
  readonly #timing: AppendedFile
  readonly #events: AppendedFile

  /**
   * Opens the logs in `run` after `step` steps: lines of later steps, and a last line that was cut off, are removed.
   * Throws UserError on a line before the last that is no row.
   */
  constructor(run: string, step: number) {
    check('MetricsLog', 'run', run, aString)
    check('MetricsLog', 'step', step, aSize)
    mkdirSync(run, { recursive: true })
    const [metrics, timing] = ['metrics.jsonl', 'timing.jsonl'].map(name => cutBack(join(run, name), step))
    const times = new Map(timing.rows.map(row => [row.step, row.time]))
    const scalars = metrics.rows.map(row =>
      scalarsEvent({ step: row.step, time: times.get(row.step) ?? 0 }, numbersOf(row)),
    )
    const pictures = samplesOf(run, step).map(({ path, step }) => pictureEvent(path, step))
    this.#metrics = new AppendedFile(metrics.path)
    this.#timing = new AppendedFile(timing.path)
    this.#events = openEvents(run, [...scalars, ...pictures])
  }

  /** One line to each log. Throws UserError where the disk is full. */
  write(metrics: Row, timing: Row): void {
    check('MetricsLog.write', 'metrics', metrics, aRow)
    check('MetricsLog.write', 'timing', timing, aRow)
    this.#metrics.write(`${JSON.stringify(metrics)}\n`)
    this.#timing.write(`${JSON.stringify(timing)}\n`)
    this.#events.write(scalarsEvent({ step: metrics.step, time: timing.time ?? 0 }, numbersOf(metrics)))
  }

  /** Shows a picture of samples to TensorBoard too: a PNG that is in the folder. */
  picture(path: string, step: number): void {
    check('MetricsLog.picture', 'path', path, aString)
    check('MetricsLog.picture', 'step', step, aSize)
    this.#events.write(pictureEvent(path, step))
  }

  /** Waits until what was written is on the disk: before a checkpoint that counts on it. */
  sync(): void {
    for (const file of [this.#metrics, this.#timing]) file.sync()
  }

  /** Closes the log. */
  close(): void {
    for (const file of [this.#metrics, this.#timing, this.#events]) file.close()
  }
}

/** A log's rows up to a step, which are all that is left of it: a log is never half cut. */
function cutBack(path: string, step: number): { path: string; rows: Row[] } {
  const kept = readLines(path).filter(({ row }) => row.step <= step)
  replaceFile(path, kept.map(({ line }) => `${line}\n`).join(''))
  return { path, rows: kept.map(({ row }) => row) }
}

function numbersOf({ step: _, ...numbers }: Row): Record<string, number> {
  return numbers
}

function pictureEvent(path: string, step: number): Uint8Array {
  return imageEvent({ step, time: statSync(path).mtimeMs / 1000 }, 'samples', Buffer.from(wholeFile(path)))
}

/** The rows of a log, without a last line that was cut off. Throws UserError on another line that is no row. */
export function readRows(path: string): Row[] {
  check('readRows', 'path', path, aString)
  return readLines(path).map(({ row }) => row)
}

function readLines(path: string): { line: string; row: Row }[] {
  if (!existsSync(path)) return []
  const lines = wholeText(path).split('\n')
  return lines.flatMap((line, i) => {
    const row = parseRow(line)
    if (row !== undefined) return [{ line, row }]
    if (i === lines.length - 1) return [] // empty, unless a write was cut off
    throw new UserError(`${path}:${i + 1}: expected a JSON object with a step, got '${line.slice(0, 60)}'`)
  })
}

/** JSON has no NaN and writes null. */
const nullIsNaN = (_: string, value: unknown) => (value === null ? Number.NaN : value)

function parseRow(line: string): Row | undefined {
  try {
    const row: unknown = line.includes('null') ? JSON.parse(line, nullIsNaN) : JSON.parse(line)
    return typeof row === 'object' && row !== null && 'step' in row && Number.isInteger(row.step)
      ? (row as Row)
      : undefined
  } catch {
    return undefined
  }
}
