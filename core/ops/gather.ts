/**
 * Elements picked by index, and their adjoint. One batched form serves them all: an embedding is a gather from a batch of
 * one, the kept tokens of a masked picture are a gatherRows of x (N, T, D) by ids (N, K), and the label's entry in a row of
 * logits is a gather of rows of width 1.
 */

import { checkOneDType, checkOptions, checkTensor, checkTensors, isTensor, oneOf, refuseMixed } from '../arguments.ts'
import { axisOf, type Shape, ShapeError, sameShape, show, sizeOf } from '../shape.ts'
import { ones, type Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { add, mul } from './elementwise.ts'
import { pad, permute, reshape, slice, unsqueeze } from './movement.ts'
import { gatherRows, inNameOf, scatterAdd } from './rows.ts'
import { where } from './where.ts'

export { gatherRows, scatterAdd } from './rows.ts'

/**
 * x (B, R, D) with rows index[b, k], i32 in [0, R), replaced by source (B, K, D). Where two indices of one b are equal,
 * the row is the sum of theirs; PyTorch keeps either. Throws ShapeError, RangeError.
 */
export function scatterRows(x: Tensor, index: Tensor, source: Tensor): Tensor {
  checkTensors('scatterRows', { x, index })
  checkOneDType('scatterRows', { x, source })
  const [B, R, D] = x.shape
  const K = index.shape[1]
  if (x.shape.length !== 3 || !sameShape(index.shape, [B, K]) || !sameShape(source.shape, [B, K, D]))
    throw new ShapeError(
      `scatterRows: expected x [B, R, D], index [B, K] and source [B, K, D], ` +
        `got ${show(x.shape)}, ${show(index.shape)} and ${show(source.shape)}`,
    )
  return inNameOf('scatterRows', () => {
    const hit = scatterAdd(index, ones([B, K, 1], { dtype: x.dtype, backend: x.backend }), R) // (B, R, 1)
    return where(hit, scatterAdd(index, source, R), x) // (B, R, D)
  })
}

/** table (V, D), ids i32 of any shape S in [0, V) → (…S, D). Throws ShapeError, RangeError. */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  checkTensors('embedding', { table, ids })
  if (table.shape.length !== 2) throw new ShapeError(`embedding: expected a table [V, D], got ${show(table.shape)}`)
  const [V, D] = table.shape
  const rows = inNameOf('embedding', () => gatherRows(reshape(table, [1, V, D]), reshape(ids, [1, ids.size]))) // (1, n, D)
  return reshape(rows, [...ids.shape, D])
}

/** x (…, C), ids i32 (…) in [0, C) → (…): the entry that each id names. Throws ShapeError, RangeError. */
export function pick(x: Tensor, ids: Tensor): Tensor {
  return pickOf('pick', x, ids)
}

/** pick in the name of another function. */
export function pickOf(op: string, x: Tensor, ids: Tensor): Tensor {
  checkTensors(op, { x, ids })
  if (x.shape.length === 0 || !sameShape(x.shape.slice(0, -1), ids.shape))
    throw new ShapeError(`${op}: expected x [..., C] and ids [...], got ${show(x.shape)} and ${show(ids.shape)}`)
  const C = x.shape.at(-1)!
  const picked = inNameOf(op, () => gatherRows(reshape(x, [ids.size, C, 1]), reshape(ids, [ids.size, 1]))) // (n, 1, 1)
  return reshape(picked, ids.shape)
}

// ---- element by element ---------------------------------------------------------------------------------------------

/**
 * The element of x that index, i32, names along an axis: y[i, j, k] = x[i, index[i, j, k], k] for axis 1. The index has
 * x's rank, and off the axis at most x's sizes → the shape of the index. PyTorch's gather. Throws ShapeError, RangeError.
 */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  checkTensors('gather', { x, index })
  const at = elementAxis('gather', x, axis, index)
  const box = cropped(x, index.shape, at)
  const [rows, ids] = [lastAxis(box, at), lastAxis(index, at)] // (…, n), (…, K)
  const picked = inNameOf('gather', () => gatherRows(columnsOf(rows), rowsOf(ids))) // (B, K, 1)
  return fromLastAxis(reshape(picked, ids.shape), at)
}

/** Options of `scatter`. */
export interface ScatterOptions {
  /** 'add' adds to the elements of x; without it they are replaced. */
  readonly reduce?: 'add'
}

/**
 * x (…) with the elements that index, i32, names along an axis replaced by those of source, or by one number:
 * y[i, index[i, j, k], k] = source[i, j, k] for axis 1. The index has x's rank, and off the axis at most x's sizes; source
 * has at least its sizes. Elements that are named twice become the sum of theirs; PyTorch keeps either. PyTorch's scatter
 * and, with `reduce: 'add'`, scatter_add. Throws ShapeError, RangeError.
 */
export function scatter(
  x: Tensor,
  axis: number,
  index: Tensor,
  source: Tensor | number,
  options: ScatterOptions = {},
): Tensor {
  checkTensors('scatter', { x, index })
  if (typeof source !== 'number') checkTensor('scatter', 'source', source)
  checkOptions('scatter', options, { reduce: oneOf(['add']) })
  const at = elementAxis('scatter', x, axis, index)
  const place = { dtype: x.dtype, backend: x.backend }
  const box = index.shape.with(at, x.shape[at])
  const values = sourceOf(x, index, source)
  const summed = (values: Tensor) => {
    const [rows, ids] = [lastAxis(values, at), lastAxis(index, at)] // (…, K)
    const sums = inNameOf('scatter', () => scatterAdd(rowsOf(ids), columnsOf(rows), x.shape[at])) // (B, n, 1)
    const placed = fromLastAxis(reshape(sums, [...ids.shape.slice(0, -1), x.shape[at]]), at) // box
    return sameShape(box, x.shape)
      ? placed
      : pad(
          placed,
          x.shape.map(() => 0),
          x.shape,
        )
  }
  if (options.reduce === 'add') return add(x, summed(values))
  return where(summed(ones(index.shape, place)), summed(values), x)
}

/** The values to scatter, of the shape of the index. */
function sourceOf(x: Tensor, index: Tensor, source: Tensor | number): Tensor {
  const place = { dtype: x.dtype, backend: x.backend }
  if (!isTensor(source)) return mul(ones(index.shape, place), source)
  if (source.dtype !== x.dtype || source.backend !== x.backend) refuseMixed('scatter', [x, source])
  const fits = source.shape.length === index.shape.length && index.shape.every((n, i) => n <= source.shape[i])
  if (!fits)
    throw new ShapeError(
      `scatter: expected a source at least as large as the index ${show(index.shape)}, got ${show(source.shape)}`,
    )
  return cropped(source, index.shape, -1)
}

/** The axis, from the front. Throws ShapeError unless the index fits x. */
function elementAxis(op: string, x: Tensor, axis: number, index: Tensor): number {
  const at = axisOf(op, axis, x.shape.length)
  if (index.dtype !== 'i32') throw atCaller(new Error(`${op}: expected an index in i32, got ${index.dtype}`))
  const fits = index.shape.length === x.shape.length && index.shape.every((n, i) => i === at || n <= x.shape[i])
  if (!fits)
    throw new ShapeError(
      `${op}: expected an index of x's rank and, off axis ${axis}, at most its sizes, ` +
        `got ${show(index.shape)} for x ${show(x.shape)}`,
    )
  return at
}

/** The corner of x that has this shape, except along one axis, which keeps its size. */
function cropped(x: Tensor, shape: Shape, kept: number): Tensor {
  return shape.reduce((y, n, i) => (i === kept || n === y.shape[i] ? y : slice(y, i, 0, n)), x)
}

/** x with `axis` last, and the other way round. */
function lastAxis(x: Tensor, axis: number): Tensor {
  const order = x.shape.map((_, i) => i)
  return axis === x.shape.length - 1 ? x : permute(x, [...order.toSpliced(axis, 1), axis])
}

function fromLastAxis(x: Tensor, axis: number): Tensor {
  const last = x.shape.length - 1
  if (axis === last) return x
  const order = x.shape.map((_, i) => i).slice(0, -1)
  return permute(x, order.toSpliced(axis, 0, last))
}

/** (…, n) as (B, n), and as (B, n, 1). */
function rowsOf(x: Tensor): Tensor {
  return reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!])
}

function columnsOf(x: Tensor): Tensor {
  return unsqueeze(rowsOf(x), 2)
}
