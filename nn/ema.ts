/**
 * Moving averages of weights, from which pictures are sampled: average ← d · average + (1 − d) · weights after each
 * step. The average is a second module of the same architecture, used directly. Next: diffusion/gaussian.ts.
 */

import { add, mul, noGrad, ones, scope, sub, type Tensor } from '../core/index.ts'
import type { Module } from './module.ts'
import { assignWhere } from './optim.ts'

/** The decay of an update, counted from 0. */
export type Decay = (update: number) => number

/** The same at every update, as in DiT, MDT and MaskDiT. */
export function constantDecay(decay: number): Decay {
  return () => decay
}

/** min(decay, (1 + update) / (10 + update)): short memory at first, so that the beginning is soon forgotten. */
export function warmUpDecay(decay: number): Decay {
  return update => Math.min(decay, (1 + update) / (10 + update))
}

/**
 * MaskDM's, from the ema_pytorch package: a plain copy for the first `after` + 1 updates, then 1 − (1 + n)^(−2/3) at the
 * n-th update after those, at most `decay`.
 */
export function powerDecay(decay: number, after = 100): Decay {
  return update => (update <= after ? 0 : Math.min(decay, 1 - (1 + update - after) ** (-2 / 3)))
}

/** How an average follows. */
export interface EmaOptions {
  readonly decay: Decay
  /** Leaves frozen parameters out, as MaskDiT does; DiT averages them too. */
  readonly skipFrozen?: boolean
}

/** A moving average of a model's weights, in a model of its own. */
export class Ema<M extends Module> {
  /** The averaged module. */
  readonly average: M
  readonly decay: Decay
  /** Updates asked for so far, those of skipped steps too: what a resumed run must set again. */
  updates = 0
  readonly #targets: readonly Tensor[]
  readonly #sources: readonly Tensor[]

  /**
   * `average` is a module like `model`, whose state is overwritten with that of `model`; build it with `rng: null`.
   * Throws ShapeError when the two differ in names or shapes.
   */
  constructor(model: M, average: M, { decay, skipFrozen = false }: EmaOptions) {
    average.loadStateDict(model.stateDict())
    const targets = average.stateDict()
    const pairs = [...model.namedParameters()].filter(([, p]) => p.requiresGrad || !skipFrozen)
    this.average = average
    this.decay = decay
    this.#sources = pairs.map(([, p]) => p)
    this.#targets = pairs.map(([name]) => targets.get(name)!)
  }

  /** Follows the model by one step; not at all where the one number `finite`, as the optimizer's step returns it, is 0. */
  update(finite?: Tensor): void {
    const weight = 1 - this.decay(this.updates)
    this.updates++
    noGrad(() => scope(() => lerp(this.#targets, this.#sources, weight, finite)))
  }
}

/** target ← target + weight (source − target) for each pair, where `finite` is 1 or absent. */
function lerp(targets: readonly Tensor[], sources: readonly Tensor[], weight: number, finite?: Tensor): void {
  if (targets.length === 0) return // everything is frozen, and that is skipped
  const { backend, dtype } = targets[0]
  const flag = finite ?? ones([], { backend, dtype })
  if (backend.kernels.lerp === undefined) {
    targets.forEach((target, i) => {
      scope(() => assignWhere(flag, target, add(target, mul(sub(sources[i], target), weight))))
    })
    return
  }
  backend.kernels.lerp(targets, sources, weight, flag)
  for (const { storage } of targets) storage.version++
}
