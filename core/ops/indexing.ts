/**
 * Reading parts of a tensor as NumPy and PyTorch do with x[…]: positions, ranges, new axes and tensors of indices.
 */

import { aNumber, anObject, checkOptions, checkTensor, describe, isTensor } from '../arguments.ts'
import { broadcastShapes, type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { ordered, pickAlong } from './arrange.ts'
import { broadcastTo } from './broadcast.ts'
import { greaterEqual, logicalOr } from './compare.ts'
import { add, less, mul } from './elementwise.ts'
import { reshape, slice } from './movement.ts'
import { gatherRows, inNameOf } from './rows.ts'
import { where } from './where.ts'

/** Elements start, start + step, … before end. Bounds below 0 count from the back; those beyond an end mean that end. */
export interface IndexRange {
  /** Default 0. */
  readonly start?: number
  /** Default: the size of the axis. */
  readonly end?: number
  /** From 1, the default. */
  readonly step?: number
}

/**
 * Selection of `index` along an axis: a number takes one position and drops the axis, a range takes several, and ':' all; null is
 * a new axis of size 1; '...' stands for as many ':' as are left out; an i32 tensor takes the positions that it holds.
 */
export type IndexItem = number | IndexRange | ':' | null | '...' | Tensor

/**
 * x[items], as in NumPy: index(x, 0, { start: 1, end: -1 }, null, '...'). Items are for the axes in order, the rest is read
 * whole, and negative positions count from the back. Index tensors broadcast together; their axes stand where the first of
 * them stood if they are neighbours, else first, once positions have dropped their axes, as in PyTorch. The gradient goes to
 * where elements came from. x (…) → (…). Throws ShapeError, and RangeError on an index out of range.
 */
export function index(x: Tensor, ...items: readonly IndexItem[]): Tensor {
  checkTensor('index', 'x', x)
  for (const [i, item] of items.entries()) checkItem(item, i)
  const all = expanded(x.shape, items)
  let y: Tensor = x.alias()
  const shape: number[] = [] // of the result, before index tensors are applied
  const chosen: { readonly axis: number; readonly ids: Tensor }[] = []
  let axis = 0
  for (const item of all) {
    if (item === null) {
      shape.push(1)
      continue
    }
    if (typeof item === 'number') {
      const at = positionOf(item, axis, x.shape)
      y = slice(y, axis, at, at + 1)
    } else {
      if (isTensor(item)) chosen.push({ axis: shape.length, ids: indices(item, x) })
      else if (item !== ':' && item !== '...') y = ranged(y, axis, item)
      shape.push(y.shape[axis])
    }
    axis++
  }
  y = reshape(y, shape)
  return chosen.length === 0 ? y : picked(y, chosen)
}

const rangeKinds = { start: aNumber, end: aNumber, step: aNumber }

/** Throws unless an item of `index` is of one of its kinds. */
function checkItem(item: unknown, i: number): void {
  if (item === null || item === ':' || item === '...' || typeof item === 'number') return
  if (isTensor(item)) checkTensor('index', `item ${i + 1}`, item)
  else if (anObject.accepts(item)) checkOptions<IndexRange>('index', item as IndexRange, rangeKinds)
  else
    throw atCaller(
      new TypeError(
        `index: expected item ${i + 1} to be a number, { start, end, step }, ':', '...', null or a tensor of i32, ` +
          `got ${describe(item)}`,
      ),
    )
}

/** One item for each axis, besides new axes. */
function expanded(shape: Shape, items: readonly IndexItem[]): IndexItem[] {
  const consumed = items.filter(item => item !== null && item !== '...').length
  const dots = items.filter(item => item === '...').length
  if (dots > 1) throw new ShapeError(`index: expected '...' once, got it ${dots} times`)
  if (consumed > shape.length)
    throw new ShapeError(`index: expected at most ${shape.length} items for x ${show(shape)}, got ${consumed}`)
  const rest: IndexItem[] = Array.from({ length: shape.length - consumed }, () => ':')
  const at = items.indexOf('...')
  return at < 0 ? [...items, ...rest] : [...items.slice(0, at), ...rest, ...items.slice(at + 1)]
}

function positionOf(item: number, axis: number, shape: Shape): number {
  const n = shape[axis]
  if (!Number.isInteger(item) || item < -n || item >= n)
    throw atCaller(
      new RangeError(`index: expected a position in [${-n}, ${n}) of axis ${axis} of ${show(shape)}, got ${item}`),
    )
  return item < 0 ? item + n : item
}

function ranged(x: Tensor, axis: number, { start = 0, end, step = 1 }: IndexRange): Tensor {
  const n = x.shape[axis]
  for (const bound of [start, end ?? 0])
    if (!Number.isInteger(bound)) throw atCaller(new RangeError(`index: expected integer bounds, got ${bound}`))
  if (!(Number.isInteger(step) && step >= 1))
    throw atCaller(new RangeError(`index: expected a step from 1, got ${step}; reverse an axis with flip`))
  const limit = (bound: number) => Math.max(0, Math.min(bound < 0 ? bound + n : bound, n))
  const [from, to] = [limit(start), end === undefined ? n : limit(end)]
  if (step === 1) return slice(x, axis, from, Math.max(from, to))
  const count = Math.max(0, Math.ceil((to - from) / step))
  return pickAlong(
    x,
    axis,
    Array.from({ length: count }, (_, i) => from + i * step),
  )
}

function indices(ids: Tensor, { backend }: Tensor): Tensor {
  if (ids.dtype !== 'i32' || ids.backend !== backend)
    throw atCaller(
      new Error(
        `index: expected index tensors of i32 on ${backend.name}, got ${ids.dtype} on ${ids.backend.name}; ` +
          'select by a mask with where',
      ),
    )
  return ids
}

/** y with these axes replaced by the elements that index tensors name. */
function picked(y: Tensor, chosen: readonly { readonly axis: number; readonly ids: Tensor }[]): Tensor {
  const axes = chosen.map(({ axis }) => axis)
  const others = y.shape.map((_, i) => i).filter(i => !axes.includes(i))
  const S = chosen.reduce<Shape>((shape, { ids }) => broadcastShapes('index', shape, ids.shape), [])
  const sizes = axes.map(axis => y.shape[axis])
  const rest = others.map(i => y.shape[i])
  const [R, K, D] = [sizeOf(sizes), sizeOf(S), sizeOf(rest)]
  const number = (value: number) => full([], value, { dtype: 'i32', backend: y.backend })
  const bounded = chosen.map(({ ids }, i) => where(less(ids, number(0)), add(ids, sizes[i]), ids))
  const flat = bounded.reduce((sum, ids, i) => add(mul(sum, sizes[i]), ids)) // positions in the chosen axes as one
  const outside = bounded.map((ids, i) => logicalOr(less(ids, number(0)), greaterEqual(ids, sizes[i])))
  // An index beyond its own axis may still be one of another row: −1 is refused for certain.
  const checked = bounded.length === 1 ? flat : where(outside.reduce(logicalOr), number(-1), flat)
  const first = reshape(ordered(y, [...axes, ...others]), [1, R, D])
  const ids = reshape(broadcastTo(checked, S), [1, K])
  const rows = reshape(
    inNameOf('index', () => gatherRows(first, ids)),
    [...S, ...rest],
  )
  const adjacent = axes.every((axis, i) => i === 0 || axis === axes[i - 1] + 1)
  const before = adjacent ? axes[0] : 0
  const order = [
    ...Array.from({ length: before }, (_, i) => S.length + i),
    ...S.keys(),
    ...Array.from({ length: rest.length - before }, (_, i) => S.length + before + i),
  ]
  return ordered(rows, order)
}
