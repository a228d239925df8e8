/**
 * Progress of a run: a bar on a terminal, and elsewhere (a file, CI) a line now and then. Needs Node.
 */

import { createRequire } from 'node:module'
import type { SingleBar } from 'cli-progress'
import { aFunction, aNumber, aSize, aString, check, checkOptions, objectWith, orNull } from '../core/arguments.ts'

/** Extent of a progress bar. */
export interface ProgressOptions {
  /** Steps in all, those of an earlier run that is resumed among them. */
  readonly total: number
  /** Steps done before. */
  readonly done?: number
  /** Minutes from now after which the run ends, if that comes first. */
  readonly minutes?: number
  readonly stream?: NodeJS.WriteStream
}

/** The bar of cli-progress, which is loaded where there is a terminal. */
function loadBar(): typeof SingleBar {
  const module: typeof import('cli-progress') = createRequire(import.meta.url)('cli-progress')
  return module.SingleBar
}

/** Seconds between lines where there is no terminal. */
const lineEvery = 10
/** Number of steps over which speed and loss are averaged. */
const window = 20

const aStream = objectWith('a stream', { write: aFunction })
const progressKinds = { total: aSize, done: aSize, minutes: aNumber, stream: aStream }
const aLoss = orNull(aNumber)

/** A progress bar with loss, speed and ETA. */
export class Progress {
  readonly #total: number
  readonly #deadline: number
  readonly #stream: NodeJS.WriteStream
  readonly #bar: SingleBar | null
  readonly #first: number
  #at = performance.now()
  #lineAt = -Infinity
  #secondsPerStep = 0
  #loss = 0
  #step: number
  #summary = ''
  #note = ''

  constructor(options: ProgressOptions) {
    checkOptions('Progress', options, progressKinds, ['total'])
    const { total, done = 0, minutes = Infinity, stream = process.stdout } = options
    this.#total = total
    this.#first = done
    this.#step = done
    this.#deadline = performance.now() + 60_000 * minutes
    this.#stream = stream
    // Open MPI gives ranks a terminal of 0 columns, even if the output goes to a file.
    this.#bar =
      stream.isTTY && stream.columns !== 0
        ? new (loadBar())({
            format: '{bar} {value}/{total}  {summary}',
            stream,
            barsize: 24,
            barCompleteChar: '█',
            barIncompleteChar: '░',
            forceRedraw: true, // or `log` could not bring the bar back
            gracefulExit: false, // Interrupt decides what a signal means
          })
        : null
    this.#bar?.start(total, done, { summary: '' })
  }

  /**
   * After step number `step` on `pictures` pictures. A loss that is not finite is left out of the mean; null where the
   * steps have none.
   */
  update(step: number, loss: number | null, pictures: number): void {
    check('Progress.update', 'step', step, aSize)
    check('Progress.update', 'loss', loss, aLoss)
    check('Progress.update', 'pictures', pictures, aNumber)
    const now = performance.now()
    // Means with exponential weights, the plain mean of the first few steps.
    const weight = Math.max(1 / (step - this.#first), 1 / window)
    this.#secondsPerStep += weight * ((now - this.#at) / 1000 - this.#secondsPerStep)
    if (loss !== null && Number.isFinite(loss)) this.#loss += weight * (loss - this.#loss)
    this.#at = now
    this.#step = step
    const left = Math.min((this.#total - step) * this.#secondsPerStep, Math.max(this.#deadline - now, 0) / 1000)
    const speed = `${(pictures / this.#secondsPerStep).toFixed(1)} img/s`
    const shown = loss === null ? '' : `  loss ${this.#loss.toFixed(4)}`
    this.#summary = `${speed}${shown}  ETA ${duration(left)}${this.#note}`
    if (this.#bar !== null) this.#bar.update(step, { summary: this.#summary })
    else if (now - this.#lineAt >= 1000 * lineEvery || step === this.#total) this.#line(now)
  }

  /** A few words behind the figures, until others replace them. */
  note(text: string): void {
    check('Progress.note', 'text', text, aString)
    this.#note = `  ${text}`
  }

  /** A line of text above the bar. */
  log(text: string): void {
    check('Progress.log', 'text', text, aString)
    // On a terminal: clear the bar's line, and remember the cursor's new place, where cli-progress returns in the end.
    this.#stream.write(this.#bar === null ? `${text}\n` : `\r\u001b[K${text}\n\u001b7`)
    this.#bar?.render()
  }

  /** Time that passes until the next `update` without belonging to a step (samples, a checkpoint) is left out. */
  pause(): void {
    this.#at = performance.now()
  }

  /** Ends the bar; its last state stays visible. */
  close(): void {
    this.#bar?.stop()
    if (this.#bar === null && this.#lineAt !== this.#at && this.#summary !== '') this.#line(this.#at)
  }

  #line(now: number): void {
    this.#lineAt = now
    this.#stream.write(`step ${this.#step}/${this.#total}  ${this.#summary}\n`)
  }
}

/** Seconds as people say them: 42s, 3m 20s, 2h 05m. */
export function duration(seconds: number): string {
  check('duration', 'seconds', seconds, aNumber)
  const s = Math.round(seconds)
  if (s < 60) return `${s}s`
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, '0')}s`
  return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')}m`
}
