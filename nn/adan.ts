/**
 * Adan [Adan, alg. 1]: Adam with a third moment, of the difference between successive gradients. Semantics of the
 * authors' code, with which MDT v2 trains: the count of steps is common to all parameters of a group, clipping takes this
 * optimizer's eps, the saved previous gradient is the clipped one, and weight decay is applied after the step by default.
 */

import { check, oneOf } from '../core/arguments.ts'
import { adan, assign, ones, zeros } from '../core/index.ts'
import {
  type Active,
  countStep,
  type Group,
  Optimizer,
  type OptimizerParameters,
  type SlotKinds,
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

type Settled = Required<AdanOptions>

const defaults: Settled = { lr: 1e-3, betas: [0.98, 0.92, 0.99], eps: 1e-8, weightDecay: 0, decay: 'after' }

const slots: SlotKinds = {
  exp_avg: 'like',
  exp_avg_diff: 'like',
  exp_avg_sq: 'like',
  pre_grad: 'like',
  started: 'scalar',
}

/** Adan: a Nesterov momentum of gradients and of their differences. [Adan alg. 1] */
export class Adan extends Optimizer<Settled> {
  constructor(parameters: OptimizerParameters<AdanOptions>, options: AdanOptions = {}) {
    super('Adan', parameters, defaults, options)
    for (const { options } of this.groups) check('Adan', 'decay', options.decay, oneOf(['before', 'after']))
    for (const group of this.groups)
      for (const key of correctionsOf(group)) this.shared[key] = zeros([], this.place).persist()
  }

  // `started` is 1 once pre_grad holds a gradient: in a parameter's first step the change is 0.
  protected slotsOf(): SlotKinds {
    return slots
  }

  protected override clipEps({ eps }: Settled): number {
    return eps
  }

  protected update(group: Group<Settled>, active: readonly Active[], { lr, clip, finite }: StepScalars): void {
    const counts = correctionsOf(group).map(key => this.shared[key])
    countStep(counts, group.options.betas, finite)
    const rows = active.map(({ name, p, g }) => {
      const { exp_avg: m, exp_avg_diff: d, exp_avg_sq: v, pre_grad: before, started } = this.slotsAt(name, group)
      return { p, g, m, d, v, before, started }
    })
    const [correction1, correction2, correction3] = counts
    adan(rows, { clip, correction1, correction2, correction3 }, { ...group.options, lr }, finite)
    const one = ones([], this.place)
    assign(
      rows.map(({ started }) => started),
      rows.map(() => one),
      finite,
    )
  }
}

/** Where the state dict has a group's three 1 − β^t; those of the first group have no prefix. */
function correctionsOf({ index }: Group<Settled>): string[] {
  const prefix = index === 0 ? '' : `group${index}.`
  return [1, 2, 3].map(i => `${prefix}correction${i}`)
}
