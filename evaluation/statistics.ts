/**
 * Mean and covariance of features, batch by batch, in memory that does not grow with their number, and without rounding:
 * features become whole multiples of 2⁻³², sums of which and of whose products are kept as whole numbers. So statistics of
 * parts of a set, from several machines say, merge into those of the whole to the last bit, however it was cut and in
 * whatever order. A feature moves by at most 2⁻³³, far less than by rounding in a network whose features are of size 1.
 */

import { aCount, anObject, aSize, check, describe, numbers } from '../core/arguments.ts'
import type { ExactSums } from '../core/doubles.ts'
import { ShapeError } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import { addExact, doubles } from './doubles.ts'
import { type Features, type Matrix, mirror, roomFor, sizeOfFeatures, zeroMatrix } from './matrix.ts'

/** A normal distribution of features, as `mu` and `sigma` in a file of reference statistics. */
export interface FeatureGaussian {
  /** (D) */
  readonly mean: ArrayLike<number>
  /** (D, D) */
  readonly covariance: Matrix
}

/** State of statistics, for a file: integers, all exact in f64. */
export interface StatisticsState {
  readonly count: number
  /** Bounds what `products` can be. */
  readonly size: number
  /** (2, D): of the digits, high and low, Σ. */
  readonly sums: Float64Array
  /** (2, D·(D + 1)/2): high and low, rows of the upper triangle one after the other. */
  readonly products: Float64Array
}

/** One digit: features are 2²⁴ high + low, in units of 2⁻³². */
const digit = 2 ** 24
const unit = 2 ** -32
/** Where the high digit would have more than 24 bits. */
const largestFeature = 2 ** 15
/** Where the high sums would be rounded. */
const largestSize = 2 ** 52
/** Rows whose digits are in memory at a time. */
const rowsAtATime = 1024

/** Running sums over features of D numbers. */
export class FeatureStatistics {
  /** Features seen. */
  count = 0
  #size = 0
  /** Of the high and the low digits: Σ. */
  readonly #sums: readonly [high: Float64Array, low: Float64Array]
  /** Σ x xᵀ in units of 2⁻⁶⁴, (D, D), of which the upper triangle. */
  readonly #products: ExactSums

  constructor(D: number) {
    check('FeatureStatistics', 'D', D, aCount)
    this.#sums = [new Float64Array(D), new Float64Array(D)]
    this.#products = { high: new Float64Array(D * D), low: new Float64Array(D * D), stride: D }
  }

  /** Numbers of a feature, D. */
  get width(): number {
    return this.#sums[0].length
  }

  /**
   * Takes in features (N, D), or none. Throws ShapeError on another D, and RangeError on a number that is not finite or
   * above 2¹⁵, and where squares add up to more than 2³⁶ (a million of features that reach 256).
   */
  add(features: Features): void {
    const op = 'FeatureStatistics.add'
    check(op, 'features', features, anObject)
    if (features.shape?.[0] === 0) return
    const [N, D] = sizeOfFeatures(op, features)
    this.#check(op, D)
    this.#grow(op, sizeOf(op, features.data, N, D)) // looks at all before anything is taken in
    const kernels = doubles()
    const stride = roomFor(D)
    const sums = { high: kernels.alloc(stride * stride), low: kernels.alloc(stride * stride), stride }
    try {
      for (let from = 0; from < N; from += rowsAtATime) {
        const rows = Math.min(rowsAtATime, N - from)
        const [high, low] = digitsOf(features.data, from * D, rows * D)
        for (const [sum, digits] of [
          [this.#sums[0], high],
          [this.#sums[1], low],
        ])
          for (let n = 0, at = 0; n < rows; n++) for (let i = 0; i < D; i++, at++) sum[i] += digits[at]
        kernels.addSquares(sums, high, low, [rows, D])
      }
      this.#addProducts((i, j) => i * stride + j, sums.high, sums.low)
    } finally {
      kernels.free(sums.high)
      kernels.free(sums.low)
    }
    this.count += N
  }

  /** Takes in what other statistics have seen. Throws ShapeError on another D, and RangeError as `add`. */
  merge(other: FeatureStatistics): void {
    if (!(other instanceof FeatureStatistics))
      throw atCaller(new TypeError(`FeatureStatistics.merge: expected other FeatureStatistics, got ${describe(other)}`))
    this.#check('FeatureStatistics.merge', other.width)
    this.#grow('FeatureStatistics.merge', other.#size)
    this.count += other.count
    for (const part of [0, 1] as const) for (let i = 0; i < this.width; i++) this.#sums[part][i] += other.#sums[part][i]
    const { high, low, stride } = other.#products
    this.#addProducts((i, j) => i * stride + j, high, low)
  }

  /** (D) */
  get mean(): Float64Array {
    const [high, low] = this.#sums
    return high.map((h, i) => ((h * digit + low[i]) * unit) / this.count)
  }

  /** Unbiased, (D, D), as numpy.cov. Throws RangeError on fewer than two features. */
  covariance(): Matrix {
    const { count: N, width: D } = this
    if (N < 2) throw atCaller(new RangeError(`FeatureStatistics.covariance: expected at least 2 features, got ${N}`))
    const S = zeroMatrix(D, D)
    const [high, low] = this.#sums
    for (let i = 0; i < D; i++)
      for (let j = i, at = i * D + i; j < D; j++, at++)
        S.data[at] = (centred(N, this.#products, at, high[i], low[i], high[j], low[j]) / (N - 1)) * unit * unit
    mirror(S)
    return S
  }

  /** The normal distribution with these moments. Throws as `covariance`. */
  gaussian(): FeatureGaussian {
    return { mean: this.mean, covariance: this.covariance() }
  }

  /** Returns the full state, from which `FeatureStatistics` can continue. */
  state(): StatisticsState {
    const { count, width: D } = this
    const { high, low } = this.#products
    const products = new Float64Array(D * (D + 1))
    const half = products.length / 2
    for (let i = 0, to = 0; i < D; i++)
      for (let j = i; j < D; j++, to++) {
        products[to] = high[i * D + j]
        products[half + to] = low[i * D + j]
      }
    return { count, size: this.#size, sums: Float64Array.from([...this.#sums[0], ...this.#sums[1]]), products }
  }

  /** Statistics as they were when `state` gave this. Throws ShapeError on parts that do not fit each other. */
  static from(state: StatisticsState): FeatureStatistics {
    check('FeatureStatistics.from', 'state', state, anObject)
    const { count, size, sums, products } = state
    check('FeatureStatistics.from', 'count', count, aSize)
    check('FeatureStatistics.from', 'size', size, aSize)
    check('FeatureStatistics.from', 'sums', sums, numbers)
    check('FeatureStatistics.from', 'products', products, numbers)
    const D = sums.length / 2
    if (products.length !== D * (D + 1))
      throw new ShapeError(`FeatureStatistics: expected ${D * (D + 1)} products for ${D} sums, got ${products.length}`)
    const statistics = new FeatureStatistics(D)
    statistics.count = count
    statistics.#grow('FeatureStatistics.from', size)
    statistics.#sums[0].set(sums.subarray(0, D))
    statistics.#sums[1].set(sums.subarray(D))
    // Row i of the triangle begins behind D + (D − 1) + … numbers.
    const place = (i: number, j: number) => i * D - (i * (i - 1)) / 2 + j - i
    statistics.#addProducts(place, products.subarray(0, products.length / 2), products.subarray(products.length / 2))
    return statistics
  }

  #addProducts(place: (i: number, j: number) => number, high: Float64Array, low: Float64Array): void {
    const D = this.width
    for (let i = 0; i < D; i++)
      for (let j = i, from = place(i, i), to = i * D + i; j < D; j++, from++, to++)
        addExact(this.#products, to, high[from], low[from])
  }

  /** Throws RangeError where high sums could be rounded. */
  #grow(op: string, size: number): void {
    if (!(this.#size + size <= largestSize))
      throw atCaller(
        new RangeError(
          `${op}: expected features whose squares add up to at most 2^36, got ${(this.#size + size) * 2 ** -16}`,
        ),
      )
    this.#size += size
  }

  #check(op: string, D: number): void {
    if (D !== this.width) throw new ShapeError(`${op}: expected features of ${this.width} numbers, got ${D}`)
  }
}

/** A bound of what features add to a high sum: Σ (largest high digit)². Throws RangeError. */
function sizeOf(op: string, data: ArrayLike<number>, N: number, D: number): number {
  let size = 0
  for (let n = 0; n < N; n++) {
    let largest = 0
    for (let i = 0; i < D; i++) {
      const x = Math.abs(data[n * D + i])
      if (!(x < largestFeature)) refuse(op, data[n * D + i], n, i)
      if (x > largest) largest = x
    }
    size += Math.ceil(largest * (1 / (digit * unit)) + 1) ** 2
  }
  return size
}

function refuse(op: string, x: number, n: number, i: number): never {
  const wanted = Number.isFinite(x) ? `features below ${largestFeature}` : 'finite features'
  throw atCaller(new RangeError(`${op}: expected ${wanted}, got ${x} at [${n}, ${i}]`))
}

/** Numbers [from, from + length) in whole units, as digits of at most 2²³ in size. */
function digitsOf(data: ArrayLike<number>, from: number, length: number): [high: Float64Array, low: Float64Array] {
  const high = new Float64Array(length)
  const low = new Float64Array(length)
  for (let i = 0; i < length; i++) {
    const x = data[from + i] * (1 / unit)
    const h = Math.round(x * (1 / digit))
    high[i] = h
    low[i] = Math.round(x - h * digit)
  }
  return [high, low]
}

/**
 * Σ xᵢxⱼ − (Σ xᵢ)(Σ xⱼ)/N, of which the terms may be nearly equal: in numbers of two f64 each, the second of which is what
 * rounding took from the first. [Dekker]
 */
function centred(N: number, sums: ExactSums, at: number, hi: number, li: number, hj: number, lj: number): number {
  const [a, aRest] = sumOf(hi * digit, li)
  const [b, bRest] = sumOf(hj * digit, lj)
  const [p, pRest] = productOf(a, b)
  const quotient = p / N
  const [q, qRest] = productOf(quotient, N)
  const rest = (p - q - qRest + (pRest + (a * bRest + aRest * b))) / N
  const [s, sRest] = sumOf(sums.high[at] * 2 ** 48, sums.low[at])
  const [difference, lost] = sumOf(s, -quotient)
  return difference + (lost + sRest - rest)
}

/** a + b, and what rounding took from it. */
function sumOf(a: number, b: number): [number, number] {
  const sum = a + b
  const back = sum - a
  return [sum, a - (sum - back) + (b - back)]
}

/** a · b, and what rounding took from it. */
function productOf(a: number, b: number): [number, number] {
  const product = a * b
  const [a1, a2] = halves(a)
  const [b1, b2] = halves(b)
  return [product, a1 * b1 - product + a1 * b2 + a2 * b1 + a2 * b2]
}

/** A number as the sum of two of 26 bits each. */
function halves(x: number): [number, number] {
  const scaled = x * (2 ** 27 + 1)
  const upper = scaled - (scaled - x)
  return [upper, x - upper]
}

/** The normal distribution with the moments of features (N, D), N ≥ 2. Throws ShapeError and RangeError. */
export function featureGaussian(features: Features): FeatureGaussian {
  const [N, D] = sizeOfFeatures('featureGaussian', features)
  if (N < 2) throw atCaller(new RangeError(`featureGaussian: expected at least 2 features, got ${N}`))
  sizeOf('featureGaussian', features.data, N, D)
  const statistics = new FeatureStatistics(D)
  statistics.add(features)
  return statistics.gaussian()
}
