/** Reduction of losses: one per element, or their mean or sum. */

import { type Kind, oneOf } from '../arguments.ts'
import type { Tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { mean } from './reduce.ts'

/** 'none' returns every loss, 'mean' and 'sum' one number. */
export type Reduction = 'none' | 'mean' | 'sum'

export const aReduction: Kind = oneOf(['none', 'mean', 'sum'])

/** Losses (…) → (…) or (). */
export function reduced(losses: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses
  return reduction === 'sum' ? sum(losses) : mean(losses)
}
