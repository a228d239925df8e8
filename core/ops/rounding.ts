/**
 * Rounding to integers, which has no gradient, and the remainder of a division.
 */

import { checkTensor } from '../arguments.ts'
import { apply, type Binary, defineOp, type None } from '../op.ts'
import { broadcastShapes } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { add, cast, div, floor, less, mul, neg, unary } from './elementwise.ts'
import { operands } from './operands.ts'
import { where, zero } from './where.ts'

const roundOp = unary({ name: 'round', integers: true, keeps: 'nothing', domain: 'distinct', differentiable: 'none' })

// a mod b is a − b ⌊a/b⌋, and ⌊a/b⌋ is piecewise constant.
const remainderOp = defineOp<Binary, None, Binary>({
  name: 'remainder',
  integers: true,
  differentiable: 'once',
  infer: ([a, b]) => broadcastShapes('remainder', a, b),
  forward: (k, [a, b], _, out) => k.binary('remainder', a, b, out),
  save: x => x,
  vjp: (g, [a, b]) => [() => g, () => neg(mul(g, floor(div(a, b))))],
  samples: r => {
    // Quotients stay away from integers.
    const quotients = (...shape: number[]) => add(mul(floor(mul(r(...shape), 4)), 2), 0.75)
    const case1 = { b: r.positive(3, 1, 5), q: quotients(3, 7, 5) }
    const case2 = { b: neg(r.positive(1)), q: quotients(1031) }
    return [case1, case2].map(({ b, q }) => ({ x: [cast(cast(mul(q, b), 'f32'), 'f64'), b] as const, attrs: {} }))
  },
})

/** The nearest integer, of two equally near ones the even one; no gradient: (…) → (…). */
export function round(x: Tensor): Tensor {
  return apply(roundOp, [x], {})
}

/** The smallest integer ≥ x; no gradient: (…) → (…). */
export function ceil(x: Tensor): Tensor {
  checkTensor('ceil', 'x', x)
  return neg(floor(neg(x)))
}

/** The integer part of x, towards 0; no gradient: (…) → (…). */
export function trunc(x: Tensor): Tensor {
  checkTensor('trunc', 'x', x)
  return where(less(x, zero(x)), ceil(x), floor(x))
}

/**
 * a − b ⌊a/b⌋, the remainder with the sign of b; broadcast, and either may be a number. By 0 it is NaN, of i32 it is 0. Throws
 * ShapeError.
 */
export function remainder(a: Tensor | number, b: Tensor | number): Tensor {
  return apply(remainderOp, operands('remainder', a, b), {})
}
