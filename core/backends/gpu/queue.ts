/**
 * Work that was asked for and not done yet. On WebGPU a gpu.js kernel returns a promise, but dispatch must be
 * synchronous: so a dispatch appends a ticket, tickets run one after the other in the order of their making, and only
 * a reader waits. A ticket that fails is remembered and told to the next reader.
 */

interface Ticket {
  readonly name: string
  run(): void | Promise<void>
}

export class TicketQueue {
  #tickets: Ticket[] = []
  #running = false
  #failure: Error | null = null

  /** Puts `run` behind all that was appended before; `name` is what an error will say. */
  append(name: string, run: () => void | Promise<void>): void {
    this.#tickets.push({ name, run })
    if (!this.#running) {
      this.#running = true
      void this.#work()
    }
  }

  /** What failed since the last call, or null. */
  takeFailure(): Error | null {
    const failure = this.#failure
    this.#failure = null
    return failure
  }

  async #work(): Promise<void> {
    await null // the caller of `append` goes on first
    while (this.#tickets.length > 0) {
      const tickets = this.#tickets
      this.#tickets = []
      for (const { name, run } of tickets) {
        try {
          await run()
        } catch (error) {
          this.#failure ??= new Error(`gpu: '${name}' failed: ${(error as Error).message}`, { cause: error })
        }
      }
    }
    this.#running = false
  }
}
