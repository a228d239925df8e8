/**
 * Elementary functions beside those of elementwise.ts.
 */

import { checkFloats } from '../arguments.ts'
import { apply, type Binary, defineOp, type None } from '../op.ts'
import { broadcastShapes } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { add, affine, cos, div, equal, exp, mul, neg, reciprocal, sin, square, unary } from './elementwise.ts'
import { operands } from './operands.ts'
import { where, zero, zeroWhere } from './where.ts'

const none: None = {}

const log1pOp = unary({ name: 'log1p', keeps: 'input', domain: 'positive', vjp: (g, x) => div(g, affine(x, 1, 1)) })
const expm1Op = unary({ name: 'expm1', keeps: 'input', vjp: (g, x) => mul(g, exp(x)) }) // 1 + y would cancel

const atan2Op = defineOp<Binary, None, Binary>({
  name: 'atan2',
  infer: ([y, x]) => broadcastShapes('atan2', y, x),
  forward: (k, [y, x], _, out) => k.binary('atan2', y, x, out),
  save: x => x,
  // At the origin the rule is 0 · ∞; there the gradient is 0, as in PyTorch.
  vjp: (g, [y, x]) => {
    const scaled = () => {
      const size = add(square(x), square(y))
      const origin = equal(size, zero(size))
      return zeroWhere(
        origin,
        mul(g, reciprocal(where(origin, full([], 1, { dtype: g.dtype, backend: g.backend }), size))),
      )
    }
    return [() => mul(scaled(), x), () => neg(mul(scaled(), y))]
  },
  samples: r => [
    { x: [r.distinct(3, 1, 5), r.positive(3, 7, 5)], attrs: none },
    { x: [r.distinct(1031), neg(r.positive(1))], attrs: none },
    { x: [neg(r.positive(1)), r.distinct(2, 3)], attrs: none },
  ],
})

/** log(1 + x), accurate near 0: (…) → (…). */
export function log1p(x: Tensor): Tensor {
  return apply(log1pOp, [x], none)
}

/** eˣ − 1, accurate near 0: (…) → (…). */
export function expm1(x: Tensor): Tensor {
  return apply(expm1Op, [x], none)
}

/** The tangent of x, in radians: (…) → (…). */
export function tan(x: Tensor): Tensor {
  checkFloats('tan', { x })
  return div(sin(x), cos(x))
}

/**
 * The angle of the point (x, y) from the positive x-axis, in radians, in [−π, π]; broadcast, and either may be a number. The
 * signs of zeros count: atan2(−0, −1) is −π. Its gradient at the origin is 0. Throws ShapeError.
 */
export function atan2(y: Tensor | number, x: Tensor | number): Tensor {
  return apply(atan2Op, operands('atan2', y, x), none)
}
