/** The wasm backend's host in a browser: Web Workers made from a Blob, where the page may share memory with them. */

import type { WasmHost } from './host.ts'

let hasWarned = false

export const webHost: WasmHost = {
  // Memory that cannot be shared means one thread, and one line that says why.
  chooseThreads(wanted) {
    if (globalThis.crossOriginIsolated) return wanted ?? navigator.hardwareConcurrency
    if (wanted !== 1 && !hasWarned) {
      hasWarned = true
      console.warn('wasm: one thread only: the page is not cross-origin isolated (it lacks COOP and COEP headers)')
    }
    return 1
  },

  enableRelaxedSimd() {}, // browsers have it on, or not at all

  startWorker(module, memory, index, fillTable) {
    const source = `onmessage = ({ data: { module, memory, index } }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  ${fillTable}
  exports.work(index)
}`
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }))
    const worker = new Worker(url)
    worker.onerror = ({ message }) => console.warn(`wasm: a worker ended: ${message}; continuing without it`)
    worker.postMessage({ module, memory, index })
    return () => {
      worker.terminate()
      URL.revokeObjectURL(url)
    }
  },
}
