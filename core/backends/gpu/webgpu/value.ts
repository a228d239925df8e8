/**
 * A handle of the WebGPU device: elements in a buffer, or an elementwise expression that is computed when they are
 * needed (expressions.ts). A value that is released while expressions wait to read it keeps its buffer for them.
 */

import type { Access, Term } from '../program.ts'
import type { PooledBuffer } from './pool.ts'

/** A term on operands. */
export interface Expression {
  readonly term: Term
  readonly operands: readonly Value[]
  readonly accesses: readonly Access[]
  readonly numbers: readonly number[]
  /** Values in buffers that it reads, directly or through waiting operands. */
  readonly leaves: readonly Value[]
  /** Terms, and words of the uniform block, of this expression and its waiting operands. */
  readonly terms: number
  readonly words: number
}

/** An array on the device. */
export class Value {
  readonly size: number
  /** Null while it waits to be computed, and after the last use. */
  buffer: PooledBuffer | null = null
  /** Null once computed. */
  expression: Expression | null = null
  /** The value of every element, where the host knows it. */
  constant: number | null = null
  /** Operands of waiting expressions that are this value. */
  readers = 0
  /** False after its release. */
  held = true
  /** True from when a dispatch that writes it is put together until it is recorded. */
  planned = false
  /** Number of the job that met the value last, readers that end with that job, and its place among nodes or leaves. */
  job = 0
  seen = 0
  place = 0

  constructor(size: number) {
    this.size = size
  }
}
