/**
 * Helpers of the core's tests: f64 tensors on `cpu`, closeness, exact bytes, and arrays with the naive indexing that
 * ops are compared with.
 */

import * as assert from 'uvu/assert'
import { add, assign, type Backend, cpu, mul, scope, sub, type Tensor } from '../../core/index.ts'
import { type Shape, sizeOf } from '../../core/shape.ts'
import { values } from '../near.ts'

/** An in-place write, as an optimizer does it: every element moves by 1. */
export function shiftInPlace(x: Tensor): void {
  assign([x], [add(x.detach(), 1)])
}

/** The derivative of f at x along v, by central differences of f's values. */
export function slope(f: (x: Tensor) => Tensor, x: Tensor, v: Tensor, h = 1e-5): number[] {
  const [plus, minus] = [f(add(x, mul(v, h))), f(sub(x, mul(v, h)))]
  return values(mul(sub(plus, minus), 1 / (2 * h)))
}

/** Runs `fn` in a scope and checks that the backend holds as many bytes and storages afterwards as before. */
export function leavesNothing(fn: () => void, backend: Backend = cpu): void {
  const before = backend.stats()
  scope(fn)
  const after = backend.stats()
  assert.is(after.bytes, before.bytes, 'bytes left behind')
  assert.is(after.storages, before.storages, 'storages left behind')
}

/** An array with a shape: what the naive references work on. */
export interface Grid {
  readonly shape: Shape
  readonly data: readonly number[]
}

/** The array of `shape` whose element at each index is `at(index)`. */
export function grid(shape: Shape, at: (index: readonly number[]) => number): Grid {
  const data: number[] = []
  const index = shape.map(() => 0)
  for (let i = 0; i < sizeOf(shape); i++) {
    let rest = i
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = rest % shape[axis]
      rest = Math.floor(rest / shape[axis])
    }
    data.push(at(index))
  }
  return { shape, data }
}

/** The element at `index`. */
export function at({ shape, data }: Grid, index: readonly number[]): number {
  return data[index.reduce((flat, i, axis) => flat * shape[axis] + i, 0)]
}

/** The element that broadcasting reads for `index` of the result: axes align at the end, size 1 stands for all. */
export function broadcastAt(x: Grid, index: readonly number[]): number {
  const own = index.slice(index.length - x.shape.length)
  return at(
    x,
    own.map((i, axis) => (x.shape[axis] === 1 ? 0 : i)),
  )
}
