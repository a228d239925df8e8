/** Optimizers by name, with one set of options, for programs whose optimizer is a setting. */

import { AdamW } from './adamw.ts'
import { Adan } from './adan.ts'
import type { NamedParameters, Optimizer } from './optim.ts'
import { Sgd } from './sgd.ts'

/** Names of optimizers: AdamW, Adan, and SGD with momentum 0.9. */
export const optimizerNames = ['adamw', 'adan', 'sgd'] as const
/** Name of an optimizer. */
export type OptimizerName = (typeof optimizerNames)[number]

/** Options that all optimizers have. */
export interface NamedOptimizerOptions {
  /** Default 'adamw'. */
  readonly optimizer?: OptimizerName
  readonly lr: number
  readonly weightDecay: number
  /** Of AdamW; the others have their own. */
  readonly betas?: readonly [number, number]
}

/** Creates the optimizer that `optimizer` names. Throws as the constructors do. */
export function optimizerOf(
  parameters: NamedParameters,
  { optimizer = 'adamw', lr, weightDecay, betas }: NamedOptimizerOptions,
): Optimizer {
  if (optimizer === 'adan') return new Adan(parameters, { lr, weightDecay })
  if (optimizer === 'sgd') return new Sgd(parameters, { lr, weightDecay, momentum: 0.9 })
  return new AdamW(parameters, { lr, weightDecay, betas })
}
