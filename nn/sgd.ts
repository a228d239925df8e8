/**
 * Stochastic gradient descent with momentum. Next: adamw.ts.
 */

import { add, mul, scope, sub, zeros } from '../core/index.ts'
import { type Active, assignWhere, type NamedParameters, Optimizer, type StepScalars } from './optim.ts'

/** Settings of SGD, with PyTorch's defaults. */
export interface SgdOptions {
  readonly lr?: number
  readonly momentum?: number
}

/** b ← momentum · b + g;  p ← p − lr · b. As PyTorch's SGD. */
export class Sgd extends Optimizer {
  readonly momentum: number
  protected readonly slots = { momentum_buffer: 'like' } as const

  constructor(parameters: NamedParameters, { lr = 1e-3, momentum = 0 }: SgdOptions = {}) {
    super(parameters, lr)
    this.momentum = momentum
  }

  protected update(active: readonly Active[], { lr, clip, finite }: StepScalars): void {
    for (const { name, p, g } of active) {
      if (!this.state.has(name)) this.state.set(name, { momentum_buffer: zeros(p.shape, this.place).persist() })
      const { momentum_buffer: b } = this.state.get(name)!
      scope(() => {
        assignWhere(finite, b, add(mul(b, this.momentum), mul(g, clip)))
        assignWhere(finite, p, sub(p, mul(b, lr)))
      })
    }
  }
}
