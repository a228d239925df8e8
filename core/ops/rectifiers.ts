/**
 * Relatives of ReLU.
 */

import { aNumber, check, checkFloats } from '../arguments.ts'
import type { Tensor } from '../tensor.ts'
import { expm1 } from './elementary.ts'
import { less, mul } from './elementwise.ts'
import { where, zero, zeroWhere } from './where.ts'

/** x where x > 0, else slope · x, with the gradient `slope` at 0: (…) → (…). */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  checkFloats('leakyRelu', { x })
  check('leakyRelu', 'slope', slope, aNumber)
  return where(less(zero(x), x), x, mul(x, slope))
}

/** x where x > 0, else alpha (eˣ − 1): (…) → (…). */
export function elu(x: Tensor, alpha = 1): Tensor {
  checkFloats('elu', { x })
  check('elu', 'alpha', alpha, aNumber)
  // Above 0 the exponential is not chosen, but 0 times its gradient would be NaN where it overflows.
  const above = less(zero(x), x)
  return where(above, x, mul(expm1(zeroWhere(above, x)), alpha))
}
