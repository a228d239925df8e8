/**
 * What is alive and where the time goes: `stats()` counts tensors and bytes, `profile(fn)` times every op of a run,
 * `firstNonFinite(fn)` names the op that made the first NaN or infinity.
 */

import type { Backend, BackendStats } from './backend.ts'
import { defaultBackend } from './default-backend.ts'
import { erase, observe } from './op.ts'
import type { Shape } from './shape.ts'
import { liveTensors } from './tensor.ts'

/** Live tensor handles of the process, and bytes, peak bytes, reads and fallbacks of one backend. */
export function stats(backend: Backend = defaultBackend()): BackendStats & { readonly tensors: number } {
  return { tensors: liveTensors(), ...backend.stats() }
}

export interface ProfileRow {
  readonly op: string
  calls: number
  ms: number
  flops: number
  /** Bytes of the operands and results. */
  bytes: number
}

/** Runs `fn` and adds up time, arithmetic and traffic per op, slowest first. On wasm and cpu dispatch is execution. */
export function profile(fn: () => void): ProfileRow[] {
  const rows = new Map<string, ProfileRow>()
  observe((op, x, attrs, results, ms) => {
    const { name, flops } = erase(op)
    let row = rows.get(name)
    if (row === undefined) {
      row = { op: name, calls: 0, ms: 0, flops: 0, bytes: 0 }
      rows.set(name, row)
    }
    row.calls++
    row.ms += ms
    row.flops += flops === undefined ? results[0].size : flops(x, attrs)
    for (const { size, dtype } of [...x, ...results]) row.bytes += size * (dtype === 'f64' ? 8 : 4)
  }, fn)
  return [...rows.values()].sort((a, b) => b.ms - a.ms)
}

export interface NonFinite {
  readonly op: string
  readonly shape: Shape
  /** How many ops had run before. */
  readonly position: number
}

class Found extends Error {
  readonly where: NonFinite
  constructor(where: NonFinite) {
    super(`${where.op} made a NaN or infinity`)
    this.where = where
  }
}

/** Runs `fn`, reading every result, and stops at the first op that made a NaN or infinity; null when none did. */
export function firstNonFinite(fn: () => void): NonFinite | null {
  let position = 0
  try {
    observe((op, _, __, results) => {
      for (const y of results)
        if (!y.dataSync().every(Number.isFinite)) throw new Found({ op: op.name, shape: y.shape, position })
      position++
    }, fn)
  } catch (error) {
    if (error instanceof Found) return error.where
    throw error
  }
  return null
}
