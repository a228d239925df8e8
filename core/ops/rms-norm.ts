/**
 * Root mean square normalisation: layer norm without a mean. [RMSNorm]
 */

import { aNumber, check, checkFloats } from '../arguments.ts'
import { ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { affine, mul, rsqrt, square } from './elementwise.ts'
import { mean } from './reduce.ts'

/** x / √(mean(x²) + eps) ⊙ weight over the last axis: x (…, D), weight (D) or null. [RMSNorm eq. 4] Throws ShapeError. */
export function rmsNorm(x: Tensor, weight: Tensor | null, eps: number): Tensor {
  checkFloats('rmsNorm', weight === null ? { x } : { x, weight })
  check('rmsNorm', 'eps', eps, aNumber)
  const D = x.shape.at(-1)
  if (D === undefined) throw new ShapeError('rmsNorm: expected at least one axis, got a scalar')
  if (weight !== null && (weight.shape.length !== 1 || weight.shape[0] !== D))
    throw new ShapeError(`rmsNorm: expected a weight [${D}] for x ${show(x.shape)}, got ${show(weight.shape)}`)
  const y = mul(x, rsqrt(affine(mean(square(x), -1, true), 1, eps)))
  return weight === null ? y : mul(y, weight)
}
