/**
 * What the wasm backend needs of a browser: Web Workers made from a Blob, where the page may share memory with them.
 * Chosen by the "#wasm-host" import of package.json; host-node.ts is its twin in Node.
 */

let said = false

/** Threads to use: as many as wanted or one per core; where memory cannot be shared one, and a line that says why. */
export function chooseThreads(wanted: number | undefined): number {
  if (globalThis.crossOriginIsolated) return wanted ?? navigator.hardwareConcurrency
  if (wanted !== 1 && !said) {
    said = true
    console.warn('wasm: one thread only: the page is not cross-origin isolated (it lacks COOP and COEP headers)')
  }
  return 1
}

/** Browsers have relaxed SIMD on or not at all. */
export function enableRelaxedSimd(): void {}

/** Starts a worker that takes chunks; returns at once. */
export function startWorker(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  index: number,
  fillTable: string,
): () => void {
  const source = `onmessage = ({ data: { module, memory, index } }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  ${fillTable}
  exports.work(index)
}`
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }))
  const worker = new Worker(url)
  worker.onerror = ({ message }) => console.warn(`wasm: a worker ended: ${message}; going on without it`)
  worker.postMessage({ module, memory, index })
  return () => {
    worker.terminate()
    URL.revokeObjectURL(url)
  }
}
