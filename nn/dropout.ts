/**
 * Dropout as a layer. The function is core/ops/sampling.ts.
 */

import { aNumber, check } from '../core/arguments.ts'
import { dropout, type Rng, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { Layer } from './module.ts'

/** Replaces elements by 0 with probability p and divides the others by 1 − p, in training alone. */
export class Dropout extends Layer {
  readonly p: number

  /** Throws RangeError unless p is in [0, 1]. */
  constructor(p = 0.5) {
    super()
    check('Dropout', 'p', p, aNumber)
    if (!(p >= 0 && p <= 1)) throw atCaller(new RangeError(`Dropout: expected a probability in [0, 1], got ${p}`))
    this.p = p
  }

  /** x (…) → (…). Without a stream to draw from, as outside training, x stays as it is. */
  forward(x: Tensor, rng: Rng | null = null): Tensor {
    return rng === null ? x.alias() : dropout(x, this.p, rng)
  }
}
