/**
 * Losses: between two tensors of one shape, and of classification. (The diffusion losses are built from plain ops in
 * diffusion/.)
 */

import { aNumber, anInteger, aTensor, checkFloats, checkOptions, checkTensors } from '../arguments.ts'
import { ShapeError, sameShape, show } from '../shape.ts'
import { ones, type Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { broadcastTo, sum } from './broadcast.ts'
import { abs, add, affine, div, equal, lessEqual, mul, neg, square, sub } from './elementwise.ts'
import { pickOf } from './gather.ts'
import { permute } from './movement.ts'
import { aReduction, type Reduction, reduced } from './reduction.ts'
import { logSoftmax } from './softmax.ts'
import { where, zeroWhere } from './where.ts'

/** Options of all losses. */
export interface LossOptions {
  /** By default 'mean'. */
  readonly reduction?: Reduction
}

const lossOptions = { reduction: aReduction }

/** a − b of one shape: broadcasting (N, 1) against (N) here has cost people weeks. */
function difference(op: string, a: Tensor, b: Tensor): Tensor {
  checkFloats(op, { a, b })
  if (!sameShape(a.shape, b.shape))
    throw new ShapeError(`${op}: expected operands of one shape, got ${show(a.shape)} and ${show(b.shape)}`)
  return sub(a, b)
}

/** (a − b)² of a and b (…): its mean over all elements, or as `reduction` says. Throws ShapeError. */
export function mse(a: Tensor, b: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('mse', options, lossOptions)
  return reduced(square(difference('mse', a, b)), options.reduction ?? 'mean')
}

/** |a − b| of a and b (…): its mean over all elements, or as `reduction` says. Throws ShapeError. */
export function l1(a: Tensor, b: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('l1', options, lossOptions)
  return reduced(abs(difference('l1', a, b)), options.reduction ?? 'mean')
}

/** Options of `smoothL1`. */
export interface SmoothL1Options extends LossOptions {
  /** Distance from which the loss is linear, at least 0; 1 by default. */
  readonly beta?: number
}

/**
 * ½d²/beta where |d| < beta, else |d| − ½beta, with d = a − b of a and b (…): its mean over all elements, or as `reduction`
 * says. With beta 0 that is l1. Throws ShapeError, and RangeError unless beta ≥ 0.
 */
export function smoothL1(a: Tensor, b: Tensor, options: SmoothL1Options = {}): Tensor {
  checkOptions('smoothL1', options, { ...lossOptions, beta: aNumber })
  const { beta = 1, reduction = 'mean' } = options
  if (!(beta >= 0)) throw atCaller(new RangeError(`smoothL1: expected beta ≥ 0, got ${beta}`))
  const d = difference('smoothL1', a, b)
  const size = abs(d)
  if (beta === 0) return reduced(size, reduction) // d²/0 is no branch to take a gradient of
  const far = lessEqual(beta, size)
  // A far d is squared as 0: the gradient of its square may overflow, and 0 · ∞ is NaN.
  const squared = mul(square(zeroWhere(far, d)), 0.5 / beta)
  return reduced(where(far, affine(size, 1, -0.5 * beta), squared), reduction)
}

// ---- classification -------------------------------------------------------------------------------------------------

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends LossOptions {
  /** (C): the weight of each class; all 1 by default. No gradient reaches it. */
  readonly weight?: Tensor
  /** Targets of this number have loss 0 and no part in the mean. Without it every target is a class. */
  readonly ignoreIndex?: number
  /** Share of the target in [0, 1] that is spread evenly over all classes; 0 by default. */
  readonly labelSmoothing?: number
}

/**
 * −log softmax(x)[target]: logits x (N, C), (C) or (N, C, …) with targets in i32 of x's shape without C; or −Σ p log softmax(x)
 * over C with soft targets p, floats of x's shape. The mean is weighted by the targets' weights. Throws ShapeError, and
 * RangeError on a target that is no class.
 */
export function crossEntropy(x: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkTensors('crossEntropy', { x, target })
  checkOptions('crossEntropy', options, {
    ...lossOptions,
    weight: aTensor,
    ignoreIndex: anInteger,
    labelSmoothing: aNumber,
  })
  const { ignoreIndex, labelSmoothing = 0, reduction = 'mean' } = options
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw atCaller(new RangeError(`crossEntropy: expected label smoothing in [0, 1], got ${labelSmoothing}`))
  const soft = target.dtype !== 'i32'
  const axis = x.shape.length === 1 ? 0 : 1
  const fits = x.shape.length > 0 && sameShape(target.shape, soft ? x.shape : x.shape.toSpliced(axis, 1))
  if (!fits)
    throw new ShapeError(
      `crossEntropy: expected x [N, C] and target [N] in i32, or [N, C] in floats, ` +
        `got ${show(x.shape)} and ${target.dtype} ${show(target.shape)}`,
    )
  const C = x.shape[axis]
  const { weight = null } = options
  if (weight !== null) checkWeight(weight, x, C)
  checkFloats('crossEntropy', { x, ...(soft && { target }) })
  const last = (t: Tensor) => (axis === t.shape.length - 1 ? t : permute(t, [0, ...after(t), axis])) // (N, …, C)
  const logp = last(logSoftmax(x, axis))
  const weighted = weight === null ? logp : mul(logp, weight.detach())
  if (soft) {
    if (ignoreIndex !== undefined)
      throw atCaller(new Error(`crossEntropy: expected no ignoreIndex with soft targets, got ${ignoreIndex}`))
    const p = last(target)
    const smoothed = labelSmoothing === 0 ? p : affine(p, 1 - labelSmoothing, labelSmoothing / C)
    return reduced(neg(sum(mul(weighted, smoothed), -1)), reduction)
  }
  const ignored = ignoreIndex === undefined ? null : equal(target, ignoreIndex)
  const ids = ignored === null ? target : where(ignored, 0, target)
  const hit = neg(pickOf('crossEntropy', weighted, ids))
  const spread = labelSmoothing / C
  const every = labelSmoothing === 0 ? hit : add(mul(hit, 1 - labelSmoothing), mul(sum(weighted, -1), -spread))
  const losses = ignored === null ? every : zeroWhere(ignored, every)
  if (reduction !== 'mean' || (weight === null && ignored === null)) return reduced(losses, reduction)
  return div(sum(losses), sum(weightsOf(hit, weight, ids, ignored)))
}

/** The axes behind the first two. */
function after({ shape }: Tensor): number[] {
  return shape.map((_, i) => i).slice(2)
}

/** The weight of each target, 0 if it is ignored. */
function weightsOf(like: Tensor, weight: Tensor | null, ids: Tensor, ignored: Tensor | null): Tensor {
  const own =
    weight === null
      ? ones(like.shape, { dtype: like.dtype, backend: like.backend })
      : pickOf('crossEntropy', broadcastTo(weight.detach(), [...ids.shape, weight.size]), ids)
  return ignored === null ? own : zeroWhere(ignored, own)
}

function checkWeight(weight: Tensor, x: Tensor, C: number): void {
  checkFloats('crossEntropy', { x, weight })
  if (!sameShape(weight.shape, [C]))
    throw new ShapeError(`crossEntropy: expected weight [${C}], got ${show(weight.shape)}`)
}
