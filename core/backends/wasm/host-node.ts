/**
 * What the wasm backend needs of Node: the flag that turns relaxed SIMD on in Node 20, worker threads, the number of
 * cores and DEMASK_THREADS. Chosen by the "#wasm-host" import of package.json; host-web.ts is its twin in browsers.
 */

import { availableParallelism } from 'node:os'
import { setFlagsFromString } from 'node:v8'
import { Worker } from 'node:worker_threads'

/** Threads to use: as many as wanted, else DEMASK_THREADS, else one per core. Throws where that is no number of threads. */
export function chooseThreads(wanted: number | undefined): number {
  if (wanted !== undefined) return wanted
  const text = process.env.DEMASK_THREADS
  if (text === undefined || text === '') return availableParallelism()
  const threads = Number(text)
  if (!Number.isInteger(threads) || threads < 1)
    throw new RangeError(`DEMASK_THREADS: wanted a whole number of at least 1, got '${text}'`)
  return threads
}

/** Node 20 knows relaxed SIMD but keeps it behind a flag, which later ones do not need and 24 complains of. */
export function enableRelaxedSimd(): void {
  if (Number.parseInt(process.versions.node, 10) < 22) setFlagsFromString('--experimental-wasm-relaxed-simd')
}

// The worker's life is one call into the module. It loads nothing else, so no loader hooks are inherited.
const source = `const { module, memory, index } = require('node:worker_threads').workerData
const { exports } = new WebAssembly.Instance(module, { env: { memory } })
FILL_TABLE
exports.work(index)`

/** Starts a worker that takes chunks; returns at once. The worker never keeps the process alive. */
export function startWorker(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  index: number,
  fillTable: string,
): () => void {
  const worker = new Worker(source.replace('FILL_TABLE', fillTable), {
    eval: true,
    execArgv: [],
    workerData: { module, memory, index },
  })
  worker.unref()
  worker.on('error', error => console.warn(`wasm: a worker ended: ${error.message}; going on without it`))
  return () => void worker.terminate()
}
