/**
 * Relatives of ReLU. Next: softmax.ts.
 */

import { checkFloat } from '../op.ts'
import type { Tensor } from '../tensor.ts'
import { expm1 } from './elementary.ts'
import { lessEqual, minimum, mul } from './elementwise.ts'
import { where, zero } from './where.ts'

/** x where x > 0, else slope · x, with the gradient `slope` at 0: (…) → (…). */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  checkFloat('leakyRelu', x)
  return where(lessEqual(x, zero(x)), mul(x, slope), x)
}

/** x where x > 0, else alpha (eˣ − 1): (…) → (…). */
export function elu(x: Tensor, alpha = 1): Tensor {
  checkFloat('elu', x)
  // Above 0 the exponential is not chosen, but 0 times its gradient would be NaN where it overflows.
  return where(lessEqual(x, zero(x)), mul(expm1(minimum(x, 0)), alpha), x)
}
