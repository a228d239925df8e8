/** What tests compare numbers with: f64 on `cpu`, seeded normal numbers, closeness by an absolute or a relative bound. */

import * as assert from 'uvu/assert'
import { cpu, type NestedNumbers, rng, Tensor, tensor } from '../core/index.ts'
import type { Shape } from '../core/shape.ts'

export const f64 = { dtype: 'f64', backend: cpu } as const

/** A tensor in f64 on `cpu`. */
export function tensor64(values: NestedNumbers, shape?: Shape): Tensor {
  return tensor(values, { ...f64, shape })
}

/** Standard normal numbers, f64 on `cpu`. */
export function normal(seed: number, ...shape: readonly number[]): Tensor {
  return rng(seed).normal(shape, f64)
}

/** Elements as plain numbers. */
export function values(x: Tensor): number[] {
  return Array.from(x.dataSync())
}

type Numbers = Tensor | ArrayLike<number> | number

/** Fails, saying where, unless |got − want| ≤ tolerance for every element, and shapes are equal; NaN is near nothing. */
export function near(got: Numbers, want: Numbers, tolerance = 1e-12, what = ''): void {
  compare(got, want, what, () => tolerance)
}

/** Fails, saying where, unless |got − want| ≤ tolerance · max(1, |want|) for every element; NaN is close to nothing. */
export function close(got: Numbers, want: Numbers, tolerance: number, what = ''): void {
  compare(got, want, what, each => tolerance * Math.max(1, Math.abs(each)))
}

function compare(got: Numbers, want: Numbers, what: string, bound: (want: number) => number): void {
  if (got instanceof Tensor && want instanceof Tensor) assert.equal(got.shape, want.shape, what)
  const [a, b] = [elementsOf(got), elementsOf(want)]
  assert.is(a.length, b.length, `${what} length`)
  for (let i = 0; i < a.length; i++)
    if (!(Math.abs(a[i] - b[i]) <= bound(b[i])))
      assert.unreachable(`${what} element ${i}: expected ${b[i]} to ${bound(b[i])}, got ${a[i]}`)
}

function elementsOf(x: Numbers): ArrayLike<number> {
  if (typeof x === 'number') return [x]
  return x instanceof Tensor ? x.dataSync() : x
}
