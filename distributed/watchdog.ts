/**
 * Ends a process that waits too long for other ranks. A rank that waits is inside MPI, where no timer of its thread can
 * run, so a second thread watches. Needs Node.
 */

import { Worker } from 'node:worker_threads'

/** Words of the shared memory: a count that is odd while the rank waits, and 1 once the thread must end. */
const [COUNT, ENDED] = [0, 1]

// Rank 0 reports first, so that there is one line. Another rank does so only if rank 0 itself does not answer.
const source = `
const { writeSync } = require('node:fs')
const { words, seconds, rank, size } = require('node:worker_threads').workerData
const limit = 1000 * (seconds + 2 * Math.min(rank, 2))
let [seen, since] = [0, performance.now()]
while (Atomics.wait(words, ${ENDED}, 0, 100) === 'timed-out') {
  const count = Atomics.load(words, ${COUNT})
  if (count !== seen) [seen, since] = [count, performance.now()]
  if (count % 2 === 0 || performance.now() - since < limit) continue
  writeSync(2, 'error: rank ' + rank + ' of ' + size + ': expected an answer of all ranks within ' + seconds + ' s, got none\\n')
  process.kill(process.pid, 'SIGKILL')
}
`

/** Watches a rank. */
export class Watchdog {
  readonly #words = new Int32Array(new SharedArrayBuffer(8))

  /** Ends the process once one wait has lasted `seconds`. */
  constructor(seconds: number, rank: number, size: number) {
    const workerData = { words: this.#words, seconds, rank, size }
    new Worker(source, { eval: true, execArgv: [], workerData }).unref()
  }

  /** Begins a wait, or ends it. */
  toggle(): void {
    Atomics.add(this.#words, COUNT, 1)
  }

  /** Ends the thread. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1)
    Atomics.notify(this.#words, ENDED)
  }
}
