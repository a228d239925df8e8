/**
 * Guards a run against a loss or gradient that is NaN or infinite, and reports clipping. Needs Node. The optimizer has
 * left weights and moments unchanged, on the device and without a read. The guard computes the step again to find the
 * layer and the op that produced the first such value, and skips the step if the run allows it.
 */

import {
  aBoolean,
  aFunction,
  aNumber,
  anObject,
  aSize,
  aString,
  check,
  instanceOf,
  objectWith,
  optional,
  orNull,
} from '../core/arguments.ts'
import { firstNonFinite, labelled, type NonFinite, scope } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { type Module, withLayerNames } from '../nn/index.ts'
import { aModule } from '../nn/module.ts'
import { latestCheckpoint } from './checkpoint.ts'
import { Progress } from './progress.ts'
import type { GuardSettings } from './settings.ts'

/** A step that is done. */
export interface GuardedStep {
  /** Its number, from 1. */
  readonly step: number
  /** Norm of all gradients, before clipping. */
  readonly gradNorm: number
  /** False if `optimizer.step` did nothing. */
  readonly finite: boolean
  /** Computes loss and gradients again, from the same batch and random numbers. */
  readonly replay: () => unknown
  /** Returns what the first process found of those that each replay a share of the step. Default: what this one found. */
  readonly agree?: (found: string | null) => string | null
}

const aStep = objectWith('a step that is done', {
  step: aSize,
  gradNorm: aNumber,
  finite: aBoolean,
  replay: aFunction,
  agree: optional(aFunction),
})

/** Watches the steps of a run. */
export class StepGuard {
  /** Number of latest steps in a row that were skipped. A resumed run restores it. */
  skipped = 0
  #clipped = 0
  #seen = 0
  readonly #run: string
  readonly #model: Module
  readonly #options: GuardSettings

  constructor(run: string, model: Module, settings: GuardSettings) {
    check('StepGuard', 'run', run, aString)
    check('StepGuard', 'model', model, aModule)
    check('StepGuard', 'settings', settings, anObject)
    const { maxNorm, skipNonfinite } = settings
    check('StepGuard', 'maxNorm', maxNorm, orNull(aNumber))
    check('StepGuard', 'skipNonfinite', skipNonfinite, aSize)
    this.#run = run
    this.#model = model
    this.#options = { maxNorm, skipNonfinite }
  }

  /**
   * Reports a step that was skipped or clipped to `progress`, and returns the columns of its row: `skipped`, the number of
   * skipped steps in a row, or `clip`, the factor of the gradients. Throws UserError if the run must stop: the message
   * names the layer and the op that produced the first value that is not finite.
   */
  async judge(outcome: GuardedStep, progress: Progress): Promise<{ skipped?: number; clip?: number }> {
    check('StepGuard.judge', 'outcome', outcome, aStep)
    check('StepGuard.judge', 'progress', progress, instanceOf('a Progress', Progress))
    const { step, gradNorm, finite } = outcome
    const { maxNorm, skipNonfinite } = this.#options
    this.#seen++
    if (!finite) {
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

  async #culprit({ replay, agree = found => found }: GuardedStep): Promise<string> {
    const found = await firstNonFinite(() =>
      labelled('the loss', () => withLayerNames(this.#model, () => scope(() => void replay()))),
    )
    this.#model.zeroGrad()
    const culprit = agree(found && describeOp(found))
    return culprit ?? 'every value is finite, so the norm of the gradients overflowed'
  }
}

function describeOp({ op, label, position, shape }: NonFinite): string {
  const where = `op ${position + 1} of the step, of shape [${shape.join(', ')}]`
  return `the first such value was made by '${op}' in ${label}, ${where}`
}
