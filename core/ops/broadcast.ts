/**
 * Sums over axes and broadcasting, each the adjoint of the other.
 */

import { aBoolean, aNumber, check, checkTensor, either, type Kind, numbers, optional } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { reduceLoops } from '../backends/cpu/reduce.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { axesOf, broadcastShapes, reducedShape, type Shape, ShapeError, sameShape, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { reshape } from './movement.ts'
import { withNumber } from './scalar.ts'

addLoops(reduceLoops)

/** Axes to reduce: one or several, counted from the front or, if negative, from the back. */
export type Axes = number | readonly number[]

/** Attributes of a reduction. */
export interface ReduceAttrs {
  readonly axes: readonly number[]
  readonly keepDims: boolean
}

/** Shapes and axes on which reductions are tested. */
export const reductionCases: readonly [Shape, readonly number[]][] = [
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
  integers: true,
  infer: ([x], { axes, keepDims }) => reducedShape(x, axes, keepDims),
  forward: (k, [x], { axes }, out) => k.reduce('sum', x, axes, out),
  vjp: (g, _, { axes }, [x]) => [() => broadcastTo(reshape(g, reducedShape(x, axes, true)), x)],
  flops: ([x]) => x.size,
  samples: r =>
    reductionCases.map(([shape, axes], i) => ({ x: [r(...shape)], attrs: { axes, keepDims: i % 2 === 1 } })),
})

/**
 * Sum over axes (default: all), which the shape of the result lacks, or has with size 1 where `keepDims`. Throws
 * ShapeError.
 */
export function sum(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return apply(sumOp, [x], reductionOf('sum', x, axes, keepDims))
}

/** One number or several: an axis and axes, a count and counts. */
export const aNumberOrNumbers: Kind = either(aNumber, numbers)
const axesKind = optional(aNumberOrNumbers)

/** Attributes of a reduction of x. Throws unless the arguments are of their kinds. */
export function reductionOf(op: string, x: Tensor, axes: Axes | undefined, keepDims: boolean): ReduceAttrs {
  checkTensor(op, 'x', x)
  check(op, 'axes', axes, axesKind)
  check(op, 'keepDims', keepDims, aBoolean)
  return { axes: axesOf(op, axes, x.shape.length), keepDims }
}

const broadcastOp = defineOp<Unary, { readonly shape: Shape }>({
  name: 'broadcastTo',
  integers: true,
  infer: ([x], { shape }) => {
    if (!sameShape(broadcastShapes('broadcastTo', x, shape), shape))
      throw new ShapeError(`broadcastTo: expected a shape that broadcasts to ${show(shape)}, got ${show(x)}`)
    return shape
  },
  // A binary kernel reads its operands broadcast, and adding −0 changes no value: 0 − 0 is 0, −0 − 0 is −0.
  forward: (k, [x], _, out) => withNumber(k, 'add', x, -0, out),
  vjp: (g, _, __, [shape]) => [() => sumTo(g, shape)],
  samples: r => [
    { x: [r(3, 1, 5)], attrs: { shape: [2, 3, 4, 5] } },
    { x: [r(1)], attrs: { shape: [1031] } },
    { x: [r()], attrs: { shape: [2, 3] } },
  ],
})

/**
 * x (…) repeated along axes of size 1 and new leading axes, to this shape. A size of −1 keeps that of x. Throws ShapeError.
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  checkTensor('broadcastTo', 'x', x)
  check('broadcastTo', 'shape', shape, numbers)
  const lead = shape.length - x.shape.length
  const wanted = shape.map((n, i) => (n === -1 && i >= lead ? x.shape[i - lead] : n))
  return sameShape(x.shape, wanted) ? x.alias() : apply(broadcastOp, [x], { shape: wanted })
}

/** Undoes broadcasting: sums x over the axes along which `shape` was repeated to give x's shape. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  checkTensor('sumTo', 'x', x)
  check('sumTo', 'shape', shape, numbers)
  if (sameShape(x.shape, shape)) return x
  if (!sameShape(broadcastShapes('sumTo', x.shape, shape), x.shape))
    throw new ShapeError(`sumTo: expected a shape that broadcasts to ${show(x.shape)}, got ${show(shape)}`)
  const lead = x.shape.length - shape.length
  const repeated = x.shape.flatMap((n, i) => (i < lead || (shape[i - lead] === 1 && n !== 1) ? [i] : []))
  return reshape(sum(x, repeated), shape)
}
