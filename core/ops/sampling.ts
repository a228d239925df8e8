/**
 * Functions of tensors and random numbers. The numbers are drawn on the host, from the stream that is given, so a result is a
 * function of the seed on every backend.
 */

import { aBoolean, aNumber, check, checkFloats, checkOptions } from '../arguments.ts'
import { aStream, type Rng } from '../random.ts'
import { ShapeError, show } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { log1p } from './elementary.ts'
import { div, lessEqual, mul, neg } from './elementwise.ts'
import { unsqueeze } from './movement.ts'
import { argmin } from './reductions.ts'
import { topk } from './sort.ts'
import { where, zero } from './where.ts'

/**
 * x (…) with each element replaced by 0 with probability p and otherwise divided by 1 − p. Draws a number for each element;
 * none where p is 0. Throws RangeError unless p is in [0, 1].
 */
export function dropout(x: Tensor, p: number, rng: Rng): Tensor {
  checkFloats('dropout', { x })
  check('dropout', 'p', p, aNumber)
  check('dropout', 'rng', rng, aStream)
  if (!(p >= 0 && p <= 1)) throw atCaller(new RangeError(`dropout: expected a probability in [0, 1], got ${p}`))
  if (p === 0) return x.alias()
  const { backend } = x
  const kept = lessEqual(full([], p, { backend }), rng.uniform(x.shape, { backend }))
  return where(kept, mul(x, p === 1 ? 0 : 1 / (1 - p)), zero(x))
}

/** Options of `multinomial`. */
export interface MultinomialOptions {
  /** True if a category may come more than once. Default false. */
  readonly replacement?: boolean
}

/**
 * n categories of each row, drawn in proportion to weights (…, C) ≥ 0, which need not sum to 1: i32 (…, n) in [0, C). Without
 * replacement, the default, a category comes once at most. A row needs as many weights above 0 as draws that differ. Throws
 * ShapeError.
 */
export function multinomial(weights: Tensor, n: number, rng: Rng, options: MultinomialOptions = {}): Tensor {
  checkFloats('multinomial', { weights })
  check('multinomial', 'n', n, aNumber)
  check('multinomial', 'rng', rng, aStream)
  checkOptions('multinomial', options, { replacement: aBoolean })
  const { replacement = false } = options
  const C = weights.shape.at(-1)
  if (C === undefined || C === 0)
    throw new ShapeError(`multinomial: expected weights [..., C] with C from 1, got ${show(weights.shape)}`)
  if (!(Number.isInteger(n) && n >= 0 && (replacement || n <= C)))
    throw new ShapeError(`multinomial: expected ${replacement ? 'n from 0' : `n from 0 to ${C} categories`}, got ${n}`)
  const { dtype, backend } = weights
  // The first of exponential times with rates w is that of category i with probability wᵢ / Σ w, and so are the next ones
  // among the categories that are left.
  const times = (w: Tensor, shape: readonly number[]) => {
    const time = div(neg(log1p(neg(rng.uniform(shape, { dtype, backend })))), w)
    return where(lessEqual(w, zero(w)), full([], Infinity, { dtype, backend }), time)
  }
  const w = weights.detach()
  if (!replacement && n !== 1) return topk(times(w, w.shape), n, -1, { largest: false }).indices // (…, n)
  return argmin(times(unsqueeze(w, -2), [...w.shape.slice(0, -1), n, C]), -1) // (…, n)
}
