/**
 * Stochastic gradient descent with momentum.
 */

import { assign, ones, sgd } from '../core/index.ts'
import {
  type Active,
  type Group,
  Optimizer,
  type OptimizerParameters,
  type SlotKinds,
  type StepScalars,
} from './optim.ts'

/** Settings of SGD, with PyTorch's defaults. */
export interface SgdOptions {
  readonly lr?: number
  readonly momentum?: number
  /** The momentum buffer takes 1 − dampening of each gradient after the first. */
  readonly dampening?: number
  /** Steps along g + momentum · b. Needs momentum, and no dampening. */
  readonly nesterov?: boolean
  /** Added to the gradient times the weights, before the momentum. */
  readonly weightDecay?: number
  /** Ascends the gradient. */
  readonly maximize?: boolean
}

type Settled = Required<SgdOptions>

const defaults: Settled = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  nesterov: false,
  weightDecay: 0,
  maximize: false,
}

/** b ← momentum · b + (1 − dampening) · g;  p ← p − lr · b. As PyTorch's SGD. */
export class Sgd extends Optimizer<Settled> {
  constructor(parameters: OptimizerParameters<SgdOptions>, options: SgdOptions = {}) {
    super('Sgd', parameters, defaults, options)
  }

  // `started` is 1 once the buffer holds a gradient: the first one is not dampened.
  protected slotsOf(options: Settled): SlotKinds {
    return { momentum_buffer: 'like', ...(isDampened(options) && { started: 'scalar' }) }
  }

  protected update(group: Group<Settled>, active: readonly Active[], { lr, clip, finite }: StepScalars): void {
    const rows = active.map(({ name, p, g }) => {
      const { momentum_buffer: b, started } = this.slotsAt(name, group)
      return { p, g, b, started }
    })
    const dampening = isDampened(group.options) ? group.options.dampening : 0
    sgd(rows, { clip }, { ...group.options, dampening, lr }, finite)
    const flags = rows.flatMap(({ started }) => started ?? [])
    const one = ones([], this.place)
    assign(
      flags,
      flags.map(() => one),
      finite,
    )
  }
}

/** As in PyTorch, dampening counts only with momentum. */
function isDampened({ momentum, dampening }: Settled): boolean {
  return momentum !== 0 && dampening !== 0
}
