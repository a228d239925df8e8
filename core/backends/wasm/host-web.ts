/**
 * What the wasm backend needs of a browser: Web Workers made from a Blob, where the page may share memory with them.
 * Chosen by the "#wasm-host" import of package.json; host-node.ts is its twin in Node.
 */

/** One thread per core where memory can be shared; else one, and a line that says why. */
export function defaultThreads(): number {
  if (globalThis.crossOriginIsolated) return navigator.hardwareConcurrency
  console.warn('wasm: the page is not cross-origin isolated (COOP and COEP headers), so there is one thread')
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
  worker.postMessage({ module, memory, index })
  return () => {
    worker.terminate()
    URL.revokeObjectURL(url)
  }
}
