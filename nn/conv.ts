/**
 * Convolution as a layer. The arithmetic is core/ops/conv.ts. Next: patch-embed.ts.
 */

import { type ConvOptions, conv2d, type Tensor } from '../core/index.ts'
import { constantZero, type Init, type Initializer, uniform } from './init.ts'
import { Layer, parameter } from './module.ts'

export interface Conv2dOptions extends ConvOptions {
  readonly bias?: boolean
  /** First weights; uniform on ±1/√(fan in), PyTorch's default, unless said. */
  readonly weight?: Initializer
}

/** A square kernel over an image, with zero padding. */
export class Conv2d extends Layer {
  /** (out, in, k, k) */
  readonly weight: Tensor
  /** (out), begins at 0; null without. */
  readonly bias: Tensor | null
  readonly options: ConvOptions

  constructor(inChannels: number, outChannels: number, k: number, init: Init, options: Conv2dOptions = {}) {
    super()
    const { bias = true, weight = uniform(1 / Math.sqrt(inChannels * k * k)), ...rest } = options
    this.weight = parameter(weight([outChannels, inChannels, k, k], init))
    this.bias = bias ? parameter(constantZero([outChannels], init)) : null
    this.options = rest
  }

  /** x (N, C, H, W) → (N, out, H', W'). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options)
  }
}
