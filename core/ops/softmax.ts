/**
 * Softmax and log-softmax over one axis.
 */

import { checkFloats } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { softmaxLoops } from '../backends/cpu/softmax.ts'
import { apply, type Binary, defineOp, type None, type Unary } from '../op.ts'
import { axisOf, checkShape, type Shape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { div, exp, log, mul, sub } from './elementwise.ts'
import { permute } from './movement.ts'
import { max } from './reduce.ts'

addLoops(softmaxLoops)

const shapes: readonly Shape[] = [
  [3, 4, 5],
  [2, 1],
  [1, 1, 7],
  [3, 1031],
]

const softmaxOp = defineOp<Unary, None, Unary>({
  name: 'softmax',
  infer: ([x]) => x,
  forward: (k, [x], _, out) => k.softmax?.(x, out),
  decompose: ([x]) => {
    const e = exp(sub(x, max(x.detach(), -1, true))) // the shift changes no value, only the range
    return div(e, sum(e, -1, true))
  },
  save: (_, y) => [y],
  vjp: (g, [y]) => [() => softmaxGrad(g, y)],
  samples: r => shapes.map(shape => ({ x: [r(...shape)] as const, attrs: {} })),
})

const softmaxGradOp = defineOp<Binary, None>({
  name: 'softmaxGrad',
  infer: ([g, y]) => {
    checkShape('softmaxGrad', 'g', g, y)
    axisOf('softmaxGrad', -1, y.length)
    return y
  },
  forward: (k, [g, y], _, out) => k.softmaxGrad?.(g, y, out),
  decompose: ([g, y]) => mul(y, sub(g, sum(mul(g, y), -1, true))),
  samples: r => shapes.map(shape => ({ x: [r(...shape), softmax(r(...shape))] as const, attrs: {} })),
})

const logSoftmaxOp = defineOp<Unary, None, Unary>({
  name: 'logSoftmax',
  infer: ([x]) => x,
  forward: (k, [x], _, out) => k.logSoftmax?.(x, out),
  decompose: ([x]) => {
    const shifted = sub(x, max(x.detach(), -1, true))
    return sub(shifted, log(sum(exp(shifted), -1, true)))
  },
  save: (_, y) => [y],
  vjp: (g, [y]) => [() => logSoftmaxGrad(g, y)],
  samples: r => shapes.map(shape => ({ x: [r(...shape)] as const, attrs: {} })),
})

const logSoftmaxGradOp = defineOp<Binary, None>({
  name: 'logSoftmaxGrad',
  infer: ([g, y]) => {
    checkShape('logSoftmaxGrad', 'g', g, y)
    axisOf('logSoftmaxGrad', -1, y.length)
    return y
  },
  forward: (k, [g, y], _, out) => k.logSoftmaxGrad?.(g, y, out),
  decompose: ([g, y]) => sub(g, mul(exp(y), sum(g, -1, true))),
  samples: r => shapes.map(shape => ({ x: [r(...shape), logSoftmax(r(...shape))] as const, attrs: {} })),
})

/** y ⊙ (g − Σ g ⊙ y) over the last axis, (…, D): the gradient of softmax from its result. Throws ShapeError. */
export function softmaxGrad(g: Tensor, y: Tensor): Tensor {
  return apply(softmaxGradOp, [g, y], {})
}

/** g − eʸ Σ g over the last axis, (…, D): the gradient of logSoftmax from its result. Throws ShapeError. */
export function logSoftmaxGrad(g: Tensor, y: Tensor): Tensor {
  return apply(logSoftmaxGradOp, [g, y], {})
}

/** Runs `f`, which works on the last axis, on another one. */
function along(op: string, axis: number, x: Tensor, f: (x: Tensor) => Tensor): Tensor {
  checkFloats(op, { x })
  const [i, last] = [axisOf(op, axis, x.shape.length), x.shape.length - 1]
  if (i === last) return f(x)
  const order = x.shape.map((_, k) => (k === i ? last : k === last ? i : k)) // its own inverse
  return permute(f(permute(x, order)), order)
}

/** exp(x) / Σ exp(x) along an axis: (…) → (…). */
export function softmax(x: Tensor, axis = -1): Tensor {
  return along('softmax', axis, x, y => apply(softmaxOp, [y], {}))
}

/** log softmax(x) along an axis: (…) → (…). */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return along('logSoftmax', axis, x, y => apply(logSoftmaxOp, [y], {}))
}
