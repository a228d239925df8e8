/**
 * AdamW [AdamW alg. 2] in PyTorch's order of operations. Where the backend has a fused kernel, one
 * launch updates many tensors in place; elsewhere plain ops do the same. Next: adan.ts.
 */

import { add, affine, copy, div, mul, scope, sqrt, square, sub, type Tensor, zeros } from '../core/index.ts'
import type { StateSource } from './module.ts'
import { type Active, assignWhere, type NamedParameters, Optimizer, type StepScalars, valuesOf } from './optim.ts'

/** Settings of AdamW, with PyTorch's defaults. */
export interface AdamWOptions {
  readonly lr?: number
  /** Share of the old value that the first and the second moment keep in a step. */
  readonly betas?: readonly [number, number]
  readonly eps?: number
  /** Decoupled: the weights shrink by lr · weightDecay, apart from the gradient. */
  readonly weightDecay?: number
}

const corrections = ['correction1', 'correction2'] as const

/** PyTorch's AdamW and its defaults. */
export class AdamW extends Optimizer {
  readonly betas: readonly [number, number]
  readonly eps: number
  readonly weightDecay: number
  // The corrections are 1 − β^t. t counts a parameter's own steps; those that took the same steps share two scalars.
  protected readonly slots = {
    exp_avg: 'like',
    exp_avg_sq: 'like',
    correction1: 'scalar',
    correction2: 'scalar',
  } as const

  constructor(parameters: NamedParameters, options: AdamWOptions = {}) {
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options
    super(parameters, lr)
    this.betas = betas
    this.eps = eps
    this.weightDecay = weightDecay
  }

  protected update(active: readonly Active[], scalars: StepScalars): void {
    for (const members of this.#cohorts(active)) {
      const shared = this.state.get(members[0].name)!
      corrections.forEach((name, i) => {
        const [c, beta] = [shared[name], this.betas[i]]
        assignWhere(scalars.finite, c, affine(c, beta, 1 - beta)) // 1 − β^t = β (1 − β^(t−1)) + 1 − β
      })
      if (!this.#fused(members, shared.correction1, shared.correction2, scalars))
        for (const member of members) scope(() => this.#plain(member, scalars))
    }
  }

  /** The active parameters by the steps they have taken, with state for those that had none. */
  #cohorts(active: readonly Active[]): Iterable<readonly Active[]> {
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
      for (const { name, p } of members) {
        const zero = () => zeros(p.shape, this.place).persist()
        const { exp_avg, exp_avg_sq } = this.state.get(name) ?? { exp_avg: zero(), exp_avg_sq: zero() }
        this.state.set(name, { exp_avg, exp_avg_sq, correction1, correction2 })
      }
    }
    return cohorts.values()
  }

  /** One launch for all; false where the backend has no such kernel. */
  #fused(members: readonly Active[], correction1: Tensor, correction2: Tensor, scalars: StepScalars): boolean {
    const { lr, clip, finite } = scalars
    const {
      betas: [beta1, beta2],
      eps,
      weightDecay,
    } = this
    const { kernels } = members[0].p.backend
    if (kernels.adamW === undefined) return false
    const tensors = members.map(({ name, p, g }) => {
      const { exp_avg: m, exp_avg_sq: v } = this.state.get(name)!
      return { p, g, m, v }
    })
    kernels.adamW(tensors, { lr, beta1, beta2, eps, weightDecay }, { clip, correction1, correction2, finite })
    for (const { p, m, v } of tensors) for (const { storage } of [p, m, v]) storage.version++
    return true
  }

  #plain({ name, p, g }: Active, { lr, clip, finite }: StepScalars): void {
    const { exp_avg: m, exp_avg_sq: v, correction1, correction2 } = this.state.get(name)!
    const [beta1, beta2] = this.betas
    const clipped = mul(g, clip)
    assignWhere(finite, m, add(mul(m, beta1), mul(clipped, 1 - beta1)))
    assignWhere(finite, v, add(mul(v, beta2), mul(square(clipped), 1 - beta2)))
    const denominator = affine(div(sqrt(v), sqrt(correction2)), 1, this.eps)
    const step = mul(div(div(m, correction1), denominator), lr)
    assignWhere(finite, p, sub(mul(p, 1 - lr * this.weightDecay), step))
  }

  override loadStateDict(source: StateSource): void {
    // Equal corrections are equal counts of steps. Read before `super` frees what may be the source.
    const counts = new Map<string, string>()
    for (const name of this.parameters.keys()) {
      const own = corrections.map(c => `${c}.${name}`).filter(key => source.has(key))
      counts.set(name, own.map(key => valuesOf(source, key)[0]).join())
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

/** PyTorch's Adam without weight decay, which is AdamW without it. */
export class Adam extends AdamW {
  constructor(parameters: NamedParameters, options: Omit<AdamWOptions, 'weightDecay'> = {}) {
    super(parameters, { ...options, weightDecay: 0 })
  }
}
