/**
 * The wasm backend's host: threads, their number, and relaxed SIMD. Node, Bun and Deno are found at run
 * time, by `process.getBuiltinModule`, so no import condition and no bundler setting is needed.
 */

import { nodeHost } from './host-node.ts'
import { webHost } from './host-web.ts'

export interface WasmHost {
  /** Returns the number of threads to use: `wanted`, or else the machine's. Throws RangeError on a setting that is no number of threads. */
  chooseThreads(wanted: number | undefined): number
  /** Turns on relaxed SIMD where the engine keeps it behind a flag. */
  enableRelaxedSimd(): void
  /**
   * Starts a worker that takes chunks, and returns at once the function that ends it. `fillTable` is the source that fills the
   * function table. Throws where the system allows no further thread.
   */
  startWorker(module: WebAssembly.Module, memory: WebAssembly.Memory, index: number, fillTable: string): () => void
}

/** The host of this JavaScript engine. */
export const host: WasmHost = typeof globalThis.process?.getBuiltinModule === 'function' ? nodeHost : webHost
