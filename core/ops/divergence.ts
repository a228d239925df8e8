/**
 * Losses between probabilities: binary cross-entropy, of probabilities or logits, and the Kullback–Leibler divergence.
 */

import { aBoolean, aTensor, checkFloats, checkOptions, oneOf } from '../arguments.ts'
import { broadcastShapes, ShapeError, sameShape, show } from '../shape.ts'
import { full, type Tensor } from '../tensor.ts'
import { softplus } from './activation.ts'
import { sum } from './broadcast.ts'
import { log1p } from './elementary.ts'
import { add, affine, div, equal, exp, lessEqual, log, maximum, mul, neg, sub } from './elementwise.ts'
import { aReduction, type Reduction, reduced } from './reduction.ts'
import { where, zero, zeroWhere } from './where.ts'

/** Options of the binary cross-entropies. */
export interface BinaryCrossEntropyOptions {
  /** Factor of each loss, broadcast to them. */
  readonly weight?: Tensor
  /** Default 'mean'. */
  readonly reduction?: Reduction
}

/** Options of `binaryCrossEntropyWithLogits`. */
export interface LogitsOptions extends BinaryCrossEntropyOptions {
  /** Factor of the losses of target 1, broadcast to them. */
  readonly positiveWeight?: Tensor
}

/** Options of `klDivergence`. */
export interface KlDivergenceOptions {
  /** True if the target holds log-probabilities. Default false. */
  readonly logTarget?: boolean
  /** 'batchMean' divides the sum by the first axis, which is the divergence of a batch. Default 'mean', as in PyTorch. */
  readonly reduction?: Reduction | 'batchMean'
}

const lossOptions = { weight: aTensor, reduction: aReduction }
const logitsOptions = { ...lossOptions, positiveWeight: aTensor }
const klOptions = { logTarget: aBoolean, reduction: oneOf(['none', 'mean', 'sum', 'batchMean']) }

/** Throws unless these are float tensors of one dtype and backend, x and the target of one shape. */
function checkPair(op: string, x: Tensor, target: Tensor, weights: Readonly<Record<string, Tensor | undefined>>): void {
  const given = Object.entries(weights).filter((entry): entry is [string, Tensor] => entry[1] !== undefined)
  checkFloats(op, { x, target, ...Object.fromEntries(given) })
  if (!sameShape(x.shape, target.shape))
    throw new ShapeError(`${op}: expected operands of one shape, got ${show(x.shape)} and ${show(target.shape)}`)
}

/** Losses times a weight that broadcasts to them. */
function weighted(op: string, losses: Tensor, weight: Tensor | undefined): Tensor {
  if (weight === undefined) return losses
  if (!sameShape(broadcastShapes(op, losses.shape, weight.shape), losses.shape))
    throw new ShapeError(`${op}: expected a weight that broadcasts to ${show(losses.shape)}, got ${show(weight.shape)}`)
  return mul(losses, weight)
}

/** f(x) ≥ −100, a logarithm. Where x is its pole −100 without a gradient: the gradient there would be infinite. */
function limitedLog(f: (x: Tensor) => Tensor, x: Tensor, atPole: Tensor, safe: number): Tensor {
  const { dtype, backend } = x
  const inside = where(atPole, full([], safe, { dtype, backend }), x)
  return where(atPole, full([], -100, { dtype, backend }), maximum(f(inside), -100))
}

/**
 * −(t log p + (1 − t) log(1 − p)) of probabilities p and targets t in [0, 1], both (…). Logarithms are at least −100, as in
 * PyTorch. Reduced to one number or, with reduction 'none', (…). `binaryCrossEntropyWithLogits` is more accurate. Throws
 * ShapeError.
 */
export function binaryCrossEntropy(p: Tensor, target: Tensor, options: BinaryCrossEntropyOptions = {}): Tensor {
  const op = 'binaryCrossEntropy'
  checkOptions(op, options, lossOptions)
  const { weight, reduction = 'mean' } = options
  checkPair(op, p, target, { weight })
  const one = full([], 1, { dtype: p.dtype, backend: p.backend })
  const logp = limitedLog(log, p, lessEqual(p, zero(p)), 1)
  const logq = limitedLog(x => log1p(neg(x)), p, lessEqual(one, p), 0)
  const losses = neg(add(mul(target, logp), mul(affine(target, -1, 1), logq)))
  return reduced(weighted(op, losses, weight), reduction)
}

/**
 * `binaryCrossEntropy` of p = sigmoid(x), from logits x and targets t in [0, 1], both (…), without overflow. Reduced to one
 * number or, with reduction 'none', (…). Throws ShapeError.
 */
export function binaryCrossEntropyWithLogits(x: Tensor, target: Tensor, options: LogitsOptions = {}): Tensor {
  const op = 'binaryCrossEntropyWithLogits'
  checkOptions(op, options, logitsOptions)
  const { positiveWeight, weight, reduction = 'mean' } = options
  checkPair(op, x, target, { weight, positiveWeight })
  const positives = mul(weighted(op, target, positiveWeight), softplus(neg(x))) // −log σ(x)
  const negatives = mul(affine(target, -1, 1), softplus(x)) // −log(1 − σ(x))
  const losses = add(positives, negatives)
  return reduced(weighted(op, losses, weight), reduction)
}

/**
 * Σ t (log t − x), the divergence of a model's distribution from a target's: log-probabilities x and probabilities t, both
 * (…). Reduced to one number or, with reduction 'none', the terms (…). A term of target 0 is 0. Throws ShapeError.
 */
export function klDivergence(x: Tensor, target: Tensor, options: KlDivergenceOptions = {}): Tensor {
  const op = 'klDivergence'
  checkOptions(op, options, klOptions)
  checkPair(op, x, target, {})
  const { logTarget = false, reduction = 'mean' } = options
  const terms = logTarget ? mul(exp(target), sub(target, x)) : sub(entropyTerms(target), mul(target, x))
  if (reduction !== 'batchMean') return reduced(terms, reduction)
  if (x.shape.length === 0) throw new ShapeError(`${op}: expected a batch axis for 'batchMean', got ${show(x.shape)}`)
  return div(sum(terms), x.shape[0])
}

/** t log t, which is 0 where t is 0. */
function entropyTerms(t: Tensor): Tensor {
  const none = equal(t, zero(t))
  return zeroWhere(none, mul(t, log(where(none, full([], 1, { dtype: t.dtype, backend: t.backend }), t))))
}
