/**
 * The linear layer. Its product is core/ops/matmul.ts; here are the parameters and their first values.
 */

import { aFunction, checkOptions } from '../core/arguments.ts'
import { linear, type Tensor } from '../core/index.ts'
import { constantZero, type Init, type Initializer, xavierUniform } from './init.ts'
import { anInitializerOrFalse, checkLayer } from './layer-arguments.ts'
import { Layer, parameter } from './module.ts'

/** Bias and initializers of a linear layer. */
export interface LinearOptions {
  /** Initializer of the weights (default: Xavier uniform, as for all linear layers of DiT, MDT and MaskDiT). */
  readonly weight?: Initializer
  /** Initializer of the bias (default: 0, as in these models); false for a layer without bias. */
  readonly bias?: Initializer | false
}

/** y = x Wᵀ + b. */
export class Linear extends Layer {
  /** (out, in) */
  readonly weight: Tensor
  /** (out), null without. */
  readonly bias: Tensor | null

  constructor(inFeatures: number, outFeatures: number, init: Init, options: LinearOptions = {}) {
    super()
    checkLayer('Linear', { inFeatures, outFeatures }, init)
    checkOptions('Linear', options, { weight: aFunction, bias: anInitializerOrFalse })
    const { weight = xavierUniform, bias = constantZero } = options
    this.weight = parameter(weight([outFeatures, inFeatures], init))
    this.bias = bias ? parameter(bias([outFeatures], init)) : null
  }

  /** x (…, in) → (…, out). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias)
  }
}
