/**
 * Batch normalisation. In training it takes the moments of the batch and moves the running ones towards them; otherwise it is a
 * scale and a shift per channel, of the running moments.
 */

import { aBoolean, aNumber, checkOptions } from '../core/arguments.ts'
import {
  add,
  affine,
  assign,
  lerp,
  mean,
  mul,
  noGrad,
  reshape,
  rsqrt,
  ShapeError,
  scope,
  square,
  sub,
  type Tensor,
  zeros,
} from '../core/index.ts'
import { show, sizeOf } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import { constantOne, constantZero, type Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { buffer, Layer, parameter } from './module.ts'

/** Options of `BatchNorm`. */
export interface BatchNormOptions {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number
  /** Share in [0, 1] of a batch's moments in the running ones. Default 0.1. */
  readonly momentum?: number
  /** Without it there are no parameters. Default true. */
  readonly affine?: boolean
  /** False leaves out `num_batches_tracked`, which checkpoints from before PyTorch 0.4.1 lack. Default true. */
  readonly countsBatches?: boolean
}

/** (x − mean) / √(var + eps) ⊙ weight + bias per channel, over the batch and all positions. PyTorch's BatchNorm1d, 2d and 3d. */
export class BatchNorm extends Layer {
  /** (C), begins at 1; null without affine. */
  readonly weight: Tensor | null
  /** (C), begins at 0; null without affine. */
  readonly bias: Tensor | null
  /** (C), begins at 0. */
  readonly running_mean: Tensor
  /** (C), begins at 1. */
  readonly running_var: Tensor
  /** Batches seen in training: one i32. */
  readonly num_batches_tracked: Tensor | null
  readonly eps: number
  readonly momentum: number

  /** Throws RangeError unless the momentum is in [0, 1]. */
  constructor(C: number, init: Init, options: BatchNormOptions = {}) {
    super()
    checkLayer('BatchNorm', { C }, init)
    checkOptions('BatchNorm', options, { eps: aNumber, momentum: aNumber, affine: aBoolean, countsBatches: aBoolean })
    const { eps = 1e-5, momentum = 0.1, affine = true, countsBatches = true } = options
    if (!(momentum >= 0 && momentum <= 1))
      throw atCaller(new RangeError(`BatchNorm: expected a momentum in [0, 1], got ${momentum}`))
    this.weight = affine ? parameter(constantOne([C], init)) : null
    this.bias = affine ? parameter(constantZero([C], init)) : null
    this.running_mean = buffer(constantZero([C], init))
    this.running_var = buffer(constantOne([C], init))
    this.num_batches_tracked = countsBatches ? buffer(zeros([], { dtype: 'i32', backend: init.backend })) : null
    this.eps = eps
    this.momentum = momentum
  }

  /** Scale and shift, (C) each: all that batch norm does outside training is y = x ⊙ scale + shift per channel. */
  affine(): { readonly scale: Tensor; readonly shift: Tensor } {
    const inverse = rsqrt(affine(this.running_var, 1, this.eps))
    const scale = this.weight === null ? inverse : mul(this.weight, inverse)
    const shift = mul(this.running_mean, affine(scale, -1, 0))
    return { scale, shift: this.bias === null ? shift : add(this.bias, shift) }
  }

  /**
   * x (N, C, …) → (N, C, …). In training the moments are those of x, and the running ones move towards them, the variance
   * by its unbiased estimate. Throws ShapeError, also for one value per channel in training.
   */
  forward(x: Tensor, training = false): Tensor {
    const [C] = this.running_mean.shape
    if (x.shape.length < 2 || x.shape[1] !== C)
      throw new ShapeError(`BatchNorm: expected x of shape [N, ${C}, ...], got ${show(x.shape)}`)
    const perChannel = [C, ...x.shape.slice(2).map(() => 1)]
    if (!training) {
      const { scale, shift } = this.affine()
      return add(mul(x, reshape(scale, perChannel)), reshape(shift, perChannel))
    }
    const axes = x.shape.map((_, axis) => axis).filter(axis => axis !== 1)
    const count = sizeOf(axes.map(axis => x.shape[axis]))
    if (count === 1)
      throw new ShapeError(`BatchNorm: expected several values per channel in training, got ${show(x.shape)}`)
    const average = mean(x, axes, true) // (1, C, 1, …)
    const centred = sub(x, average)
    const variance = mean(square(centred), axes, true) // (1, C, 1, …)
    if (count > 0) this.#follow(average, variance, count)
    const y = mul(centred, rsqrt(affine(variance, 1, this.eps)))
    const scaled = this.weight === null ? y : mul(y, reshape(this.weight, perChannel))
    return this.bias === null ? scaled : add(scaled, reshape(this.bias, perChannel))
  }

  /** Moves the running moments. */
  #follow(average: Tensor, variance: Tensor, count: number): void {
    const { running_mean, running_var, num_batches_tracked } = this
    noGrad(() =>
      scope(() => {
        const unbiased = mul(variance, count / (count - 1))
        const moments = [average, unbiased].map(moment => reshape(moment, running_mean.shape))
        lerp([running_mean, running_var], moments, this.momentum)
        if (num_batches_tracked !== null) assign([num_batches_tracked], [add(num_batches_tracked, 1)])
      }),
    )
  }
}
