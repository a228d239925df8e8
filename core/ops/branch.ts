/**
 * Gradients of what was chosen between. They are never taken times 0: where one is infinite, that is NaN.
 */

import type { Shape } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { where } from './elementwise.ts'

/** 0 in the dtype and on the backend of g, of `shape`. */
export function zero(g: Tensor, shape: Shape = []): Tensor {
  return full(shape, 0, { dtype: g.dtype, backend: g.backend })
}

/** g, but 0 where the condition is not 0. */
export function unless(condition: Tensor, g: Tensor): Tensor {
  return where(condition, zero(g), g)
}
