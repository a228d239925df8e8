/**
 * Extrema over axes, and the statistics made of sums: mean and variance.
 */

import { aBoolean, aNumber, checkFloats, checkOptions } from '../arguments.ts'
import { reduceIdentity } from '../backend.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { reduceLoops } from '../backends/cpu/reduce.ts'
import { toNumber } from '../dtype.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { reducedShape, sizeOf } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { type Axes, broadcastTo, type ReduceAttrs, reductionCases, reductionOf, sum } from './broadcast.ts'
import { div, equal, square, sub } from './elementwise.ts'
import { reshape } from './movement.ts'
import { where, zero } from './where.ts'

addLoops(reduceLoops)

function extremum(name: 'max' | 'min') {
  return defineOp<Unary, ReduceAttrs, readonly [Tensor, Tensor]>({
    name,
    integers: true,
    differentiable: 'once',
    infer: ([x], { axes, keepDims }) => reducedShape(x, axes, keepDims),
    forward: (k, [x], { axes }, out) =>
      sizeOf(x.shape) === 0 ? k.fill(toNumber(out.dtype, reduceIdentity[name]), out) : k.reduce(name, x, axes, out),
    save: ([x], y) => [x, y],
    // Ties share the gradient. Beside a NaN, which is then the result, all gradients are NaN. Both as PyTorch's amax.
    vjp: (g, [x, y], { axes }, [shape]) => [
      () => {
        const kept = reducedShape(shape, axes, true)
        const extreme = reshape(y, kept)
        const hit = equal(x, broadcastTo(extreme, shape))
        const share = div(reshape(g, kept), sum(hit, axes, true))
        const miss = where(
          equal(extreme, extreme),
          zero(g),
          full([], Number.NaN, { dtype: g.dtype, backend: g.backend }),
        )
        return where(hit, share, miss)
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
  return apply(maxOp, [x], reductionOf('max', x, axes, keepDims))
}

/** Smallest element over axes. Throws ShapeError. */
export function min(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(minOp, [x], reductionOf('min', x, axes, keepDims))
}

/** Arithmetic mean over axes (default: all) of floats; shapes as of `sum`. Throws ShapeError. */
export function mean(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  checkFloats('mean', { x })
  const { axes: over } = reductionOf('mean', x, axes, keepDims)
  return div(sum(x, over, keepDims), sizeOf(over.map(axis => x.shape[axis])))
}

/** Options of `variance`. */
export interface VarianceOptions {
  /** Degrees of freedom that are subtracted from the number of elements. */
  readonly ddof?: number
  readonly keepDims?: boolean
}

/**
 * Variance over axes of floats: Σ(x − x̄)² / max(0, n − ddof). ddof 0 is the biased one, 1 the unbiased one; shapes as of
 * `sum`. Throws ShapeError.
 */
export function variance(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  checkFloats('variance', { x })
  checkOptions('variance', options, { ddof: aNumber, keepDims: aBoolean })
  const { ddof = 0, keepDims = false } = options
  const { axes: over } = reductionOf('variance', x, axes, keepDims)
  const n = sizeOf(over.map(axis => x.shape[axis]))
  return div(sum(square(sub(x, mean(x, over, true))), over, keepDims), Math.max(0, n - ddof))
}
