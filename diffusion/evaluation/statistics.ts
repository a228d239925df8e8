/**
 * Mean and covariance of features, batch by batch in f64, in memory that does not grow with their number. Statistics of
 * parts of a set, from several machines say, merge into those of the whole. Next: frechet.ts.
 */

import { ShapeError } from '../../core/shape.ts'
import { type Features, type Matrix, sizeOfFeatures, timesTransposed, zeroMatrix } from './matrix.ts'

/** A normal distribution of features, as `mu` and `sigma` in a file of reference statistics. */
export interface FeatureGaussian {
  /** (D) */
  readonly mean: ArrayLike<number>
  /** (D, D) */
  readonly covariance: Matrix
}

/** Rows whose products are summed at a time. */
const batchRows = 1024

/** Running mean and scatter of features of D numbers. */
export class FeatureStatistics {
  /** Features seen. */
  count = 0
  /** (D) */
  readonly mean: Float64Array
  /** (D, D): Σ (x − mean)(x − mean)ᵀ */
  readonly scatter: Matrix

  constructor(D: number) {
    this.mean = new Float64Array(D)
    this.scatter = zeroMatrix(D, D)
  }

  /** Takes in features (N, D), or none. Throws ShapeError on another D, RangeError on a number that is not finite. */
  add(features: Features): void {
    if (features.shape[0] === 0) return
    const [N, D] = sizeOfFeatures('FeatureStatistics.add', features)
    this.#check(D)
    for (let i = 0; i < N * D; i++)
      if (!Number.isFinite(features.data[i]))
        throw new RangeError(
          `FeatureStatistics.add: wanted finite features, got ${features.data[i]} at [${Math.floor(i / D)}, ${i % D}]`,
        )
    for (let from = 0; from < N; from += batchRows)
      this.#merge(momentsOf(features.data, D, from, Math.min(from + batchRows, N)))
  }

  /** Takes in what other statistics have seen. Throws ShapeError on another D. */
  merge(other: FeatureStatistics): void {
    this.#check(other.mean.length)
    if (other.count > 0) this.#merge(other)
  }

  /** Unbiased, (D, D), as numpy.cov. Throws RangeError on fewer than two features. */
  covariance(): Matrix {
    if (this.count < 2) throw new RangeError(`covariance: wanted at least 2 features, got ${this.count}`)
    const { rows, columns, data } = this.scatter
    return { rows, columns, data: data.map(x => x / (this.count - 1)) }
  }

  /** The normal distribution with these moments. Throws as `covariance`. */
  gaussian(): FeatureGaussian {
    return { mean: this.mean, covariance: this.covariance() }
  }

  // Means are weighted by count; scatters add up, and to them what the means differ by. [Chan]
  #merge(other: Pick<FeatureStatistics, 'count' | 'mean' | 'scatter'>): void {
    const { mean, scatter } = this
    const D = mean.length
    const total = this.count + other.count
    const weight = (this.count * other.count) / total
    const delta = other.mean.map((x, i) => x - mean[i])
    for (let i = 0; i < D; i++)
      for (let j = 0, at = i * D, x = weight * delta[i]; j < D; j++)
        scatter.data[at + j] += other.scatter.data[at + j] + x * delta[j]
    for (let i = 0; i < D; i++) mean[i] += (delta[i] * other.count) / total
    this.count = total
  }

  #check(D: number): void {
    if (D !== this.mean.length)
      throw new ShapeError(`FeatureStatistics: wanted features of ${this.mean.length} numbers, got ${D}`)
  }
}

/** The statistics of rows [from, to) on their own. */
function momentsOf(data: ArrayLike<number>, D: number, from: number, to: number) {
  const count = to - from
  const mean = new Float64Array(D)
  for (let n = from; n < to; n++) for (let i = 0; i < D; i++) mean[i] += data[n * D + i]
  for (let i = 0; i < D; i++) mean[i] /= count
  const centred = zeroMatrix(D, count) // a row per number, as products run along rows
  for (let n = 0; n < count; n++)
    for (let i = 0; i < D; i++) centred.data[i * count + n] = data[(from + n) * D + i] - mean[i]
  return { count, mean, scatter: timesTransposed(centred, centred) }
}

/** The normal distribution with the moments of features (N, D), N ≥ 2. Throws ShapeError and RangeError. */
export function featureGaussian(features: Features): FeatureGaussian {
  const statistics = new FeatureStatistics(features.shape[1])
  statistics.add(features)
  return statistics.gaussian()
}
