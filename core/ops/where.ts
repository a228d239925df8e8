/**
 * Selection by a condition. Gradients of a branch that was not taken are 0 by selection, never by a product with 0, which
 * would be NaN where a gradient is infinite.
 */

import { apply, defineOp, type None, type Unary } from '../op.ts'
import { broadcastShapes, type Shape } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { beside } from './scalar.ts'

const none: None = {}

const whereOp = /* @__PURE__ */ defineOp<readonly [Tensor, Tensor, Tensor], None, Unary>({
  name: 'where',
  integers: true,
  selector: { at: 0 },
  dtype: ([, a]) => a.dtype,
  infer: ([c, a, b]) => broadcastShapes('where', c, broadcastShapes('where', a, b)),
  forward: (k, [c, a, b], _, out) => k.where(c, a, b, out),
  save: ([c]) => [c],
  vjp: (g, [c]) => [() => zero(g, c.shape), () => where(c, g, zero(g)), () => zeroWhere(c, g)],
  samples: r => [
    { x: [r.indices(2, 3, 1, 5), r(3, 7, 5), r(5)], attrs: none },
    { x: [r.indices(2, 1031), r(1), r(1031)], attrs: none },
  ],
})

/**
 * a where the condition (any dtype) is not 0, else b; all three broadcast, and a and b may be numbers. The result has the
 * dtype of the tensor among a and b, else of the condition, which has no gradient. Throws ShapeError.
 */
export function where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof a === 'number') return chosen(condition, element(typeof b === 'number' ? condition : b, a), b)
  return chosen(condition, a, b)
}

function chosen(condition: Tensor, a: Tensor, b: Tensor | number): Tensor {
  return apply(whereOp, [condition, a, typeof b === 'number' ? element(a, b) : b], none)
}

/** A number as one element beside x. */
function element(x: Tensor, value: number): Tensor {
  beside('where', x, value)
  return full([], value, { dtype: x.dtype, backend: x.backend })
}

/** g, but 0 where the condition is not 0. */
export function zeroWhere(condition: Tensor, g: Tensor): Tensor {
  return where(condition, zero(g), g)
}

/** 0 in the dtype and on the backend of g, of `shape`. */
export function zero(g: Tensor, shape: Shape = []): Tensor {
  return full(shape, 0, { dtype: g.dtype, backend: g.backend })
}
