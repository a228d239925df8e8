/**
 * Running sums. Where a backend has no kernel, a sum over n elements takes ⌈log₂ n⌉ passes: each adds the array to itself,
 * shifted by twice as much as the pass before.
 */

import { checkTensor } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { scanLoops } from '../backends/cpu/scan.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { axisOf, type Shape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { add } from './elementwise.ts'
import { pad, slice } from './movement.ts'

addLoops(scanLoops)

interface CumsumAttrs {
  readonly axis: number
  /** Sums from the end. */
  readonly reverse: boolean
}

const cases: readonly [Shape, number][] = [
  [[3, 1, 5], 0],
  [[2, 7, 3], 1],
  [[3, 1031], 1],
  [[1031, 6], 0],
  [[1], 0],
]

const cumsumOp = defineOp<Unary, CumsumAttrs>({
  name: 'cumsum',
  integers: true,
  infer: ([x]) => x,
  forward: (k, [x], { axis, reverse }, out) => k.cumsum?.(x, axis, reverse, out),
  decompose: ([x], { axis, reverse }) => {
    const n = x.shape[axis]
    let sums = x
    for (let step = 1; step < n; step *= 2) sums = add(sums, shifted(sums, axis, reverse ? -step : step))
    return sums
  },
  vjp: (g, _, { axis, reverse }) => [() => scan(g, axis, !reverse)],
  samples: r =>
    cases.flatMap(([shape, axis]) => [false, true].map(reverse => ({ x: [r(...shape)], attrs: { axis, reverse } }))),
})

function scan(x: Tensor, axis: number, reverse: boolean): Tensor {
  return apply(cumsumOp, [x], { axis, reverse })
}

/** x moved by `step` along an axis, with 0 where nothing came from. */
function shifted(x: Tensor, axis: number, step: number): Tensor {
  const n = x.shape[axis]
  const kept = step > 0 ? slice(x, axis, 0, n - step) : slice(x, axis, -step, n)
  return pad(
    kept,
    x.shape.map((_, i) => (i === axis ? Math.max(0, step) : 0)),
    x.shape,
  )
}

/** Sums of the elements up to each one along an axis: (…) → (…). Sums of i32 wrap around. Throws ShapeError. */
export function cumsum(x: Tensor, axis: number): Tensor {
  checkTensor('cumsum', 'x', x)
  return scan(x, axisOf('cumsum', axis, x.shape.length), false)
}
