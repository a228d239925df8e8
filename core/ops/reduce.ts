/**
 * Reductions over axes, and what is made of them: mean, variance. Next: matmul.ts.
 */

import { apply, defineOp, type Unary } from '../op.ts'
import { axesOf, reducedShape, type Shape, sameShape, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { zero } from './branch.ts'
import { div, equal, mul, reciprocal, square, sub, where } from './elementwise.ts'
import { broadcastTo, reshape } from './movement.ts'

type Axes = number | readonly number[]
interface ReduceAttrs {
  readonly axes: readonly number[]
  readonly keepDims: boolean
}

const cases: readonly [Shape, readonly number[]][] = [
  [[3, 1, 5], [0]],
  [[3, 1, 5], [1]],
  [
    [3, 4, 5],
    [0, 2],
  ],
  [[1031], [0]],
  [[2, 1031, 3], [1]],
  [[3, 1031], [1]],
  [[], []],
]

const sumOp = defineOp<Unary, ReduceAttrs>({
  name: 'sum',
  infer: ([x], { axes, keepDims }) => reducedShape(x, axes, keepDims),
  forward: (k, [x], { axes }, out) => k.reduce('sum', x, axes, out),
  vjp: (g, _, { axes }, [x]) => [() => broadcastTo(reshape(g, reducedShape(x, axes, true)), x)],
  flops: ([x]) => x.size,
  samples: r => cases.map(([shape, axes], i) => ({ x: [r(...shape)], attrs: { axes, keepDims: i % 2 === 1 } })),
})

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
    samples: r => cases.map(([s, axes], i) => ({ x: [r.distinct(...s)], attrs: { axes, keepDims: i % 2 === 1 } })),
  })
}

const maxOp = extremum('max')
const minOp = extremum('min')

/**
 * Sum over axes (all unless said), which the shape of the result lacks, or has with size 1 where `keepDims`. Throws
 * ShapeError.
 */
export function sum(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(sumOp, [x], { axes: axesOf('sum', axes, x.shape.length), keepDims })
}

/** Largest element over axes. Throws ShapeError. */
export function max(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(maxOp, [x], { axes: axesOf('max', axes, x.shape.length), keepDims })
}

/** Smallest element over axes. Throws ShapeError. */
export function min(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(minOp, [x], { axes: axesOf('min', axes, x.shape.length), keepDims })
}

/** Undoes broadcasting: sums x over the axes along which `shape` was repeated to give x's shape. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x
  const lead = x.shape.length - shape.length
  const repeated = x.shape.flatMap((n, i) => (i < lead || (shape[i - lead] === 1 && n !== 1) ? [i] : []))
  return reshape(sum(x, repeated), shape)
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
