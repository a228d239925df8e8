/**
 * Moving averages of weights, from which pictures are sampled: average ← d · average + (1 − d) · weights after each
 * step. The average is a second module of the same architecture, used directly.
 */

import { aBoolean, aFunction, aNumber, check, checkOptions, checkTensor, describe } from '../core/arguments.ts'
import { lerp, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { aModule, type Module } from './module.ts'

/** The decay of an update, counted from 0. */
export type Decay = (update: number) => number

/** Throws unless a decay is a number in [0, 1]. */
function checkDecay(op: string, decay: number): void {
  check(op, 'decay', decay, aNumber)
  if (!(decay >= 0 && decay <= 1))
    throw atCaller(new RangeError(`${op}: expected a decay in [0, 1], got ${describe(decay)}`))
}

/** The same at every update, as in DiT, MDT and MaskDiT. Throws RangeError unless it is in [0, 1], as below. */
export function constantDecay(decay: number): Decay {
  checkDecay('constantDecay', decay)
  return () => decay
}

/** min(decay, (1 + update) / (10 + update)): short memory at first, so that the beginning is soon forgotten. */
export function warmUpDecay(decay: number): Decay {
  checkDecay('warmUpDecay', decay)
  return update => Math.min(decay, (1 + update) / (10 + update))
}

/**
 * MaskDM's, from the ema_pytorch package: a plain copy for the first `after` + 1 updates, then 1 − (1 + n)^(−2/3) at the
 * n-th update after those, at most `decay`.
 */
export function powerDecay(decay: number, after = 100): Decay {
  checkDecay('powerDecay', decay)
  check('powerDecay', 'after', after, aNumber)
  return update => (update <= after ? 0 : Math.min(decay, 1 - (1 + update - after) ** (-2 / 3)))
}

/** How an average follows. */
export interface EmaOptions {
  readonly decay: Decay
  /** Leaves frozen parameters out, as MaskDiT does; DiT averages them too. */
  readonly skipFrozen?: boolean
}

/** A tensor of the average, and the one of the model that it follows, of one shape. */
export interface AveragePair {
  readonly target: Tensor
  readonly source: Tensor
}

/** A moving average of a model's weights, in a model of its own. */
export class Ema<M extends Module> {
  /** The averaged module. */
  readonly average: M
  readonly decay: Decay
  /** Updates asked for so far, those of skipped steps too: what a resumed run must set again. */
  updates = 0
  #targets: readonly Tensor[]
  #sources: readonly Tensor[]

  /**
   * `average` is a module like `model`, whose state is overwritten with that of `model`; build it with `rng: null`.
   * Throws ShapeError when the two differ in names or shapes.
   */
  constructor(model: M, average: M, options: EmaOptions) {
    check('Ema', 'model', model, aModule)
    check('Ema', 'average', average, aModule)
    checkOptions('Ema', options, { decay: aFunction, skipFrozen: aBoolean })
    const { decay, skipFrozen = false } = options
    check('Ema', 'decay', decay, aFunction)
    average.loadStateDict(model.stateDict())
    const targets = average.stateDict()
    const pairs = new Map<Tensor, Tensor>() // a tied target moves once
    for (const [name, p] of model.namedState())
      if (p.role !== 'buffer' && (p.requiresGrad || !skipFrozen)) pairs.set(targets.get(name)!, p)
    this.average = average
    this.decay = decay
    this.#targets = [...pairs.keys()]
    this.#sources = [...pairs.values()]
  }

  /**
   * Follows the model by one step; not at all where the one number `finite`, as the optimizer's step returns it, is 0.
   * Throws RangeError on a decay outside [0, 1].
   */
  update(finite?: Tensor): void {
    if (finite !== undefined) checkTensor('Ema', 'finite', finite)
    const decay = this.decay(this.updates)
    checkDecay('Ema', decay)
    this.updates++
    lerp(this.#targets, this.#sources, 1 - decay, finite)
  }

  /** The tensors that an update moves. */
  get pairs(): readonly AveragePair[] {
    return this.#targets.map((target, i) => ({ target, source: this.#sources[i] }))
  }

  /**
   * From now on follows only these tensors of the model, of any shapes. Returns the other averages, with the tensors that
   * they followed.
   */
  keepOnly(sources: Iterable<Tensor>): readonly AveragePair[] {
    const own = new Set(sources)
    const { pairs } = this
    const kept = pairs.filter(({ source }) => own.has(source))
    this.#targets = kept.map(({ target }) => target)
    this.#sources = kept.map(({ source }) => source)
    return pairs.filter(({ source }) => !own.has(source))
  }
}
