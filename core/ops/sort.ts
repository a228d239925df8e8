/**
 * Sorting, all of it by one op: `argsort`, the order of the elements along the last axis. Values are picked in that order, so
 * their gradient returns to where they came from. Where a backend has no kernel, elements are ranked by counting those that
 * come before: n² comparisons, block by block.
 */

import { aBoolean, aNumber, check, checkOptions, checkTensor } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { scanLoops } from '../backends/cpu/scan.ts'
import { noGrad } from '../graph.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { scope } from '../scope.ts'
import { axisOf, type Shape, ShapeError, sizeOf } from '../shape.ts'
import { arange, type Tensor, zeros } from '../tensor.ts'
import { ordered } from './arrange.ts'
import { broadcastTo, sum } from './broadcast.ts'
import { isNaN as isNan } from './compare.ts'
import { cumsum } from './cumsum.ts'
import { add, affine, cast, equal, less, mul, sub } from './elementwise.ts'
import { gatherRows, scatterAdd } from './gather.ts'
import { reshape, slice } from './movement.ts'
import { where } from './where.ts'

addLoops(scanLoops)

/** Options of `sort` and `argsort`. */
export interface SortOptions {
  /** Largest first. Default false. */
  readonly descending?: boolean
}

/** Options of `topk`. */
export interface TopkOptions {
  /** False for the smallest elements. Default true. */
  readonly largest?: boolean
}

/** Sorted values, and the positions along the axis that they came from, i32 of the same shape. */
export interface Sorted {
  readonly values: Tensor
  readonly indices: Tensor
}

/** Comparisons that are held at once while elements are ranked. */
const blockElements = 2 ** 20

const argsortOp = defineOp<Unary, Required<SortOptions>>({
  name: 'argsort',
  integers: true,
  differentiable: 'none',
  dtype: () => 'i32',
  infer: ([x]) => x,
  forward: (k, [x], { descending }, out) => k.argsort?.(x, descending, out),
  decompose: ([x], { descending }) => noGrad(() => scope(() => byRank(x, descending))),
  samples: r =>
    [[3, 1, 5], [2, 1031], [1], [3, 16]].flatMap(shape =>
      [false, true].map(descending => ({ x: [r.distinct(...shape)] as const, attrs: { descending } })),
    ),
})

/** The order along the last axis from the rank of each element: its position once sorted. */
function byRank(x: Tensor, descending: boolean): Tensor {
  const n = x.shape.at(-1)!
  const B = sizeOf(x.shape.slice(0, -1))
  const rows = reshape(x, [B, n])
  const block = Math.max(1, Math.floor(blockElements / Math.max(1, B * n)))
  const { dtype, backend } = x
  const own = reshape(arange(n, { dtype, backend }), [n, 1])
  let rank = zeros([B, n], { dtype, backend })
  for (let from = 0; from < n; from += block) {
    const to = Math.min(n, from + block)
    rank = scope(() => {
      const mine = reshape(rows, [B, n, 1])
      const theirs = reshape(slice(rows, 1, from, to), [B, 1, to - from])
      const first = less(slice(reshape(own, [1, n]), 1, from, to), own) // (n, block)
      const before = descending ? less(mine, theirs) : less(theirs, mine) // (B, n, block)
      return add(rank, sum(add(before, mul(equal(theirs, mine), first)), 2))
    })
  }
  // NaN is the largest: it is ranked by its position among NaN.
  const nan = isNan(rows)
  const earlier = sub(cumsum(nan, 1), nan)
  const count = sum(nan, 1, true)
  const placed = descending
    ? where(nan, earlier, add(rank, count))
    : where(nan, sub(earlier, affine(count, 1, -n)), rank)
  const places = broadcastTo(reshape(arange(n, { dtype: 'i32', backend }), [n, 1]), [B, n, 1])
  return reshape(scatterAdd(cast(placed, 'i32'), places, n), x.shape)
}

/** The order of axes that swaps `axis` with the last one, which is its own inverse. */
function swapped(shape: Shape, axis: number): number[] {
  const last = shape.length - 1
  return shape.map((_, i) => (i === axis ? last : i === last ? axis : i))
}

function checked(op: string, x: Tensor, options: SortOptions): SortOptions {
  checkTensor(op, 'x', x)
  checkOptions(op, options, { descending: aBoolean })
  return options
}

/** Positions along an axis that sort x: (…) → i32 (…). NaN counts as the largest; equal elements keep their order. Throws ShapeError. */
export function argsort(x: Tensor, axis = -1, options: SortOptions = {}): Tensor {
  const { descending = false } = checked('argsort', x, options)
  const order = swapped(x.shape, axisOf('argsort', axis, x.shape.length))
  return ordered(apply(argsortOp, [ordered(x, order)], { descending }), order)
}

/**
 * x sorted along an axis: (…) → values and indices (…). NaN counts as the largest; equal elements keep their order. The
 * gradient goes to where the values came from. Throws ShapeError.
 */
export function sort(x: Tensor, axis = -1, options: SortOptions = {}): Sorted {
  const { descending = false } = checked('sort', x, options)
  return firstSorted(x, axisOf('sort', axis, x.shape.length), undefined, descending)
}

/**
 * The k largest elements along an axis, largest first, or the k smallest where `largest` is false: (…, n, …) → values and
 * indices (…, k, …). NaN counts as the largest; of equal elements the first come first. Throws ShapeError.
 */
export function topk(x: Tensor, k: number, axis = -1, options: TopkOptions = {}): Sorted {
  checkTensor('topk', 'x', x)
  check('topk', 'k', k, aNumber)
  checkOptions('topk', options, { largest: aBoolean })
  const { largest = true } = options
  const i = axisOf('topk', axis, x.shape.length)
  if (!(Number.isInteger(k) && k >= 0 && k <= x.shape[i]))
    throw new ShapeError(`topk: expected k from 0 to ${x.shape[i]}, the size of axis ${axis}, got ${k}`)
  return firstSorted(x, i, k, largest)
}

/** The first k elements of x sorted along an axis. */
function firstSorted(x: Tensor, axis: number, k = x.shape[axis], descending: boolean): Sorted {
  const order = swapped(x.shape, axis)
  const last = ordered(x, order) // (…, n)
  const n = last.shape.at(-1)!
  const B = sizeOf(last.shape.slice(0, -1))
  const all = apply(argsortOp, [last], { descending })
  const indices = slice(all, last.shape.length - 1, 0, k) // (…, k)
  const values = gatherRows(reshape(last, [B, n, 1]), reshape(indices, [B, k])) // (B, k, 1)
  return { values: ordered(reshape(values, indices.shape), order), indices: ordered(indices, order) }
}
