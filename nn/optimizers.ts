/** Optimizers by name, with one set of options, for programs whose optimizer is a setting. */

import { aFiniteNumber, check, checkFields, iterableOf, numbers, oneOf } from '../core/arguments.ts'
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

const optionKinds = { optimizer: oneOf(optimizerNames), lr: aFiniteNumber, weightDecay: aFiniteNumber, betas: numbers }

/** Creates the optimizer that `optimizer` names. Other settings of a run are ignored. Throws as the constructors do. */
export function optimizerOf(parameters: NamedParameters, options: NamedOptimizerOptions): Optimizer {
  check('optimizerOf', 'parameters', parameters, iterableOf('pairs of a name and a parameter'))
  checkFields('optimizerOf', options, optionKinds)
  const { optimizer = 'adamw', lr, weightDecay, betas } = options
  check('optimizerOf', 'lr', lr, aFiniteNumber)
  check('optimizerOf', 'weightDecay', weightDecay, aFiniteNumber)
  if (optimizer === 'adan') return new Adan(parameters, { lr, weightDecay })
  if (optimizer === 'sgd') return new Sgd(parameters, { lr, weightDecay, momentum: 0.9 })
  return new AdamW(parameters, { lr, weightDecay, betas })
}
