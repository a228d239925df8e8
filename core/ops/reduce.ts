/**
 * Extrema over axes, and the statistics made of sums: mean and variance. Next: matmul.ts.
 */

import { apply, defineOp, type Unary } from '../op.ts'
import { axesOf, reducedShape, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { type Axes, broadcastTo, type ReduceAttrs, reductionCases, sum } from './broadcast.ts'
import { div, equal, mul, reciprocal, square, sub } from './elementwise.ts'
import { reshape } from './movement.ts'
import { where, zero } from './where.ts'

function extremum(name: 'max' | 'min') {
  return defineOp<Unary, ReduceAttrs, readonly [Tensor, Tensor]>({
    name,
    differentiable: 'once',
    infer: ([x], { axes, keepDims }) => reducedShape(x, axes, keepDims),
    forward: (k, [x], { axes }, out) => k.reduce(name, x, axes, out),
    save: ([x], y) => [x, y],
    // Ties share the gradient, as PyTorch's amax has it.
    vjp: (g, [x, y], { axes }, [shape]) => [
      () => {
        const kept = reducedShape(shape, axes, true)
        const hit = equal(x, broadcastTo(reshape(y, kept), shape))
        const share = mul(reshape(g, kept), reciprocal(sum(hit, axes, true)))
        return where(hit, share, zero(g))
      },
    ],
    flops: ([x]) => x.size,
    samples: r =>
      reductionCases.map(([s, axes], i) => ({ x: [r.distinct(...s)], attrs: { axes, keepDims: i % 2 === 1 } })),
  })
}

const maxOp = extremum('max')
const minOp = extremum('min')

/** Largest element over axes. Throws ShapeError. */
export function max(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(maxOp, [x], { axes: axesOf('max', axes, x.shape.length), keepDims })
}

/** Smallest element over axes. Throws ShapeError. */
export function min(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(minOp, [x], { axes: axesOf('min', axes, x.shape.length), keepDims })
}

/** Arithmetic mean over axes (all unless said); shapes as of `sum`. Throws ShapeError. */
export function mean(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const over = axesOf('mean', axes, x.shape.length)
  return div(sum(x, over, keepDims), sizeOf(over.map(axis => x.shape[axis])))
}

/**
 * Variance over axes: Σ(x − x̄)² / (n − ddof). ddof 0 is the biased one, 1 the unbiased one; shapes as of `sum`. Throws
 * ShapeError.
 */
export function variance(x: Tensor, axes?: Axes, { ddof = 0, keepDims = false } = {}): Tensor {
  const over = axesOf('variance', axes, x.shape.length)
  const n = sizeOf(over.map(axis => x.shape[axis]))
  return div(sum(square(sub(x, mean(x, over, true))), over, keepDims), n - ddof)
}
