/**
 * Arrangements of elements made of movement.ts: squeeze, flatten, flip, roll, tile, repeat and triangles.
 */

import { aNumber, check, checkTensor, optional } from '../arguments.ts'
import { axesOf, axisOf, type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import { arange, type Tensor, tensor } from '../tensor.ts'
import { type Axes, aNumberOrNumbers, broadcastTo } from './broadcast.ts'
import { less } from './elementwise.ts'
import { gatherRows } from './gather.ts'
import { concat, permute, reshape, slice } from './movement.ts'
import { where, zero } from './where.ts'

/** x (…, 1, …) without these axes of size 1; without `axes`, without all of size 1. Shares memory. Throws ShapeError. */
export function squeeze(x: Tensor, axes?: Axes): Tensor {
  checkTensor('squeeze', 'x', x)
  check('squeeze', 'axes', axes, optional(aNumberOrNumbers))
  const given = axesOf('squeeze', axes, x.shape.length)
  const dropped = axes === undefined ? given.filter(axis => x.shape[axis] === 1) : given
  const long = dropped.find(axis => x.shape[axis] !== 1)
  if (long !== undefined) throw new ShapeError(`squeeze: expected axes of size 1, got axis ${long} of ${show(x.shape)}`)
  return reshape(
    x,
    x.shape.filter((_, axis) => !dropped.includes(axis)),
  )
}

/** x with axes `first` to `last`, both included, as one: (…) → (…, product, …). Shares memory. Throws ShapeError. */
export function flatten(x: Tensor, first = 0, last = -1): Tensor {
  checkTensor('flatten', 'x', x)
  const rank = Math.max(1, x.shape.length) // a scalar counts as one axis
  const [from, to] = [axisOf('flatten', first, rank), axisOf('flatten', last, rank)]
  if (from > to) throw new ShapeError(`flatten: expected a first axis before the last, got ${first} and ${last}`)
  if (x.shape.length === 0) return reshape(x, [1])
  return reshape(x, [...x.shape.slice(0, from), sizeOf(x.shape.slice(from, to + 1)), ...x.shape.slice(to + 1)])
}

/** `permute` that copies nothing where the order is that of x already. */
export function ordered(x: Tensor, order: readonly number[]): Tensor {
  return order.every((axis, i) => axis === i) ? x.alias() : permute(x, order)
}

/** Positions `rows` of x along an axis, counted from the front: (…, n, …) → (…, rows, …). */
export function pickAlong(x: Tensor, axis: number, rows: readonly number[]): Tensor {
  const [before, after] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)]
  const [B, K] = [sizeOf(before), rows.length]
  const index = broadcastTo(tensor(rows, { dtype: 'i32', backend: x.backend }), [B, K])
  return reshape(gatherRows(reshape(x, [B, x.shape[axis], sizeOf(after)]), index), [...before, K, ...after])
}

/** x in reverse order along these axes: (…) → (…). Throws ShapeError. */
export function flip(x: Tensor, axes: Axes): Tensor {
  checkTensor('flip', 'x', x)
  check('flip', 'axes', axes, aNumberOrNumbers)
  return axesOf('flip', axes, x.shape.length).reduce((y, axis) => {
    const n = y.shape[axis]
    const backwards = Array.from({ length: n }, (_, i) => n - 1 - i)
    return n < 2 ? y : pickAlong(y, axis, backwards)
  }, x.alias())
}

/**
 * x moved by `shift` along an axis, what leaves one end entering at the other: (…) → (…). Several shifts take an axis each;
 * without an axis, elements move in row-major order. Throws ShapeError.
 */
export function roll(x: Tensor, shift: number | readonly number[], axis?: Axes): Tensor {
  checkTensor('roll', 'x', x)
  check('roll', 'shift', shift, aNumberOrNumbers)
  check('roll', 'axis', axis, optional(aNumberOrNumbers))
  const shifts = typeof shift === 'number' ? [shift] : shift
  const whole = shifts.find(n => !Number.isInteger(n))
  if (whole !== undefined) throw new ShapeError(`roll: expected a shift that is an integer, got ${whole}`)
  if (axis === undefined && shifts.length === 1) return reshape(rolled(reshape(x, [x.size]), shifts[0], 0), x.shape)
  const axes = typeof axis === 'number' ? [axis] : (axis ?? [])
  if (axes.length !== shifts.length)
    throw new ShapeError(`roll: expected an axis for each shift, got ${axes.length} axes and ${shifts.length} shifts`)
  return axes.reduce((y, at, i) => rolled(y, shifts[i], axisOf('roll', at, x.shape.length)), x.alias())
}

function rolled(x: Tensor, shift: number, axis: number): Tensor {
  const n = x.shape[axis]
  if (n === 0 || shift % n === 0) return x.alias()
  const cut = ((-shift % n) + n) % n // the position that becomes the first
  return concat([slice(x, axis, cut, n), slice(x, axis, 0, cut)], axis)
}

/** Throws unless the counts are integers from 0. */
function checkCounts(op: string, counts: readonly number[]): void {
  if (!counts.every(n => Number.isInteger(n) && n >= 0))
    throw new ShapeError(`${op}: expected counts that are integers from 0, got ${show(counts)}`)
}

/**
 * x laid out as a whole `counts[i]` times along axis i: (…) → (counts · …). Missing axes on either side count from the back, so
 * tile(x, [2]) repeats the last axis. It is `torch.tile` and `numpy.tile`. Throws ShapeError.
 */
export function tile(x: Tensor, counts: number | readonly number[]): Tensor {
  checkTensor('tile', 'x', x)
  check('tile', 'counts', counts, aNumberOrNumbers)
  const given = typeof counts === 'number' ? [counts] : counts
  checkCounts('tile', given)
  const rank = Math.max(x.shape.length, given.length)
  const filled = (shape: Shape) => [...Array.from({ length: rank - shape.length }, () => 1), ...shape]
  const [sizes, times] = [filled(x.shape), filled(given)]
  const split = reshape(
    x,
    sizes.flatMap(n => [1, n]),
  )
  const copies = broadcastTo(
    split,
    sizes.flatMap((n, i) => [times[i], n]),
  )
  return reshape(
    copies,
    sizes.map((n, i) => times[i] * n),
  )
}

/**
 * Each element of x `count` times in a row along an axis: (…, n, …) → (…, n · count, …). It is `numpy.repeat` and
 * `torch.repeat_interleave`; PyTorch's `Tensor.repeat` is `tile`. Throws ShapeError.
 */
export function repeat(x: Tensor, count: number, axis: number): Tensor {
  checkTensor('repeat', 'x', x)
  check('repeat', 'count', count, aNumber)
  checkCounts('repeat', [count])
  const i = axisOf('repeat', axis, x.shape.length)
  const [before, n, after] = [x.shape.slice(0, i), x.shape[i], x.shape.slice(i + 1)]
  const copies = broadcastTo(reshape(x, [...before, n, 1, ...after]), [...before, n, count, ...after])
  return reshape(copies, [...before, n * count, ...after])
}

/** 1 below a diagonal of the last two axes of x, and on it where `extra` is 1; else 0: i32 (M, N). */
function below(op: string, x: Tensor, diagonal: number, extra: 0 | 1): Tensor {
  checkTensor(op, 'x', x)
  check(op, 'diagonal', diagonal, aNumber)
  if (x.shape.length < 2) throw new ShapeError(`${op}: expected two axes or more, got ${show(x.shape)}`)
  if (!Number.isInteger(diagonal)) throw new ShapeError(`${op}: expected an integer diagonal, got ${diagonal}`)
  const place = { dtype: 'i32', backend: x.backend } as const
  const [M, N] = x.shape.slice(-2)
  const ends = Int32Array.from({ length: M }, (_, row) => row + diagonal + extra)
  return less(arange(N, place), tensor(ends, { ...place, shape: [M, 1] }))
}

/** x (…, M, N) with 0 above a diagonal, counted upwards from the main one, 0. Throws ShapeError. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return where(below('tril', x, diagonal, 1), x, zero(x))
}

/** x (…, M, N) with 0 below a diagonal, counted upwards from the main one, 0. Throws ShapeError. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return where(below('triu', x, diagonal, 0), zero(x), x)
}
