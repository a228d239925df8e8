/** The wasm backend's host in Node, Bun and Deno: worker threads, the number of cores and DEMASK_THREADS. Imports nothing of Node. */

import type { WasmHost } from './host.ts'

// A worker's life is one call into the module. It loads nothing else, so it inherits no loader hooks. The code is a block,
// because Bun and Deno evaluate it where `module` and `exports` are already declared.
const source = `{
  const { module, memory, index } = require('node:worker_threads').workerData
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  FILL_TABLE
  exports.work(index)
}`

export const nodeHost: WasmHost = {
  chooseThreads(wanted) {
    if (wanted !== undefined) return wanted
    const text = process.env.DEMASK_THREADS
    if (text === undefined || text === '') return process.getBuiltinModule('node:os').availableParallelism()
    const threads = Number(text)
    if (!Number.isInteger(threads) || threads < 1)
      throw new RangeError(`DEMASK_THREADS: expected an integer ≥ 1, got '${text}'`)
    return threads
  },

  // Node 20 has relaxed SIMD behind a flag, which later versions do not need and 24 complains of.
  enableRelaxedSimd() {
    if (Number.parseInt(process.versions.node, 10) < 22)
      process.getBuiltinModule('node:v8').setFlagsFromString('--experimental-wasm-relaxed-simd')
  },

  // The worker never keeps the process alive.
  startWorker(module, memory, index, fillTable) {
    const { Worker } = process.getBuiltinModule('node:worker_threads')
    const worker = new Worker(source.replace('FILL_TABLE', fillTable), {
      eval: true,
      execArgv: [],
      workerData: { module, memory, index },
    })
    worker.unref()
    worker.on('error', error => console.warn(`wasm: a worker ended: ${error.message}; continuing without it`))
    return () => void worker.terminate()
  },
}
