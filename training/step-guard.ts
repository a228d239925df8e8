/**
 * What becomes of a step whose loss or gradient is NaN or infinite, and of gradients that are too large. Needs Node. The
 * optimizer has left weights and moments alone by then, on the device and without asking; here the step is said to be
 * bad, computed again to find the layer and the op that broke, and skipped where the run allows it. Before:
 * nn/optim.ts. Next: run.ts.
 */

import { firstNonFinite, labelled, scope } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { type Module, withLayerNames } from '../nn/index.ts'
import { latestCheckpoint } from './checkpoint.ts'
import type { Progress } from './progress.ts'

/** Part of a run's settings. */
export interface StepGuardOptions {
  /** Gradients are scaled down to this norm where theirs is larger; null for never. What `optimizer.step` is given. */
  readonly maxNorm: number | null
  /** So many steps in a row may be left out because something was not finite; with the next the run stops. */
  readonly skipNonfinite: number
}

/** Neither clips nor skips. */
export const unguarded: StepGuardOptions = { maxNorm: null, skipNonfinite: 0 }

/** What is known of a step when it is done. */
export interface StepOutcome {
  /** Its number, from 1. */
  readonly step: number
  /** Of all gradients, before clipping. */
  readonly gradNorm: number
  /** The flag that `optimizer.step` returns: 1, or 0 where it did nothing. */
  readonly finite: number
  /** Computes loss and gradients again, from the same batch and random numbers. */
  readonly replay: () => unknown
}

/** Watches over the steps of a run. */
export class StepGuard {
  /** Steps in a row, the last among them, that were skipped: what a resumed run must set again. */
  skipped = 0
  #clipped = 0
  #seen = 0
  readonly #run: string
  readonly #model: Module
  readonly #options: StepGuardOptions

  constructor(run: string, model: Module, { maxNorm, skipNonfinite }: StepGuardOptions) {
    this.#run = run
    this.#model = model
    this.#options = { maxNorm, skipNonfinite }
  }

  /**
   * Tells what was done about a step, in words to `progress` and in numbers for its row in the log: `skipped`, how many in
   * a row, or `clip`, what gradients were multiplied by; nothing where nothing was done. Throws UserError where the run
   * must stop: it names the layer and the op that made the first value that is not finite.
   */
  async judge(outcome: StepOutcome, progress: Progress): Promise<{ skipped?: number; clip?: number }> {
    const { step, gradNorm, finite } = outcome
    const { maxNorm, skipNonfinite } = this.#options
    this.#seen++
    if (finite === 0) {
      const what = `the loss or its gradient is NaN or infinite: ${await this.#culprit(outcome)}`
      this.skipped++
      if (this.skipped > skipNonfinite) {
        const last = latestCheckpoint(this.#run)?.path ?? 'there is none yet'
        const row = skipNonfinite === 0 ? '' : `, after ${skipNonfinite} others in a row that were skipped`
        throw new UserError(`step ${step}: ${what}${row}. Last good checkpoint: ${last}`)
      }
      progress.log(`step ${step} is skipped: ${what}`)
      return { skipped: this.skipped }
    }
    this.skipped = 0
    if (maxNorm === null || gradNorm <= maxNorm) return {}
    progress.note(`clipped ${++this.#clipped} of ${this.#seen}`)
    return { clip: maxNorm / (gradNorm + 1e-6) }
  }

  async #culprit({ replay }: StepOutcome): Promise<string> {
    const found = await firstNonFinite(() =>
      labelled('the loss', () => withLayerNames(this.#model, () => scope(() => void replay()))),
    )
    this.#model.zeroGrad()
    if (found === null) return 'every value is finite, so the norm of the gradients overflowed'
    const { op, label, position, shape } = found
    const where = `op ${position + 1} of the step, of shape [${shape.join(', ')}]`
    return `the first such value was made by '${op}' in ${label}, ${where}`
  }
}
