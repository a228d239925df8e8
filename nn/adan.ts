/**
 * Adan [Adan, alg. 1]: Adam with a third moment, of the difference between successive gradients. Semantics of the
 * authors' code, with which MDT v2 trains: the count of steps is common to all parameters, clipping takes this
 * optimizer's eps, the remembered gradient is the clipped one, and the weights shrink after the step unless said.
 * Next: lr-schedule.ts.
 */

import { add, affine, div, mul, scope, sqrt, square, sub, type Tensor, where, zeros } from '../core/index.ts'
import {
  type Active,
  assignWhere,
  clipCoefficient,
  type NamedParameters,
  Optimizer,
  type Slots,
  type StepScalars,
} from './optim.ts'

/** Settings of Adan. */
export interface AdanOptions {
  readonly lr?: number
  /** Share of the old value that the moments of g, of its change, and of the square keep in a step. */
  readonly betas?: readonly [number, number, number]
  readonly eps?: number
  readonly weightDecay?: number
  /** 'after': p ← p / (1 + lr · weightDecay) at the end; 'before': p ← p (1 − lr · weightDecay) first (no_prox). */
  readonly decay?: 'after' | 'before'
}

/** Adan: a Nesterov momentum of gradients and of their differences. [Adan alg. 1] */
export class Adan extends Optimizer {
  readonly betas: readonly [number, number, number]
  readonly eps: number
  readonly weightDecay: number
  readonly decay: 'after' | 'before'
  /** 1 − β^t */
  protected override readonly shared: { correction1: Tensor; correction2: Tensor; correction3: Tensor }
  // `started` is 1 once pre_grad holds a gradient: in a parameter's first step the change is 0.
  protected readonly slots = {
    exp_avg: 'like',
    exp_avg_diff: 'like',
    exp_avg_sq: 'like',
    pre_grad: 'like',
    started: 'scalar',
  } as const

  constructor(parameters: NamedParameters, options: AdanOptions = {}) {
    const { lr = 1e-3, betas = [0.98, 0.92, 0.99], eps = 1e-8, weightDecay = 0, decay = 'after' } = options
    super(parameters, lr)
    this.betas = betas
    this.eps = eps
    this.weightDecay = weightDecay
    this.decay = decay
    const scalar = () => zeros([], this.place).persist()
    this.shared = { correction1: scalar(), correction2: scalar(), correction3: scalar() }
  }

  protected override clipCoefficient(norm: Tensor, maxNorm: number): Tensor {
    return clipCoefficient(norm, maxNorm, this.eps)
  }

  protected update(active: readonly Active[], scalars: StepScalars): void {
    const { correction1, correction2, correction3 } = this.shared
    ;[correction1, correction2, correction3].forEach((c, i) => {
      assignWhere(scalars.finite, c, affine(c, this.betas[i], 1 - this.betas[i]))
    })
    for (const member of active) {
      let slots = this.state.get(member.name)
      if (slots === undefined) {
        const zero = () => zeros(member.p.shape, this.place).persist()
        const started = zeros([], this.place).persist()
        slots = { exp_avg: zero(), exp_avg_diff: zero(), exp_avg_sq: zero(), pre_grad: zero(), started }
        this.state.set(member.name, slots)
      }
      scope(() => this.#move(member, slots, scalars))
    }
  }

  #move({ p, g }: Active, slots: Slots, { lr, clip, finite }: StepScalars): void {
    const { exp_avg: m, exp_avg_diff: d, exp_avg_sq: v, pre_grad, started } = slots
    const { correction1, correction2, correction3 } = this.shared
    const [beta1, beta2, beta3] = this.betas
    const clipped = mul(g, clip)
    const change = where(started, sub(clipped, pre_grad), zeros([], this.place))
    assignWhere(finite, m, add(mul(m, beta1), mul(clipped, 1 - beta1)))
    assignWhere(finite, d, add(mul(d, beta2), mul(change, 1 - beta2)))
    assignWhere(finite, v, add(mul(v, beta3), mul(square(add(clipped, mul(change, beta2))), 1 - beta3)))
    const denominator = affine(div(sqrt(v), sqrt(correction3)), 1, this.eps)
    const direction = div(add(div(m, correction1), mul(div(d, correction2), beta2)), denominator)
    const shrink = lr * this.weightDecay
    const from = this.decay === 'before' ? mul(p, 1 - shrink) : p
    const moved = sub(from, mul(direction, lr))
    assignWhere(finite, p, this.decay === 'after' ? mul(moved, 1 / (1 + shrink)) : moved)
    assignWhere(finite, pre_grad, clipped)
    assignWhere(finite, started, affine(started, 0, 1))
  }
}
