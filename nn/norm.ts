/**
 * Normalisation layers. Their arithmetic, and the adaptive form that transformer blocks use, is core/ops/norm.ts.
 * Next: embedding.ts.
 */

import { aBoolean, aNumber, check, checkOptions } from '../core/arguments.ts'
import { add, affine, groupNorm, layerNorm, mul, reshape, rsqrt, ShapeError, sub, type Tensor } from '../core/index.ts'
import { show } from '../core/shape.ts'
import { constantOne, constantZero, type Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { buffer, Layer, parameter } from './module.ts'

/** What a layer norm has besides. */
export interface LayerNormOptions {
  /** Added to the variance. PyTorch's default is 1e-5; DiT, MDT and MaskDiT use 1e-6. */
  readonly eps?: number
  /** Without it there are no parameters. */
  readonly affine?: boolean
}

/** (x − mean) / √(var + eps) ⊙ weight + bias over the last axis. */
export class LayerNorm extends Layer {
  /** (D), begins at 1; null without affine. */
  readonly weight: Tensor | null
  /** (D), begins at 0; null without affine. */
  readonly bias: Tensor | null
  readonly eps: number

  constructor(D: number, init: Init, options: LayerNormOptions = {}) {
    super()
    checkLayer('LayerNorm', { D }, init)
    checkOptions('LayerNorm', options, { eps: aNumber, affine: aBoolean })
    const { eps = 1e-5, affine = true } = options
    this.weight = affine ? parameter(constantOne([D], init)) : null
    this.bias = affine ? parameter(constantZero([D], init)) : null
    this.eps = eps
  }

  /** x (…, D) → (…, D). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps)
  }
}

/** Layer norm over each group of channels and all pixels, then ⊙ weight + bias per channel. */
export class GroupNorm extends Layer {
  /** (C), begins at 1. */
  readonly weight: Tensor
  /** (C), begins at 0. */
  readonly bias: Tensor
  readonly groups: number
  readonly eps: number

  /** Throws RangeError unless the groups divide the channels. */
  constructor(groups: number, C: number, init: Init, options: { readonly eps?: number } = {}) {
    super()
    check('GroupNorm', 'groups', groups, aNumber)
    checkLayer('GroupNorm', { C }, init)
    checkOptions('GroupNorm', options, { eps: aNumber })
    const { eps = 1e-5 } = options
    if (!(groups > 0 && C % groups === 0))
      throw new RangeError(`GroupNorm: expected groups that divide the ${C} channels, got ${groups}`)
    this.weight = parameter(constantOne([C], init))
    this.bias = parameter(constantZero([C], init))
    this.groups = groups
    this.eps = eps
  }

  /** x (N, C, H, W) → (N, C, H, W). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return groupNorm(x, this.groups, this.weight, this.bias, this.eps)
  }
}

/**
 * Batch norm as it is once a network is trained: (x − mean) / √(var + eps) ⊙ weight + bias per channel, with the mean and
 * variance that training left behind. Leaves out the training itself, whose moments are those of a batch.
 */
export class BatchNorm2d extends Layer {
  /** (C), begins at 1. */
  readonly weight: Tensor
  /** (C), begins at 0. */
  readonly bias: Tensor
  /** (C), begins at 0. */
  readonly running_mean: Tensor
  /** (C), begins at 1. */
  readonly running_var: Tensor
  readonly eps: number

  constructor(C: number, init: Init, options: { readonly eps?: number } = {}) {
    super()
    checkLayer('BatchNorm2d', { C }, init)
    checkOptions('BatchNorm2d', options, { eps: aNumber })
    const { eps = 1e-5 } = options
    this.weight = parameter(constantOne([C], init))
    this.bias = parameter(constantZero([C], init))
    this.running_mean = buffer(constantZero([C], init))
    this.running_var = buffer(constantOne([C], init))
    this.eps = eps
  }

  /** Scale and shift, (C) each: all that batch norm does is y = x ⊙ scale + shift per channel. */
  affine(): { readonly scale: Tensor; readonly shift: Tensor } {
    const scale = mul(this.weight, rsqrt(affine(this.running_var, 1, this.eps)))
    return { scale, shift: sub(this.bias, mul(this.running_mean, scale)) }
  }

  /** x (N, C, H, W) → (N, C, H, W). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    const [C] = this.weight.shape
    if (x.shape.length !== 4 || x.shape[1] !== C)
      throw new ShapeError(`BatchNorm2d: expected x of shape [N, ${C}, H, W], got ${show(x.shape)}`)
    const { scale, shift } = this.affine()
    return add(mul(x, reshape(scale, [-1, 1, 1])), reshape(shift, [-1, 1, 1]))
  }
}
