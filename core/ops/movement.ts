/**
 * Ops that move elements and change none: each one's gradient is another of them. Next: gather.ts.
 */

import { addLoops } from '../backends/cpu/backend.ts'
import { movementLoops } from '../backends/cpu/movement.ts'
import { toNumber } from '../dtype.ts'
import { apply, defineOp, type None, type Unary } from '../op.ts'
import { axisOf, type Shape, ShapeError, sameShape, show, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'

addLoops(movementLoops)

// ---- reshape: the only op whose result shares its input's memory ----------------------------------------------------

const reshapeOp = defineOp<Unary, { readonly shape: Shape }>({
  name: 'reshape',
  integers: true,
  infer: ([x], { shape }) => {
    if (sizeOf(x) !== sizeOf(shape) || !shape.every(n => Number.isInteger(n) && n >= 0))
      throw new ShapeError(`reshape: expected a shape of ${sizeOf(x)} elements, got ${show(shape)} for ${show(x)}`)
    return shape
  },
  forward: (_, [x]) => x.storage,
  vjp: (g, _, __, [shape]) => [() => reshape(g, shape)],
  flops: () => 0,
  samples: r => [
    { x: [r(3, 1, 5)], attrs: { shape: [15] } },
    { x: [r(1031, 2)], attrs: { shape: [2, 1, 1031] } },
    { x: [r(1)], attrs: { shape: [] } },
  ],
})

/** The same elements in another shape; one size may be −1. Shares memory. Throws ShapeError. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x.alias()
  const wild = shape.indexOf(-1)
  if (wild < 0) return apply(reshapeOp, [x], { shape })
  const known = sizeOf(shape.toSpliced(wild, 1))
  if (!(known > 0 && x.size % known === 0))
    throw new ShapeError(`reshape: expected a shape of ${x.size} elements, got ${show(shape)} for ${show(x.shape)}`)
  return apply(reshapeOp, [x], { shape: shape.with(wild, x.size / known) })
}

/** The same value, shape and memory behind a graph node of its own. */
export function view(x: Tensor): Tensor {
  return apply(reshapeOp, [x], { shape: x.shape })
}

/** `x` with an axis inserted at `axis`: (…) → the same shape with a 1 there. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  return reshape(x, x.shape.toSpliced(axisOf('unsqueeze', axis, x.shape.length + 1), 0, 1))
}

// ---- permute --------------------------------------------------------------------------------------------------------

const permuteOp = defineOp<Unary, { readonly order: readonly number[] }>({
  name: 'permute',
  integers: true,
  infer: ([x], { order }) => {
    if (order.length !== x.length || !x.every((_, i) => order.includes(i)))
      throw new ShapeError(`permute: expected an order of ${x.length} axes, got ${show(order)}; x is ${show(x)}`)
    return order.map(i => x[i])
  },
  forward: (k, [x], { order }, out) => k.permute(x, order, out),
  vjp: (g, _, { order }) => [
    () =>
      permute(
        g,
        order.map((__, i) => order.indexOf(i)),
      ),
  ],
  samples: r => [
    { x: [r(3, 1, 5)], attrs: { order: [2, 0, 1] } },
    { x: [r(2, 3, 5, 7)], attrs: { order: [0, 2, 1, 3] } },
    { x: [r(1031, 3)], attrs: { order: [1, 0] } },
    { x: [r(2, 3, 1, 4, 5, 2)], attrs: { order: [0, 3, 5, 4, 2, 1] } },
  ],
})

/** Axis i of the result is axis order[i] of x: (…) → those axes. Throws ShapeError. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  return apply(permuteOp, [x], { order })
}

/** x with its last two axes swapped: (…, M, N) → (…, N, M). Throws ShapeError. */
export function transpose(x: Tensor): Tensor {
  if (x.shape.length < 2) throw new ShapeError(`transpose: expected two axes or more, got ${show(x.shape)}`)
  const order = x.shape.map((_, i) => i)
  return permute(x, [...order.slice(0, -2), order.length - 1, order.length - 2])
}

// ---- slice, pad, concat ---------------------------------------------------------------------------------------------

const sliceOp = defineOp<Unary, { readonly starts: readonly number[]; readonly shape: Shape }>({
  name: 'slice',
  integers: true,
  infer: ([x], { starts, shape }) => {
    const inside =
      starts.length === x.length &&
      [...starts, ...shape].every(n => Number.isInteger(n) && n >= 0) &&
      shape.every((n, i) => starts[i] + n <= x[i])
    if (!inside) throw new ShapeError(`slice: expected a box inside ${show(x)}, got ${show(shape)} at ${show(starts)}`)
    return shape
  },
  forward: (k, [x], { starts }, out) => k.slice(x, starts, out),
  vjp: (g, _, { starts }, [x]) => [() => pad(g, starts, x)],
  samples: r => [
    { x: [r(3, 1, 5)], attrs: { starts: [1, 0, 2], shape: [2, 1, 3] } },
    { x: [r(1031, 3)], attrs: { starts: [5, 1], shape: [1021, 1] } },
    { x: [r(2, 3, 12)], attrs: { starts: [0, 0, 4], shape: [2, 3, 4] } },
  ],
})

/** Elements [start, end) of x (…) along one axis; a negative end counts from the back. Throws ShapeError. */
export function slice(x: Tensor, axis: number, start: number, end = x.shape.at(axis)!): Tensor {
  const i = axisOf('slice', axis, x.shape.length)
  const stop = end < 0 ? end + x.shape[i] : end
  if (start === 0 && stop === x.shape[i]) return x.alias()
  return apply(sliceOp, [x], {
    starts: x.shape.map((_, j) => (j === i ? start : 0)),
    shape: x.shape.with(i, stop - start),
  })
}

/** Equal parts of x (…) along an axis. Throws ShapeError when it does not divide. */
export function split(x: Tensor, parts: number, axis: number): Tensor[] {
  const i = axisOf('split', axis, x.shape.length)
  const width = x.shape[i] / parts
  if (!(Number.isInteger(width) && Number.isInteger(parts) && parts >= 1))
    throw new ShapeError(`split: expected ${parts} equal parts of axis ${axis}, got ${show(x.shape)}`)
  return Array.from({ length: parts }, (_, k) => slice(x, i, k * width, (k + 1) * width))
}

const padOp = defineOp<Unary, { readonly before: readonly number[]; readonly shape: Shape; readonly value: number }>({
  name: 'pad',
  integers: true,
  infer: ([x], { before, shape }) => {
    const sameRank = before.length === x.length && shape.length === x.length
    const whole = [...before, ...shape].every(n => Number.isInteger(n) && n >= 0)
    const fits = sameRank && whole && x.every((n, i) => before[i] + n <= shape[i])
    if (!fits)
      throw new ShapeError(`pad: expected a box around ${show(x)}, got ${show(shape)} with x at ${show(before)}`)
    return shape
  },
  forward: (k, [x], { before, value }, out) => k.pad(x, before, toNumber(x.dtype, value), out),
  vjp: (g, _, { before }, [x]) => [() => apply(sliceOp, [g], { starts: before, shape: x })],
  samples: r => [
    { x: [r(3, 1, 5)], attrs: { before: [1, 0, 2], shape: [4, 3, 8], value: 0 } },
    { x: [r(1021, 1)], attrs: { before: [5, 1], shape: [1031, 3], value: -1.5 } },
    { x: [r(2, 3, 4)], attrs: { before: [0, 0, 4], shape: [2, 3, 12], value: 0 } },
  ],
})

/** x placed at `before` in a box of `shape` filled with `value`. Throws ShapeError. */
export function pad(x: Tensor, before: readonly number[], shape: Shape, value = 0): Tensor {
  return apply(padOp, [x], { before, shape, value })
}

const concatOp = defineOp<readonly Tensor[], { readonly axis: number }>({
  name: 'concat',
  integers: true,
  infer: (shapes, { axis }) => {
    const [first] = shapes
    if (!shapes.every(s => s.length === first.length && s.every((n, i) => i === axis || n === first[i])))
      throw new ShapeError(`concat: expected shapes equal but for axis ${axis}, got ${shapes.map(show).join(', ')}`)
    return first.with(
      axis,
      shapes.reduce((n, s) => n + s[axis], 0),
    )
  },
  forward: (k, xs, { axis }, out) => k.concat(xs, axis, out),
  vjp: (g, _, { axis }, shapes) => {
    let start = 0
    return shapes.map(s => {
      const from = start
      start += s[axis]
      return () => slice(g, axis, from, from + s[axis])
    })
  },
  samples: r => [
    { x: [r(3, 1, 5), r(3, 4, 5), r(3, 2, 5)], attrs: { axis: 1 } },
    { x: [r(1031), r(1)], attrs: { axis: 0 } },
    { x: [r(2, 3, 5), r(2, 3, 7)], attrs: { axis: 2 } },
  ],
})

/** Concatenates tensors along `axis`; their other sizes must agree. Throws ShapeError. */
export function concat(xs: readonly Tensor[], axis: number): Tensor {
  if (xs.length === 0) throw new ShapeError('concat: expected at least one tensor, got none')
  const i = axisOf('concat', axis, xs[0].shape.length)
  return xs.length === 1 ? xs[0].alias() : apply(concatOp, xs, { axis: i })
}

/** Tensors of equal shape along a new axis. Throws ShapeError. */
export function stack(xs: readonly Tensor[], axis: number): Tensor {
  if (!xs.every(x => sameShape(x.shape, xs[0].shape)))
    throw new ShapeError(`stack: expected equal shapes, got ${xs.map(x => show(x.shape)).join(', ')}`)
  return concat(
    xs.map(x => unsqueeze(x, axis)),
    axis,
  )
}

const copyOp = defineOp<Unary, None>({
  name: 'copy',
  integers: true,
  infer: ([x]) => x,
  forward: (k, [x]) => k.copy(x),
  vjp: g => [() => g],
  flops: () => 0,
  samples: r => [[3, 1, 5], [1031]].map(shape => ({ x: [r(...shape)] as const, attrs: {} })),
})

/** The same values, (…), in memory of their own. */
export function copy(x: Tensor): Tensor {
  return apply(copyOp, [x], {})
}
