/**
 * A storage of the wasm backend: a block of linear memory. And what launchers need of the backend around them.
 * Next: launch/elementwise.ts.
 */

import type { Backend, Operand, Spec, Storage } from '../../backend.ts'
import type { DType } from '../../dtype.ts'
import type { Runtime } from './runtime.ts'

export class WasmStorage implements Storage {
  readonly backend: Backend
  readonly dtype: DType
  readonly length: number
  version = 0
  holds = 0
  /** The block and its first byte, as 32 unsigned bits. */
  readonly block: number
  readonly address: number

  constructor(backend: Backend, dtype: DType, length: number, block: number, address: number) {
    this.backend = backend
    this.dtype = dtype
    this.length = length
    this.block = block
    this.address = address
  }
}

/** First byte of an operand. */
export function addressOf(x: Operand): number {
  return (x.storage as WasmStorage).address
}

/** The backend as launchers see it. */
export interface LaunchContext {
  readonly runtime: Runtime
  /** Memory for a result. */
  output(out: Spec): WasmStorage
  /** Runs `use` with the address of `bytes` bytes that are free again afterwards. */
  scratch<T>(bytes: number, use: (address: number) => T): T
}

/** Elements that one chunk of a cheap kernel handles: large beside the cost of claiming it, small beside a tensor. */
export const CHUNK = 16384

/** ⌈a / b⌉ */
export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b)
}
