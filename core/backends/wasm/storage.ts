/**
 * A storage of the wasm backend, which is a block of linear memory, and the part of the backend that launchers use.
 */

import type { Backend, Operand, Spec, Storage } from '../../backend.ts'
import type { DType } from '../../dtype.ts'
import type { Address } from './memory.ts'
import type { Runtime } from './runtime.ts'

export class WasmStorage implements Storage {
  readonly backend: Backend
  readonly dtype: DType
  readonly length: number
  version = 0
  holds = 0
  /** The block and its first byte. */
  readonly block: number
  readonly address: Address

  constructor(backend: Backend, dtype: DType, length: number, block: number, address: Address) {
    this.backend = backend
    this.dtype = dtype
    this.length = length
    this.block = block
    this.address = address
  }
}

/** Returns the first byte of an operand, null for an operand that is absent. */
export function addressOf(x: Operand): Address
export function addressOf(x: Operand | null): Address | null
export function addressOf(x: Operand | null): Address | null {
  return x === null ? null : (x.storage as WasmStorage).address
}

/** The part of the backend that launchers use. */
export interface LaunchContext {
  readonly runtime: Runtime
  /** Memory for a result. */
  output(out: Spec): WasmStorage
  /** Runs `use` with the address of `bytes` bytes that are free again afterwards. */
  scratch<T>(bytes: number, use: (address: Address) => T): T
}

/** Elements that one chunk of a cheap kernel handles: large beside the cost of claiming it, small beside a tensor. */
export const CHUNK = 16384
