/** The wasm backend. See backend.ts. */

export { createWasm, type WasmBackend } from './backend.ts'
export type { Build, RuntimeOptions } from './runtime.ts'
