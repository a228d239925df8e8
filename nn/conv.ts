/**
 * Convolutions as layers. The arithmetic is core/ops/conv.ts and conv1d.ts.
 */

import { aCount, aFunction, check, checkOptions, type Kind } from '../core/arguments.ts'
import { type Conv1dOptions, type ConvOptions, conv1d, conv2d, type Tensor } from '../core/index.ts'
import { convOptionKinds } from '../core/ops/conv.ts'
import { conv1dOptionKinds } from '../core/ops/conv1d.ts'
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

/** A number for both axes, or one for each. */
const oneOrTwo: Kind = {
  expected: 'an integer from 1 or two',
  accepts: k => aCount.accepts(k) || (Array.isArray(k) && k.length === 2 && k.every(aCount.accepts)),
}

const first = { weight: aFunction, bias: anInitializerOrFalse }
const conv1dKinds = { ...conv1dOptionKinds, stride: aCount, dilation: aCount, ...first }
const conv2dKinds = { ...convOptionKinds, stride: oneOrTwo, dilation: oneOrTwo, ...first }

/** Options of `Conv1d`. */
export interface Conv1dLayerOptions extends Conv1dOptions, FirstValues {}

/** Options of `Conv2d`. */
export interface Conv2dOptions extends ConvOptions, FirstValues {}

/** Channels in for each output channel. Throws RangeError on channels that do not divide into groups. */
function channelsPerGroup(layer: string, inChannels: number, outChannels: number, groups: number): number {
  if (inChannels % groups !== 0 || outChannels % groups !== 0)
    throw new RangeError(
      `${layer}: expected channels divisible by ${groups} groups, got ${inChannels} in and ${outChannels} out`,
    )
  return inChannels / groups
}

/** A kernel along an axis, with zero padding. */
export class Conv1d extends Layer {
  /** (out, in/groups, k) */
  readonly weight: Tensor
  /** (out), null without. */
  readonly bias: Tensor | null
  readonly options: Conv1dOptions

  /** Throws RangeError on channels that do not divide into groups. */
  constructor(inChannels: number, outChannels: number, k: number, init: Init, options: Conv1dLayerOptions = {}) {
    super()
    checkLayer('Conv1d', { inChannels, outChannels, k }, init)
    checkOptions('Conv1d', options, conv1dKinds)
    const C = channelsPerGroup('Conv1d', inChannels, outChannels, options.groups ?? 1)
    const usual = uniform(1 / Math.sqrt(C * k))
    const { weight = usual, bias = usual, ...rest } = options
    this.weight = parameter(weight([outChannels, C, k], init))
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
  /** (out, in/groups, height, width) of the kernel */
  readonly weight: Tensor
  /** (out), null without. */
  readonly bias: Tensor | null
  readonly options: ConvOptions

  /** Throws RangeError on channels that do not divide into groups. */
  constructor(
    inChannels: number,
    outChannels: number,
    k: number | readonly [height: number, width: number],
    init: Init,
    options: Conv2dOptions = {},
  ) {
    super()
    check('Conv2d', 'k', k, oneOrTwo)
    checkLayer('Conv2d', { inChannels, outChannels }, init)
    checkOptions('Conv2d', options, conv2dKinds)
    const [kh, kw] = typeof k === 'number' ? [k, k] : k
    const C = channelsPerGroup('Conv2d', inChannels, outChannels, options.groups ?? 1)
    const usual = uniform(1 / Math.sqrt(C * kh * kw))
    const { weight = usual, bias = usual, ...rest } = options
    this.weight = parameter(weight([outChannels, C, kh, kw], init))
    this.bias = bias ? parameter(bias([outChannels], init)) : null
    this.options = rest
  }

  /** x (N, C, H, W) → (N, out, H', W'). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options)
  }
}
