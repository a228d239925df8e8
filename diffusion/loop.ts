/**
 * The loop over steps of all samplers, as a generator, so that the caller can show, save or stop in between.
 * A step runs in a scope and without recording; the loop holds one step's tensors and frees those before them.
 */

import { noGrad, Rng, scope, type Tensor } from '../core/index.ts'

/** Result of a step: x one step further, and the x_0 that the network predicted on the way; both (N, C, …). */
export interface Sampled {
  readonly x: Tensor
  readonly predXStart: Tensor
}

/** Where a loop's noise comes from: drawn, or given for each step 0, 1, …, of the shape of x. */
export type NoiseSource = Rng | ((step: number) => Tensor)

/** Noise for a step, of the shape of x. Called inside the step's scope, which frees it. */
export function noiseLike(x: Tensor, source: NoiseSource, step: number): Tensor {
  return source instanceof Rng ? source.normal(x.shape, { dtype: x.dtype, backend: x.backend }) : source(step)
}

/** A step of a loop: what was known before it, its number, and what it gave. */
export type Stepped<Plan> = Plan & Sampled & { readonly step: number }

/**
 * Runs `move` for each plan in turn, from `start` (N, …); it is given x and the last step's prediction (null in the first).
 * Yielded tensors stay valid until the generator advances or is closed; keep one longer with `x.alias()`.
 */
export function* stepping<Plan>(
  start: Tensor,
  plans: readonly Plan[],
  move: (x: Tensor, plan: Plan, step: number, lastPrediction: Tensor | null) => Sampled,
): Generator<Stepped<Plan>, void> {
  const held: Tensor[] = []
  const hold = (...tensors: Tensor[]) => {
    for (const x of held.splice(0)) x.dispose()
    held.push(...tensors)
  }
  let x = start
  let prediction: Tensor | null = null
  try {
    for (const [step, plan] of plans.entries()) {
      const next = noGrad(() => scope(() => own(move(x, plan, step, prediction))))
      hold(next.x, next.predXStart)
      x = next.x
      prediction = next.predXStart
      yield { ...plan, step, ...next }
    }
  } finally {
    hold()
  }
}

/** Handles of the loop's own: a network may hand back its very input. */
function own({ x, predXStart }: Sampled): Sampled {
  return { x: x.alias(), predXStart: predXStart.alias() }
}

/** Called after every step. */
export interface OnStep<S> {
  /** Called after every step. */
  readonly onStep?: (step: S) => void
}

/** Runs a loop to its end, calling back after every step; x after the last one, which is the caller's to dispose. */
export function finish<S extends Sampled>(loop: Generator<S, void>, onStep?: (step: S) => void): Tensor {
  let last: Tensor | undefined
  for (const step of loop) {
    last?.dispose()
    last = undefined
    onStep?.(step)
    last = step.x.alias()
  }
  return last!
}
