/**
 * Tests that run on every backend: `everywhere` compares results with their values to the bit, `refused` expects an error.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { type Backend, cpu, type DType, gradients, scope, sum, type Tensor, tensor } from '../../core/index.ts'

export interface Place {
  readonly backend: Backend
  readonly dtype: DType
}

export const places: Readonly<Record<string, Place>> = {
  'cpu f64': { backend: cpu, dtype: 'f64' },
  'cpu f32': { backend: cpu, dtype: 'f32' },
  wasm: { backend: await createWasm({ threads: 2 }), dtype: 'f32' },
  'wasm simd': { backend: await createWasm({ threads: 1, build: 'simd' }), dtype: 'f32' },
  gpu: { backend: await gpu({ device: 'cpu' }), dtype: 'f32' },
}

export const { NaN: nan, POSITIVE_INFINITY: inf } = Number
export type Numbers = ArrayLike<number>

/** Makes tensors on one place, in its float dtype and in i32. */
export interface Make {
  readonly f: (values: number | readonly number[], shape?: readonly number[]) => Tensor
  readonly i: (values: number | readonly number[], shape?: readonly number[]) => Tensor
  readonly place: Place
}

/** A test on every place: `cases` returns pairs of a result and its values, which must be the same to the bit. */
export function everywhere(name: string, cases: (make: Make) => readonly (readonly [Tensor, Numbers])[]): void {
  for (const [where, place] of Object.entries(places))
    test(`${name}: ${where}`, async () => {
      const { backend, dtype } = place
      const results = scope(() =>
        cases({
          f: (values, shape) => tensor(values, { backend, dtype, shape }),
          i: (values, shape) => tensor(values, { backend, dtype: 'i32', shape }),
          place,
        }),
      )
      for (const [k, [result, wanted]] of results.entries()) {
        assert.equal(signed(await result.data()), signed(wanted), `case ${k}`)
        result.dispose()
      }
    })
}

/** Numbers, with −0 told from 0. */
function signed(values: Numbers): (number | string)[] {
  return Array.from(values, v => (Object.is(v, -0) ? '-0' : v))
}

/** The gradient of Σ f(x) by x. */
export function gradientOf(f: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const leaf = x.detach().requireGrad()
  return gradients(sum(f(leaf)), [leaf])[0]
}

/** Runs `f` on every place and expects it to throw `message`. */
export function refused(name: string, message: string | RegExp, f: (make: Make) => unknown): void {
  for (const [where, place] of Object.entries(places))
    test(`${name}: ${where}`, () => {
      const { backend, dtype } = place
      const make: Make = {
        f: (values, shape) => tensor(values, { backend, dtype, shape }),
        i: (values, shape) => tensor(values, { backend, dtype: 'i32', shape }),
        place,
      }
      try {
        scope(() => void f(make))
      } catch (error) {
        const said = (error as Error).message
        if (typeof message === 'string') assert.is(said, message)
        else assert.match(said, message)
        return
      }
      assert.unreachable('threw nothing')
    })
}

test.after(() => {
  for (const { backend } of Object.values(places)) backend.dispose()
})
