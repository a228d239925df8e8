/**
 * The two logs of a run, one JSON object a line. Needs Node. `metrics.jsonl` holds what the computation decides (step,
 * losses, gradient norm, learning rate), so two runs of the same seed write the same bytes; `timing.jsonl` holds what the
 * clock says. A resumed run first cuts both back to its checkpoint's step.
 */

import { appendFileSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { latestCheckpoint } from './checkpoint.ts'
import { reason, UserError } from './errors.ts'
import { replaceFile } from './replace.ts'

/** One line: the step it belongs to, and named numbers. */
export interface Row {
  readonly step: number
  readonly [name: string]: number
}

/** Appends to both logs of the run in a folder. */
export class MetricsLog {
  readonly #files: readonly [metrics: LogFile, timing: LogFile]

  /**
   * Opens the logs in `run` after `step` steps: lines of later steps, and a last line that was cut off, are removed.
   * Throws UserError on a line before the last that is no row.
   */
  constructor(run: string, step: number) {
    mkdirSync(run, { recursive: true })
    this.#files = [new LogFile(join(run, 'metrics.jsonl'), step), new LogFile(join(run, 'timing.jsonl'), step)]
  }

  /** One line to each log. Throws UserError where the disk is full. */
  write(metrics: Row, timing: Row): void {
    this.#files[0].write(metrics)
    this.#files[1].write(timing)
  }

  /** Waits until what was written is on the disk: before a checkpoint that counts on it. */
  sync(): void {
    for (const file of this.#files) file.sync()
  }

  close(): void {
    for (const file of this.#files) file.close()
  }
}

/** The rows of a log, without a last line that was cut off. Throws UserError on another line that is no row. */
export function readRows(path: string): Row[] {
  return readLines(path).map(({ row }) => row)
}

function readLines(path: string): { line: string; row: Row }[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  return lines.flatMap((line, i) => {
    const row = parseRow(line)
    if (row !== undefined) return [{ line, row }]
    if (i === lines.length - 1) return [] // empty, unless a write was cut off
    throw new UserError(`${path}:${i + 1}: wanted a JSON object with a step, got '${line.slice(0, 60)}'`)
  })
}

function parseRow(line: string): Row | undefined {
  try {
    const row: unknown = JSON.parse(line)
    return typeof row === 'object' && row !== null && 'step' in row && Number.isInteger(row.step)
      ? (row as Row)
      : undefined
  } catch {
    return undefined
  }
}

/** A log that is open for appending. */
class LogFile {
  readonly #path: string
  readonly #descriptor: number

  constructor(path: string, step: number) {
    this.#path = path
    const lines = readLines(path).filter(({ row }) => row.step <= step)
    replaceFile(path, lines.map(({ line }) => `${line}\n`).join('')) // a log is never half cut
    this.#descriptor = openSync(path, 'a')
  }

  write(row: Row): void {
    this.#guard(() => appendFileSync(this.#descriptor, `${JSON.stringify(row)}\n`))
  }

  sync(): void {
    this.#guard(() => fsyncSync(this.#descriptor))
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      const last = latestCheckpoint(dirname(this.#path))?.path
      const good = last === undefined ? 'there is no checkpoint yet' : `the last good checkpoint is ${last}`
      throw new UserError(`${this.#path}: could not be written: ${reason(error)}; ${good}`, { cause: error })
    }
  }
}
