/**
 * AdamW [AdamW alg. 2] in PyTorch's order of operations, with AMSGrad on request. One update moves all parameters of a
 * group that took the same number of steps.
 */

import { aBoolean, aNumber, checkOptions, numbers } from '../core/arguments.ts'
import { adamW, copy, type Tensor, zeros } from '../core/index.ts'
import type { StateSource } from './module.ts'
import {
  type Active,
  countStep,
  type Group,
  Optimizer,
  type OptimizerParameters,
  type SlotKinds,
  type StepScalars,
  valuesOf,
} from './optim.ts'

/** Settings of AdamW, with PyTorch's defaults. */
export interface AdamWOptions {
  readonly lr?: number
  /** Share of the old value that the first and the second moment keep in a step. */
  readonly betas?: readonly [number, number]
  readonly eps?: number
  /** Decoupled: the weights shrink by lr · weightDecay, apart from the gradient. */
  readonly weightDecay?: number
  /** Divides by the largest second moment so far: AMSGrad. */
  readonly amsgrad?: boolean
  /** Ascends the gradient. */
  readonly maximize?: boolean
}

type Settled = Required<AdamWOptions>

const defaults: Settled = {
  lr: 1e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0.01,
  amsgrad: false,
  maximize: false,
}

/** Slots of PyTorch's state: m, v, and the largest v so far. */
function momentsOf({ amsgrad }: Settled): SlotKinds {
  return { exp_avg: 'like', exp_avg_sq: 'like', ...(amsgrad && { max_exp_avg_sq: 'like' }) }
}

const corrections = ['correction1', 'correction2'] as const

/** PyTorch's AdamW and its defaults. */
export class AdamW extends Optimizer<Settled> {
  constructor(parameters: OptimizerParameters<AdamWOptions>, options: AdamWOptions = {}) {
    super(new.target === Adam ? 'Adam' : 'AdamW', parameters, defaults, options)
  }

  // The corrections are 1 − β^t. t counts a parameter's own steps; those that took the same steps share two scalars.
  protected slotsOf(options: Settled): SlotKinds {
    return { ...momentsOf(options), correction1: 'scalar', correction2: 'scalar' }
  }

  protected update(group: Group<Settled>, active: readonly Active[], { lr, clip, finite }: StepScalars): void {
    for (const members of this.#cohorts(group, active)) {
      const { correction1, correction2 } = this.state.get(members[0].name)!
      countStep([correction1, correction2], group.options.betas, finite)
      const rows = members.map(({ name, p, g }) => {
        const { exp_avg: m, exp_avg_sq: v, max_exp_avg_sq: vmax } = this.state.get(name)!
        return { p, g, m, v, vmax }
      })
      adamW(rows, { clip, correction1, correction2 }, { ...group.options, lr }, finite)
    }
  }

  /** The active parameters by the steps they have taken, with state for those that had none. */
  #cohorts(group: Group<Settled>, active: readonly Active[]): Iterable<readonly Active[]> {
    const sizes = new Map<Tensor, number>()
    for (const { correction1 } of this.state.values()) sizes.set(correction1, (sizes.get(correction1) ?? 0) + 1)
    const cohorts = new Map<Tensor | undefined, Active[]>()
    for (const member of active) {
      const key = this.state.get(member.name)?.correction1
      const members = cohorts.get(key)
      if (members === undefined) cohorts.set(key, [member])
      else members.push(member)
    }
    for (const [key, members] of cohorts) {
      if (key !== undefined && members.length === sizes.get(key)) continue
      // New, or parting from others that have no gradient this time: from now on they count for themselves.
      const before = this.state.get(members[0].name)
      const [correction1, correction2] = corrections.map(name =>
        (before === undefined ? zeros([], this.place) : copy(before[name])).persist(),
      )
      for (const { name } of members) {
        const moments = this.state.get(name) ?? this.zeroSlots(name, momentsOf(group.options))
        this.state.set(name, { ...moments, correction1, correction2 })
      }
    }
    return cohorts.values()
  }

  override loadStateDict(source: StateSource): void {
    // Equal corrections in a group are equal counts of steps. Read before `super` frees what may be the source.
    const counts = new Map<string, string>()
    for (const { index, parameters } of this.groups)
      for (const name of parameters.keys()) {
        const own = corrections.map(c => `${c}.${name}`).filter(key => source.has(key))
        counts.set(name, [index, ...own.map(key => valuesOf(source, key)[0])].join())
      }
    super.loadStateDict(source)
    // Share them again.
    const first = new Map<string, { correction1: Tensor; correction2: Tensor }>()
    for (const [name, slots] of this.state) {
      const key = counts.get(name)!
      const { correction1, correction2 } = slots
      const shared = first.get(key)
      if (shared === undefined) first.set(key, { correction1, correction2 })
      else {
        correction1.dispose()
        correction2.dispose()
        this.state.set(name, { ...slots, ...shared })
      }
    }
  }
}

/** Settings of Adam, with PyTorch's defaults. */
export type AdamOptions = Omit<AdamWOptions, 'weightDecay'>

const adamKinds = { lr: aNumber, betas: numbers, eps: aNumber, amsgrad: aBoolean, maximize: aBoolean }

/** PyTorch's Adam without weight decay, which is AdamW without it. */
export class Adam extends AdamW {
  constructor(parameters: OptimizerParameters<AdamOptions>, options: AdamOptions = {}) {
    checkOptions('Adam', options, adamKinds)
    super(parameters, { ...options, weightDecay: 0 })
  }
}
