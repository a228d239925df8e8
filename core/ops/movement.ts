/**
 * Ops that move elements and change none: each one's gradient is another of them.
 */

import { aNumber, check, checkTensor, either, numbers, oneOf, optional, tensors } from '../arguments.ts'
import type { Storage } from '../backend.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { movementLoops } from '../backends/cpu/movement.ts'
import { toNumber } from '../dtype.ts'
import { apply, applyMany, defineManyOp, defineOp, type None, type Unary } from '../op.ts'
import { axisOf, type Shape, ShapeError, sameShape, show, sizeOf } from '../shape.ts'
import { full, type Tensor, tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { gatherRows } from './rows.ts'

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
  checkTensor('reshape', 'x', x)
  check('reshape', 'shape', shape, numbers)
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
  checkTensor('view', 'x', x)
  return apply(reshapeOp, [x], { shape: x.shape })
}

/** `x` with an axis inserted at `axis`: (…) → the same shape with a 1 there. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  checkTensor('unsqueeze', 'x', x)
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

/** Axis i of the result is axis axes[i] of x, counted from the back if negative: (…) → those axes. Throws ShapeError. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  checkTensor('permute', 'x', x)
  check('permute', 'axes', axes, numbers)
  return apply(permuteOp, [x], { order: axes.map(axis => (axis < 0 ? axis + x.shape.length : axis)) })
}

/** x with its last two axes swapped: (…, M, N) → (…, N, M). Throws ShapeError. */
export function transpose(x: Tensor): Tensor {
  checkTensor('transpose', 'x', x)
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

/**
 * Elements start, start + step, … before end of x (…) along one axis. Bounds from −n to n count from the back if negative;
 * absent ones are the ends of the axis. A negative step walks backwards. Bounds outside of the axis are an error: unlike
 * Python's they are not moved to its ends. Throws ShapeError.
 */
export function slice(x: Tensor, axis: number, start?: number, end?: number, step = 1): Tensor {
  checkTensor('slice', 'x', x)
  const i = axisOf('slice', axis, x.shape.length)
  const n = x.shape[i]
  check('slice', 'step', step, aNumber)
  if (!(Number.isInteger(step) && step !== 0))
    throw atCaller(new RangeError(`slice: expected a step that is an integer and not 0, got ${step}`))
  check('slice', 'start', start, optional(aNumber))
  check('slice', 'end', end, optional(aNumber))
  const bound = (given: number | undefined, open: number) =>
    given === undefined ? open : given < 0 ? given + n : given
  const from = bound(start, step > 0 ? 0 : n - 1)
  const to = bound(end, step > 0 ? n : -1)
  if (step === 1) return box(x, i, from, to)
  const least = step > 0 ? 0 : -1
  if (!(Number.isInteger(from) && Number.isInteger(to) && Math.min(from, to) >= least && Math.max(from, to) <= n))
    throw new ShapeError(`slice: expected bounds in [${-n}, ${n}], got ${start ?? 'none'} and ${end ?? 'none'}`)
  return taken(
    x,
    i,
    Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, k) => from + k * step),
  )
}

/** Elements [start, end) of x along axis i. */
function box(x: Tensor, i: number, start: number, end: number): Tensor {
  if (start === 0 && end === x.shape[i]) return x.alias()
  return apply(sliceOp, [x], {
    starts: x.shape.map((_, j) => (j === i ? start : 0)),
    shape: x.shape.with(i, end - start),
  })
}

/** Elements at these positions of x along an axis. */
function taken(x: Tensor, axis: number, at: readonly number[]): Tensor {
  const [before, after] = [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis + 1))]
  const ids = Int32Array.from({ length: before * at.length }, (_, i) => at[i % at.length])
  const index = tensor(ids, { shape: [before, at.length], dtype: 'i32', backend: x.backend })
  return reshape(gatherRows(reshape(x, [before, x.shape[axis], after]), index), x.shape.with(axis, at.length))
}

const splitOp = defineManyOp<Unary, { readonly parts: number; readonly axis: number }>({
  name: 'split',
  many: true,
  integers: true,
  infer: ([x], { parts, axis }) => Array<Shape>(parts).fill(x.with(axis, x[axis] / parts)),
  forward: (k, [x], { parts, axis }) => {
    const together = k.split?.(x, parts, axis)
    if (together !== undefined) return together
    const shape = x.shape.with(axis, x.shape[axis] / parts)
    const made: Storage[] = []
    try {
      for (const starts of startsOf(x.shape, parts, axis)) made.push(k.slice(x, starts, { shape, dtype: x.dtype }))
    } catch (error) {
      for (const storage of made) x.backend.free(storage) // there was no room for all
      throw error
    }
    return made
  },
  decompose: ([x], { parts, axis }) =>
    startsOf(x.shape, parts, axis).map(starts => box(x, axis, starts[axis], starts[axis] + x.shape[axis] / parts)),
  // One concatenation in place of a padded gradient per part and their sum.
  vjp: (gs, { parts, axis }) => [
    () => {
      const { shape, dtype, backend } = gs.find(g => g !== undefined)!
      return concat(
        Array.from({ length: parts }, (_, k) => gs[k] ?? full(shape, 0, { dtype, backend })),
        axis,
      )
    },
  ],
  samples: r => [
    { x: [r(3, 4, 5)], attrs: { parts: 2, axis: 1 } },
    { x: [r(1031, 3)], attrs: { parts: 3, axis: 1 } },
    { x: [r(6)], attrs: { parts: 6, axis: 0 } },
  ],
})

/** Where each of `parts` equal parts of a tensor of this shape begins. */
function startsOf(shape: Shape, parts: number, axis: number): number[][] {
  return Array.from({ length: parts }, (_, k) => shape.map((n, i) => (i === axis ? (k * n) / parts : 0)))
}

/** Equal parts of x (…) along an axis. Throws ShapeError when it does not divide. */
export function split(x: Tensor, parts: number, axis: number): Tensor[] {
  checkTensor('split', 'x', x)
  check('split', 'parts', parts, aNumber)
  const i = axisOf('split', axis, x.shape.length)
  if (!(Number.isInteger(x.shape[i] / parts) && Number.isInteger(parts) && parts >= 1))
    throw new ShapeError(`split: expected ${parts} equal parts of axis ${axis}, got ${show(x.shape)}`)
  return parts === 1 ? [x.alias()] : [...applyMany(splitOp, [x], { parts, axis: i })]
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

/** Border of `pad`: a number, x mirrored at its edge without repeating it, or x's edge. */
export type Border = number | 'reflect' | 'replicate'

/**
 * x (…) placed at `before` in a box of `shape`, with a border of a number or of x's own elements. Throws ShapeError, also
 * where 'reflect' would need more elements than x has.
 */
export function pad(x: Tensor, before: readonly number[], shape: Shape, border: Border = 0): Tensor {
  checkTensor('pad', 'x', x)
  check('pad', 'before', before, numbers)
  check('pad', 'shape', shape, numbers)
  check('pad', 'border', border, borderKind)
  if (typeof border === 'number') return apply(padOp, [x], { before, shape, value: border })
  padOp.infer([x.shape], { before, shape, value: 0 })
  return shape.reduce((y, extent, axis) => {
    const [n, first] = [x.shape[axis], before[axis]]
    if (n === extent) return y
    const widest = Math.max(first, extent - n - first)
    if (border === 'reflect' ? widest >= n : n === 0)
      throw new ShapeError(`pad: expected a border of x's own elements, got ${widest} around ${n} of axis ${axis}`)
    const inside = (i: number) => Math.min(Math.max(i, 0), n - 1)
    const at = Array.from({ length: extent }, (_, k) => k - first)
    return taken(y, axis, at.map(border === 'reflect' ? i => (i >= n ? 2 * (n - 1) - i : Math.abs(i)) : inside))
  }, x.alias())
}

const borderKind = either(aNumber, oneOf(['reflect', 'replicate']))

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

/** Concatenates tensors along `axis`, whose other sizes are equal: (…, M, …) and (…, N, …) → (…, M + N, …). Throws ShapeError. */
export function concat(xs: readonly Tensor[], axis: number): Tensor {
  checkList('concat', xs)
  if (xs.length === 0) throw new ShapeError('concat: expected at least one tensor, got none')
  const i = axisOf('concat', axis, xs[0].shape.length)
  return xs.length === 1 ? xs[0].alias() : apply(concatOp, xs, { axis: i })
}

function checkList(op: string, xs: readonly Tensor[]): void {
  check(op, 'xs', xs, tensors)
  for (const [i, x] of xs.entries()) checkTensor(op, `xs[${i}]`, x)
}

/** Tensors of equal shape along a new axis. Throws ShapeError. */
export function stack(xs: readonly Tensor[], axis: number): Tensor {
  checkList('stack', xs)
  if (xs.length === 0) throw new ShapeError('stack: expected at least one tensor, got none')
  const i = axisOf('stack', axis, xs[0].shape.length + 1)
  if (!xs.every(x => sameShape(x.shape, xs[0].shape)))
    throw new ShapeError(`stack: expected equal shapes, got ${xs.map(x => show(x.shape)).join(', ')}`)
  return concat(
    xs.map(x => unsqueeze(x, i)),
    i,
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
