/**
 * The inception score [IS §4]: how surely a classifier names each picture, and how evenly it uses its classes. Next:
 * precision-recall.ts.
 */

import { aNumber, check } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { type Features, sizeOfFeatures } from './matrix.ts'

/**
 * exp(mean KL(p(y|x) ‖ p(y))) of logits (N, K), p(y) being the mean of p(y|x): between 1 and K. With `splitSize` the mean
 * of the scores of groups of that many pictures (the last may be smaller); ADM's evaluator takes 5,000. Throws
 * ShapeError and RangeError.
 */
export function inceptionScore(logits: Features, splitSize = Number.POSITIVE_INFINITY): number {
  const [N, K] = sizeOfFeatures('inceptionScore', logits)
  check('inceptionScore', 'splitSize', splitSize, aNumber)
  if (!(splitSize >= 1))
    throw atCaller(new RangeError(`inceptionScore: expected a split of 1 picture or more, got ${splitSize}`))
  let sum = 0
  let splits = 0
  for (let from = 0; from < N; from += splitSize, splits++)
    sum += scoreOf(logits.data, K, from, Math.min(from + splitSize, N))
  return sum / splits
}

/** The score of rows [from, to): KL = Σ p(y|x) log p(y|x) − Σ p(y|x) log p(y), and the mean of the latter is −H(y). */
function scoreOf(logits: ArrayLike<number>, K: number, from: number, to: number): number {
  const marginal = new Float64Array(K)
  let negativeEntropy = 0
  for (let n = from; n < to; n++) {
    const row = Float64Array.from({ length: K }, (_, y) => logits[n * K + y])
    const largest = row.reduce((most, x) => Math.max(most, x), Number.NEGATIVE_INFINITY)
    const logSum = largest + Math.log(row.reduce((total, x) => total + Math.exp(x - largest), 0))
    for (let y = 0; y < K; y++) {
      const logP = row[y] - logSum
      const p = Math.exp(logP)
      marginal[y] += p / (to - from)
      // 0 log 0 is 0.
      if (p > 0) negativeEntropy += (p * logP) / (to - from)
    }
  }
  const crossEntropy = marginal.reduce((total, p) => (p > 0 ? total - p * Math.log(p) : total), 0)
  return Math.exp(negativeEntropy + crossEntropy)
}
