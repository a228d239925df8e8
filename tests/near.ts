/** Comparison of tensors in tests: f64 on `cpu`, seeded normal numbers, elementwise closeness. */

import * as assert from 'uvu/assert'
import { cpu, rng, type Tensor } from '../core/index.ts'

export const f64 = { dtype: 'f64', backend: cpu } as const

/** Standard normal numbers, f64. */
export function normal(seed: number, ...shape: number[]): Tensor {
  return rng(seed).normal(shape, f64)
}

/** Fails, saying where, unless shapes are equal and elements within `tolerance`. */
export function near(got: Tensor, want: Tensor, tolerance: number, what: string): void {
  assert.equal(got.shape, want.shape, what)
  const [a, b] = [got.dataSync(), want.dataSync()]
  for (let i = 0; i < a.length; i++)
    assert.ok(Math.abs(a[i] - b[i]) <= tolerance, `${what}: expected ${b[i]} at ${i}, got ${a[i]}`)
}
