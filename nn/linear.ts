/**
 * The linear layer. Its product is core/ops/matmul.ts; here are the parameters and their first values. Next: norm.ts.
 */

import { linear, type Tensor } from '../core/index.ts'
import { constantZero, type Init, type Initializer, xavierUniform } from './init.ts'
import { Layer, parameter } from './module.ts'

/** What a linear layer has, and how it begins. */
export interface LinearOptions {
  readonly bias?: boolean
  /** First weights; Xavier uniform, as DiT, MDT and MaskDiT initialise all linear layers, unless said. */
  readonly weight?: Initializer
}

/** y = x Wᵀ + b. */
export class Linear extends Layer {
  /** (out, in) */
  readonly weight: Tensor
  /** (out), begins at 0; null without. */
  readonly bias: Tensor | null

  constructor(inFeatures: number, outFeatures: number, init: Init, options: LinearOptions = {}) {
    super()
    const { bias = true, weight = xavierUniform } = options
    this.weight = parameter(weight([outFeatures, inFeatures], init))
    this.bias = bias ? parameter(constantZero([outFeatures], init)) : null
  }

  /** x (…, in) → (…, out). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias)
  }
}
