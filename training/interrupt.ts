/**
 * Stopping a run by Ctrl-C, SIGTERM or SIGUSR1. Needs Node. A signal asks the loop to save and stop after the step it is
 * in; that a second one ends the run without, is for cli/run-in-child.ts, which is not busy when it comes.
 */

/** The last one is what mpirun and Slurm pass on to all ranks. */
const signals = ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const

/** Listens from its making until `close`. */
export class Interrupt {
  #asked = false
  readonly #listener: () => void

  /** `onAsked` tells the person what will happen; it is called at the first signal. */
  constructor(onAsked: () => void = () => {}) {
    this.#listener = () => {
      if (this.#asked) return
      this.#asked = true
      onAsked()
    }
    for (const signal of signals) process.on(signal, this.#listener)
  }

  /** Whether the loop should stop. Gives Node a turn, without which a busy loop would not hear of signals. */
  async asked(): Promise<boolean> {
    await new Promise(resolve => setImmediate(resolve))
    return this.#asked
  }

  /** Stops listening. */
  close(): void {
    for (const signal of signals) process.off(signal, this.#listener)
  }
}
