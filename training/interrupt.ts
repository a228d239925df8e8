/**
 * Stopping a run by Ctrl-C, SIGTERM or SIGUSR1. Needs Node. A signal asks the loop to save and stop after the step it is in.
 * After Ctrl-C and SIGTERM the process ends with the exit code that shells give to them, 130 and 143. A second signal ends
 * the run without saving: cli/run-in-child.ts sees to that, since it is not busy when the signal comes.
 */

import { constants } from 'node:os'
import { aFunction, check } from '../core/arguments.ts'

/** The last one is what mpirun and Slurm pass on to all ranks: a request that went well. */
const signals = ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const

/** Listens from its making until `close`. */
export class Interrupt {
  #askedAt: number | null = null
  readonly #listener: (signal: NodeJS.Signals) => void

  /** `onAsked` tells the person what will happen; it is called at the first signal. */
  constructor(onAsked: () => void = () => {}) {
    check('Interrupt', 'onAsked', onAsked, aFunction)
    this.#listener = signal => {
      if (this.#askedAt !== null) return
      this.#askedAt = performance.now()
      if (signal !== 'SIGUSR1') process.exitCode = 128 + constants.signals[signal]
      onAsked()
    }
    for (const signal of signals) process.on(signal, this.#listener)
  }

  /** True if the loop should stop. Gives Node a turn, without which a busy loop would not hear of signals. */
  async asked(): Promise<boolean> {
    await new Promise(resolve => setImmediate(resolve))
    return this.#askedAt !== null
  }

  /** Milliseconds since the signal; null before it. */
  get elapsed(): number | null {
    return this.#askedAt === null ? null : performance.now() - this.#askedAt
  }

  /** Stops listening. */
  close(): void {
    for (const signal of signals) process.off(signal, this.#listener)
  }
}
