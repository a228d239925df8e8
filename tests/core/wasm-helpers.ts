/**
 * Helpers of the tests of the wasm backend: one backend per build and one with two threads, inputs with the same values
 * on all of them and on cpu in f64, and the comparison.
 */

import * as assert from 'uvu/assert'
import type { FusedKernels, Kernels, Operand, Storage, UpdateKernels } from '../../core/backend.ts'
import { createWasm, type WasmBackend } from '../../core/backends/wasm/index.ts'
import { cpu } from '../../core/index.ts'
import { rng } from '../../core/random.ts'
import { type Shape, sizeOf } from '../../core/shape.ts'

export const relaxed = await createWasm({ threads: 1, build: 'relaxed' })
const plain = await createWasm({ threads: 1, build: 'simd' })
const threaded = await createWasm({ threads: 2, build: 'relaxed' })
const backends = [relaxed, plain, threaded]

/** Ends their threads. */
export function disposeAll(): void {
  for (const backend of backends) backend.dispose()
}

/** Kernels of cpu and wasm. */
export type AllKernels = Kernels & FusedKernels & UpdateKernels

/** The same values on cpu in f64 and, rounded to f32 before, on every wasm backend. */
export interface Input {
  readonly shape: Shape
  readonly on: ReadonlyMap<unknown, Operand>
}

const random = rng(7)

export function input(values: Float32Array | Int32Array, shape: Shape): Input {
  const dtype = values instanceof Int32Array ? 'i32' : 'f32'
  const on = new Map<unknown, Operand>()
  for (const backend of backends) {
    const storage = backend.alloc(dtype, values.length)
    backend.write(storage, values)
    on.set(backend, { shape, dtype, storage })
  }
  const exact = dtype === 'i32' ? 'i32' : 'f64'
  const storage = cpu.alloc(exact, values.length)
  cpu.write(storage, dtype === 'i32' ? values : Float64Array.from(values))
  on.set(cpu, { shape, dtype: exact, storage })
  return { shape, on }
}

/** Uniform in [low, high). */
export function floats(shape: Shape, low = -2, high = 2): Input {
  return input(
    random.uniformArray(sizeOf(shape)).map(u => low + (high - low) * u),
    shape,
  )
}

/** Whole numbers in [low, high). */
export function ints(shape: Shape, low: number, high: number): Input {
  return input(random.integersArray(low, high, sizeOf(shape)), shape)
}

/**
 * Runs a kernel on cpu in f64 and on every wasm backend and compares: |got − wanted| ≤ tolerance·(floor + |wanted|).
 * One and two threads must agree in every bit, no fallback may have run, and no bytes may be left.
 */
export function check(
  label: string,
  inputs: readonly (Input | null)[],
  run: (k: AllKernels, x: Operand[], dtype: 'f32' | 'f64') => Storage | Storage[],
  { tolerance = 1e-6, floor = 1 } = {},
): void {
  const results = (backend: typeof cpu | WasmBackend): number[][] => {
    const before = backend.stats()
    const operands = inputs.map(x => (x === null ? null : x.on.get(backend)!)) as Operand[]
    const made = [run(backend.kernels as AllKernels, operands, backend === cpu ? 'f64' : 'f32')].flat()
    const values = made.map(storage => [...backend.readSync!(storage)])
    for (const storage of made) backend.free(storage)
    assert.is(backend.stats().bytes, before.bytes, `${label}: bytes on ${backend.name}`)
    assert.is(backend.stats().fallbacks, before.fallbacks, `${label}: fallbacks`)
    return values
  }
  const wanted = results(cpu)
  const all = backends.map(results)
  for (const [b, got] of all.entries()) {
    assert.is(got.length, wanted.length, `${label}: number of results`)
    got.forEach((values, r) => {
      assert.is(values.length, wanted[r].length, `${label}: length of result ${r}`)
      values.forEach((value, i) => {
        const target = wanted[r][i]
        const fits =
          Object.is(value, target) ||
          value === target ||
          Math.abs(value - target) <= tolerance * (floor + Math.abs(target))
        if (!fits)
          assert.unreachable(
            `${label} on ${backends[b].build}×${backends[b].threads}, result ${r}[${i}]: expected ${target}, got ${value}`,
          )
      })
    })
  }
  assert.equal(all[2], all[0], `${label}: two threads differ from one`)
  for (const x of inputs) for (const operand of x?.on.values() ?? []) operand.storage.backend.free(operand.storage)
}

/** Shape and dtype of a kernel's result. */
export const spec = (shape: Shape, dtype: 'f32' | 'f64') => ({ shape, dtype })
