/**
 * Normalisation layers. Their arithmetic, and the adaptive form that transformer blocks use, is core/ops/norm.ts.
 */

import { aBoolean, aNumber, check, checkOptions } from '../core/arguments.ts'
import { groupNorm, layerNorm, rmsNorm, type Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { constantOne, constantZero, type Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Layer, parameter } from './module.ts'

/** Options of a layer norm. */
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
      throw atCaller(new RangeError(`GroupNorm: expected groups that divide the ${C} channels, got ${groups}`))
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

/** x / √(mean(x²) + eps) ⊙ weight over the last axis. [RMSNorm] */
export class RMSNorm extends Layer {
  /** (D), begins at 1; null without affine. */
  readonly weight: Tensor | null
  readonly eps: number

  constructor(D: number, init: Init, options: LayerNormOptions = {}) {
    super()
    checkLayer('RMSNorm', { D }, init)
    checkOptions('RMSNorm', options, { eps: aNumber, affine: aBoolean })
    const { eps = 1e-6, affine = true } = options
    this.weight = affine ? parameter(constantOne([D], init)) : null
    this.eps = eps
  }

  /** x (…, D) → (…, D). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.eps)
  }
}
