/**
 * Reductions made of others: standard deviation, norm, logsumexp, product, logic, and the position of an extremum. Where a
 * textbook's gradient is 0 · ∞, a branch stands aside, as in PyTorch.
 */

import { aBoolean, aNumber, check, checkFloats, checkOptions, checkTensor } from '../arguments.ts'
import { axisOf, reducedShape, type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import { arange, full, type Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { ordered } from './arrange.ts'
import { type Axes, reductionOf, sum } from './broadcast.ts'
import { isNaN as isNan, isTrue } from './compare.ts'
import { abs, add, equal, exp, log, maximum, mul, pow, sqrt, square, sub } from './elementwise.ts'
import { concat, reshape, slice } from './movement.ts'
import { max, min, type VarianceOptions, variance } from './reduce.ts'
import { where, zero, zeroWhere } from './where.ts'

/** `value` in the dtype and on the backend of x, of `shape`. */
function constant({ dtype, backend }: Tensor, value: number, shape: Shape = []): Tensor {
  return full(shape, value, { dtype, backend })
}

/** f(x), but 0 with gradient 0 where x is 0; f is not asked about 0. */
function exceptZero(x: Tensor, f: (x: Tensor) => Tensor): Tensor {
  const none = equal(x, zero(x))
  return zeroWhere(none, f(where(none, constant(x, 1), x)))
}

/**
 * Standard deviation over axes (default: all) of floats: the root of `variance`, whose options and shapes it shares. Its
 * gradient where all elements are equal is 0. Throws ShapeError.
 */
export function std(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  checkFloats('std', { x })
  checkOptions('std', options, { ddof: aNumber, keepDims: aBoolean })
  const { axes: over } = reductionOf('std', x, axes, false)
  return exceptZero(variance(x, over, options), sqrt)
}

/** Options of `norm`. */
export interface NormOptions {
  /** Any number, ±Infinity among them. Default 2. */
  readonly p?: number
  /** True if the axes stay, with size 1. Default false. */
  readonly keepDims?: boolean
}

/**
 * The p-norm over axes (default: all) of floats, (Σ |x|^p)^(1/p), shapes as of `sum`. p is 2 unless given; ∞ and −∞ give the
 * largest and smallest |x|, 0 the number of elements that are not 0. Its gradient at 0 is 0. Throws ShapeError.
 */
export function norm(x: Tensor, axes?: Axes, options: NormOptions = {}): Tensor {
  checkFloats('norm', { x })
  checkOptions('norm', options, { p: aNumber, keepDims: aBoolean })
  const { p = 2, keepDims = false } = options
  if (Number.isNaN(p)) throw atCaller(new RangeError(`norm: expected p to be a number or ±Infinity, got ${p}`))
  const { axes: over } = reductionOf('norm', x, axes, keepDims)
  if (p === 2) return exceptZero(sum(square(x), over, keepDims), sqrt)
  if (p === 1) return sum(abs(x), over, keepDims)
  if (p === Number.POSITIVE_INFINITY) return max(abs(x), over, keepDims)
  if (p === Number.NEGATIVE_INFINITY) return min(abs(x), over, keepDims)
  if (p === 0) return sum(isTrue(x), over, keepDims)
  const size = abs(x)
  const powers = p > 0 ? exceptZero(size, a => pow(a, p)) : pow(size, p) // 0 to a negative p is ∞
  return exceptZero(sum(powers, over, keepDims), total => pow(total, 1 / p))
}

/** log Σ eˣ over axes (default: all) of floats, without overflow; shapes as of `sum`. Throws ShapeError. */
export function logsumexp(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  checkFloats('logsumexp', { x })
  const { axes: over } = reductionOf('logsumexp', x, axes, keepDims)
  if (x.size === 0) return constant(x, -Infinity, reducedShape(x.shape, over, keepDims))
  const largest = max(x.detach(), over, true)
  // The shift changes no value, only the range. An infinite one would: ∞ − ∞ is NaN.
  const shift = where(equal(abs(largest), constant(x, Infinity)), zero(x), largest)
  const total = add(log(sum(exp(sub(x, shift)), over, true)), shift)
  return reshape(total, reducedShape(x.shape, over, keepDims))
}

/** x with `axes` first, as one: (…) → (R, rest). */
function rowsOf(x: Tensor, axes: readonly number[]): Tensor {
  const others = x.shape.map((_, i) => i).filter(i => !axes.includes(i))
  const R = sizeOf(axes.map(axis => x.shape[axis]))
  return reshape(ordered(x, [...axes, ...others]), [R, sizeOf(others.map(axis => x.shape[axis]))])
}

/**
 * Product over axes (default: all), shapes as of `sum`. Its gradient is a product of the other elements, so zeros do no harm.
 * Throws ShapeError.
 */
export function prod(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const { axes: over } = reductionOf('prod', x, axes, keepDims)
  const shape = reducedShape(x.shape, over, keepDims)
  let rows = rowsOf(x, over) // (R, rest)
  if (rows.shape[0] === 0) return constant(x, 1, shape)
  while (rows.shape[0] > 1) {
    const [R] = rows.shape
    const half = R >> 1
    const products = mul(slice(rows, 0, 0, half), slice(rows, 0, half, 2 * half)) // (R/2, rest)
    rows = R % 2 === 0 ? products : concat([products, slice(rows, 0, R - 1, R)], 0)
  }
  return reshape(rows, shape)
}

/** 1 if an element over axes (default: all) is not 0, else 0; shapes as of `sum`, dtype of x. No gradient. Throws ShapeError. */
export function any(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const { axes: over } = reductionOf('any', x, axes, keepDims)
  return x.size === 0 ? empty(x, over, keepDims, 0) : max(isTrue(x), over, keepDims)
}

/** 1 if no element over axes (default: all) is 0, else 0; shapes as of `sum`, dtype of x. No gradient. Throws ShapeError. */
export function all(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const { axes: over } = reductionOf('all', x, axes, keepDims)
  return x.size === 0 ? empty(x, over, keepDims, 1) : min(isTrue(x), over, keepDims)
}

function empty(x: Tensor, axes: readonly number[], keepDims: boolean, value: number): Tensor {
  return constant(x, value, reducedShape(x.shape, axes, keepDims))
}

/** The first position along an axis (default: of all elements) at which x is its extremum, or NaN. */
function position(op: string, extremum: typeof max, x: Tensor, axis: number | undefined, keepDims: boolean): Tensor {
  checkTensor(op, 'x', x)
  check(op, 'keepDims', keepDims, aBoolean)
  if (axis === undefined) {
    const shape = keepDims ? x.shape.map(() => 1) : []
    return reshape(position(op, extremum, reshape(x, [x.size]), 0, false), shape)
  }
  const i = axisOf(op, axis, x.shape.length)
  const n = x.shape[i]
  if (n === 0) throw new ShapeError(`${op}: expected an axis with elements, got axis ${axis} of ${show(x.shape)}`)
  const values = x.detach()
  const best = equal(values, extremum(values, i, true))
  const hit = x.dtype === 'i32' ? best : maximum(best, isNan(values))
  const { backend } = x
  const places = reshape(arange(n, { dtype: 'i32', backend }), [n, ...x.shape.slice(i + 1).map(() => 1)])
  return min(where(hit, places, full([], n, { dtype: 'i32', backend })), i, keepDims)
}

/**
 * Position of the largest element along an axis, i32 without that axis, or with size 1 where `keepDims`; without an axis its
 * position among all elements, row-major. The first of several, and of NaN if there is one. Throws ShapeError.
 */
export function argmax(x: Tensor, axis?: number, keepDims = false): Tensor {
  return position('argmax', max, x, axis, keepDims)
}

/**
 * Position of the smallest element along an axis, i32 without that axis, or with size 1 where `keepDims`; without an axis its
 * position among all elements, row-major. The first of several, and of NaN if there is one. Throws ShapeError.
 */
export function argmin(x: Tensor, axis?: number, keepDims = false): Tensor {
  return position('argmin', min, x, axis, keepDims)
}
