/**
 * Memory and time: `stats()` counts tensors and bytes, `profile(fn)` times every op of a run,
 * `firstNonFinite(fn)` names the op that made the first NaN or infinity.
 */

import type { Backend, BackendStats } from './backend.ts'
import { defaultBackend } from './default-backend.ts'
import { bytesPerElement } from './dtype.ts'
import { label, noGrad } from './graph.ts'
import { type AnyOp, observe, untyped } from './op.ts'
import { add, cast, isFinite as finite, mul } from './ops/elementwise.ts'
import { min } from './ops/reduce.ts'
import { scope } from './scope.ts'
import type { Shape } from './shape.ts'
import { checkFunction, checkSynchronous } from './synchronous.ts'
import { liveTensors, ones, type Tensor, zeros } from './tensor.ts'
import type { AnyUpdate } from './update.ts'

/** Live tensor handles of the process, and bytes, peak bytes, reads and fallbacks of one backend. */
export function stats(backend: Backend = defaultBackend()): BackendStats & { readonly tensors: number } {
  return { tensors: liveTensors(), ...backend.stats() }
}

/** Cost of an op over all its calls. */
export interface ProfileRow {
  readonly op: string
  calls: number
  ms: number
  flops: number
  /** Bytes of the operands and results. */
  bytes: number
}

/**
 * Runs `fn` and adds up time, arithmetic and traffic per op, slowest first. On wasm and cpu dispatch is execution. Throws
 * if `fn` returns a promise.
 */
export function profile(fn: () => void): ProfileRow[] {
  checkFunction('profile', fn)
  const rows = new Map<string, ProfileRow>()
  observe(
    (op, x, attrs, results, ms) => {
      const { name } = op
      let row = rows.get(name)
      if (row === undefined) {
        row = { op: name, calls: 0, ms: 0, flops: 0, bytes: 0 }
        rows.set(name, row)
      }
      row.calls++
      row.ms += ms
      row.flops += flopsOf(op, x, attrs, results)
      for (const { size, dtype } of [...x, ...results]) row.bytes += size * bytesPerElement[dtype]
    },
    () => checkSynchronous('profile', fn()),
  )
  return [...rows.values()].sort((a, b) => b.ms - a.ms)
}

function flopsOf(op: AnyOp | AnyUpdate, x: readonly Tensor[], attrs: unknown, results: readonly Tensor[]): number {
  if ('fields' in op) return op.flops * results.reduce((n, { size }) => n + size, 0)
  return untyped(op).flops?.(x, attrs) ?? results[0].size
}

/** The first value that was NaN or infinite: who made it. */
export interface NonFinite {
  readonly op: string
  readonly shape: Shape
  /** Number of ops that ran before. */
  readonly position: number
  /** Label of the innermost `labelled` call; null outside of one. */
  readonly label: string | null
}

/** State of the check on one backend, as scalars there. */
interface Sound {
  /** 1 while all were finite. */
  all: Tensor
  /** Number of finite results before the first that is not. */
  count: Tensor
  /** Who made each. */
  readonly makers: NonFinite[]
}

/**
 * Runs `fn` and tells the first op that made a NaN or infinity; null when none did. Results are looked at where they
 * are, and what was found is read once, after all of it.
 */
export async function firstNonFinite(fn: () => void): Promise<NonFinite | null> {
  checkFunction('firstNonFinite', fn)
  const backends = new Map<Backend, Sound>()
  let position = 0
  let looking = false
  try {
    observe(
      ({ name }, _, __, results) => {
        if (looking) return // these ops are our own
        looking = true
        for (const y of results) {
          if (y.dtype === 'i32' || y.size === 0) continue
          const sound = backends.get(y.backend) ?? start(y.backend)
          backends.set(y.backend, sound)
          look(sound, y)
          sound.makers.push({ op: name, shape: y.shape, position, label: label() })
        }
        position++
        looking = false
      },
      () => checkSynchronous('firstNonFinite', fn()),
    )
    const found: NonFinite[] = []
    for (const { count, makers } of backends.values()) {
      const n = await count.item()
      if (n < makers.length) found.push(makers[n])
    }
    return found.sort((a, b) => a.position - b.position)[0] ?? null
  } finally {
    for (const { all, count } of backends.values()) for (const x of [all, count]) x.dispose()
  }
}

function start(backend: Backend): Sound {
  return {
    all: ones([], { backend, dtype: 'f32' }).persist(),
    count: zeros([], { backend, dtype: 'f32' }).persist(),
    makers: [],
  }
}

/** Counts `y` where it and all before it are finite. */
function look(sound: Sound, y: Tensor): void {
  const { all, count } = sound
  noGrad(() =>
    scope(() => {
      const finiteHere = cast(min(finite(y)), 'f32')
      sound.all = mul(all, finiteHere).persist()
      sound.count = add(count, sound.all).persist()
    }),
  )
  all.dispose()
  count.dispose()
}
