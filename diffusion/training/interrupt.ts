/**
 * Stopping a run by Ctrl-C or SIGTERM. Needs Node. The first one asks the loop to save and stop after the step it is in;
 * the second ends the process at once (finished checkpoints stay whole).
 */

/** Listens from its making until `close`. */
export class Interrupt {
  #asked: NodeJS.Signals | null = null
  readonly #listener: (signal: NodeJS.Signals) => void

  /** `onAsked` tells the person what will happen; it is called at the first signal. */
  constructor(onAsked: () => void = () => {}) {
    this.#listener = signal => {
      if (this.#asked !== null) process.exit(signal === 'SIGINT' ? 130 : 143) // 128 + the signal's number
      this.#asked = signal
      onAsked()
    }
    process.on('SIGINT', this.#listener)
    process.on('SIGTERM', this.#listener)
  }

  /** Whether the loop should stop. Gives Node a turn, without which a busy loop would not hear of signals. */
  async asked(): Promise<boolean> {
    await new Promise(resolve => setImmediate(resolve))
    return this.#asked !== null
  }

  close(): void {
    process.off('SIGINT', this.#listener)
    process.off('SIGTERM', this.#listener)
  }
}
