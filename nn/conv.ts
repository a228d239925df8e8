/**
 * Convolutions as layers. The arithmetic is core/ops/conv.ts and conv1d.ts.
 */

import { aCount, aFunction, aNumber, check, checkOptions, either, type Kind, numbers } from '../core/arguments.ts'
import { type Conv1dOptions, type ConvOptions, conv1d, conv2d, type Tensor } from '../core/index.ts'
import { type Init, type Initializer, uniform } from './init.ts'
import { anInitializerOrFalse, checkLayer } from './layer-arguments.ts'
import { Layer, parameter } from './module.ts'

/** Initializers of a convolution. */
interface FirstValues {
  /** Initializer of the weights (default: uniform on ±1/√(fan in), as in PyTorch). */
  readonly weight?: Initializer
  /** First biases, by default as the weights' default; false for a layer without. */
  readonly bias?: Initializer | false
}

const convOptions = { stride: aCount, padding: either(aNumber, numbers) }
const kernelKind: Kind = {
  expected: 'an integer from 1 or two',
  accepts: k => aCount.accepts(k) || (Array.isArray(k) && k.length === 2 && k.every(aCount.accepts)),
}

/** Options of `Conv1d`. */
export interface Conv1dLayerOptions extends Conv1dOptions, FirstValues {}

/** Options of `Conv2d`. */
export interface Conv2dOptions extends ConvOptions, FirstValues {}

/** A kernel along an axis, with zero padding. */
export class Conv1d extends Layer {
  /** (out, in, k) */
  readonly weight: Tensor
  /** (out), null without. */
  readonly bias: Tensor | null
  readonly options: Conv1dOptions

  constructor(inChannels: number, outChannels: number, k: number, init: Init, options: Conv1dLayerOptions = {}) {
    super()
    checkLayer('Conv1d', { inChannels, outChannels, k }, init)
    checkOptions('Conv1d', options, {
      stride: aCount,
      padding: either(aNumber, numbers),
      weight: aFunction,
      bias: anInitializerOrFalse,
    })
    const usual = uniform(1 / Math.sqrt(inChannels * k))
    const { weight = usual, bias = usual, ...rest } = options
    this.weight = parameter(weight([outChannels, inChannels, k], init))
    this.bias = bias ? parameter(bias([outChannels], init)) : null
    this.options = rest
  }

  /** x (N, C, L) → (N, out, L'). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return conv1d(x, this.weight, this.bias, this.options)
  }
}

/** A kernel over an image, k × k or of a height and a width, with zero padding. */
export class Conv2d extends Layer {
  /** (out, in, height, width) of the kernel */
  readonly weight: Tensor
  /** (out), null without. */
  readonly bias: Tensor | null
  readonly options: ConvOptions

  constructor(
    inChannels: number,
    outChannels: number,
    k: number | readonly [height: number, width: number],
    init: Init,
    options: Conv2dOptions = {},
  ) {
    super()
    check('Conv2d', 'k', k, kernelKind)
    checkLayer('Conv2d', { inChannels, outChannels }, init)
    checkOptions('Conv2d', options, { ...convOptions, weight: aFunction, bias: anInitializerOrFalse })
    const [kh, kw] = typeof k === 'number' ? [k, k] : k
    const usual = uniform(1 / Math.sqrt(inChannels * kh * kw))
    const { weight = usual, bias = usual, ...rest } = options
    this.weight = parameter(weight([outChannels, inChannels, kh, kw], init))
    this.bias = bias ? parameter(bias([outChannels], init)) : null
    this.options = rest
  }

  /** x (N, C, H, W) → (N, out, H', W'). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options)
  }
}
