/**
 * The Fréchet distance between two sets of pictures, each seen as a normal distribution of features [FID]. On
 * Inception's pool features it is FID, on the first channels of a spatial layer sFID [sFID]; on features of another
 * network it is neither, and must not be called so.
 */

import { anObject, aSize, check, numbers } from '../core/arguments.ts'
import { ShapeError } from '../core/shape.ts'
import { covarianceFactor, timesTransposed } from './matrix.ts'
import { singularValueSum } from './singular-values.ts'
import type { FeatureGaussian } from './statistics.ts'

/** Throws TypeError unless this is a Gaussian of features. */
function checkGaussian(name: string, gaussian: FeatureGaussian): void {
  const op = 'frechetDistance'
  check(op, name, gaussian, anObject)
  check(op, `${name}.mean`, gaussian.mean, numbers)
  check(op, `${name}.covariance`, gaussian.covariance, anObject)
  const { rows, columns, data } = gaussian.covariance
  check(op, `${name}.covariance.rows`, rows, aSize)
  check(op, `${name}.covariance.columns`, columns, aSize)
  check(op, `${name}.covariance.data`, data, numbers)
}

/**
 * |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)  [FID], which is symmetric and not negative: what rounding leaves below 0 is 0.
 *
 * No square root of a matrix is taken: with Σ₁ = AᵀA and Σ₂ = BᵀB, the eigenvalues of Σ₁Σ₂ are the squares of the
 * singular values of A Bᵀ, so tr (Σ₁Σ₂)^½ is their sum. Singular covariances, of fewer pictures than features, need no
 * special treatment. Where Σ is off by a rounding ε in a direction of no variance, the distance moves by √ε: about
 * 1e-8 of its terms is what any method can give there.
 */
export function frechetDistance(a: FeatureGaussian, b: FeatureGaussian): number {
  checkGaussian('a', a)
  checkGaussian('b', b)
  const D = a.mean.length
  const sizes = [b.mean.length, a.covariance.rows, a.covariance.columns, b.covariance.rows, b.covariance.columns]
  if (sizes.some(size => size !== D))
    throw new ShapeError(
      `frechetDistance: expected means [${D}] and covariances [${D}, ${D}], got sizes ${sizes.join(', ')}`,
    )
  let distance = -2 * singularValueSum(timesTransposed(covarianceFactor(a.covariance), covarianceFactor(b.covariance)))
  for (let i = 0; i < D; i++)
    distance += (a.mean[i] - b.mean[i]) ** 2 + a.covariance.data[i * D + i] + b.covariance.data[i * D + i]
  return Math.max(distance, 0)
}
