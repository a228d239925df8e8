/** Models whose weights leave no path closed. */

import type { Rng } from '../../core/index.ts'
import type { Module } from '../../nn/index.ts'

/** Puts normal random numbers into every floating-point tensor of a model's state, biases of standard deviation `bias`. */
export function opened<M extends Module>(model: M, random: Rng, bias = 0.1): M {
  const state = Array.from(model.stateDict(), ([name, value]) => {
    const { shape, dtype, size } = value
    const spread = shape.length > 1 ? 0.8 / Math.sqrt(shape.slice(1).reduce((n, d) => n * d, 1)) : bias
    const data = dtype === 'i32' ? value.dataSync() : random.normalArray(size).map(z => z * spread)
    return [name, { shape, data }] as const
  })
  model.loadStateDict(new Map(state))
  return model
}
