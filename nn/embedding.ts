/**
 * A table of vectors, read by index.
 */

import { aFunction, check } from '../core/arguments.ts'
import { embedding, type Tensor } from '../core/index.ts'
import { type Init, type Initializer, normal } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Layer, parameter } from './module.ts'

/** One row of `weight` per id. */
export class Embedding extends Layer {
  /** (V, D) */
  readonly weight: Tensor

  constructor(V: number, D: number, init: Init, weight: Initializer = normal(0.02)) {
    super()
    checkLayer('Embedding', { V, D }, init)
    check('Embedding', 'weight', weight, aFunction)
    this.weight = parameter(weight([V, D], init))
  }

  /** ids i32 (…) in [0, V) → (…, D). Throws RangeError. */
  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids)
  }
}
