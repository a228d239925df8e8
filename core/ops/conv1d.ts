/**
 * Convolution along one axis: that of an image one pixel high.
 */

import { aCount, aNumber, checkOneDType, checkOptions, either, listOf, oneOf } from '../arguments.ts'
import { ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { conv2d } from './conv.ts'
import { reshape, unsqueeze } from './movement.ts'

/** Options of `conv1d`. */
export interface Conv1dOptions {
  /** Elements from one position of the kernel to the next. Default: 1. */
  readonly stride?: number
  /** Zeros at both ends, or [left, right]. Default: 0, which is 'valid'. 'same' keeps the length at stride 1. */
  readonly padding?: number | readonly [left: number, right: number] | 'same' | 'valid'
  /** Elements from one tap of the kernel to the next. Default: 1. */
  readonly dilation?: number
  /** Groups of channels: output channels of a group see its input channels only. Default: 1. */
  readonly groups?: number
}

/** Kinds of the options of `conv1d`. */
export const conv1dOptionKinds = {
  stride: aNumber,
  padding: either(aNumber, oneOf(['same', 'valid']), listOf(2)),
  dilation: aNumber,
  groups: aCount,
}

/**
 * x (N, C, L), w (O, C/groups, k), b (O) or null → (N, O, L'), where L' is ⌊(L + padding − dilation·(k − 1) − 1) / stride⌋ + 1,
 * with the padding of both ends. Throws ShapeError.
 */
export function conv1d(x: Tensor, w: Tensor, b: Tensor | null = null, options: Conv1dOptions = {}): Tensor {
  checkOneDType('conv1d', b === null ? { x, w } : { x, w, b })
  checkOptions('conv1d', options, conv1dOptionKinds)
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options
  const perGroup = groups === 1 ? 'C' : `C/${groups}`
  if (x.shape.length !== 3 || w.shape.length !== 3 || x.shape[1] !== w.shape[1] * groups || w.shape[0] % groups !== 0)
    throw new ShapeError(
      `conv1d: expected x [N, C, L] and w [O, ${perGroup}, k]${groups === 1 ? '' : `, O divisible by ${groups}`}, ` +
        `got ${show(x.shape)} and ${show(w.shape)}`,
    )
  const [O, , k] = w.shape
  if (padding === 'same' && stride !== 1)
    throw new ShapeError(`conv1d: expected a stride of 1 with padding 'same', got ${stride}`)
  const around = dilation * (k - 1)
  const [left, right] =
    padding === 'same'
      ? [Math.floor(around / 2), Math.ceil(around / 2)]
      : padding === 'valid'
        ? [0, 0]
        : typeof padding === 'number'
          ? [padding, padding]
          : padding
  const whole = (least: number) => (n: number) => Number.isInteger(n) && n >= least
  if (
    ![k, stride, dilation].every(whole(1)) ||
    ![left, right].every(whole(0)) ||
    x.shape[2] + left + right < around + 1
  )
    throw new ShapeError(
      'conv1d: expected whole numbers, kernel, stride and dilation from 1, padding from 0, and a kernel that fits, ' +
        `got kernel ${k}, stride ${stride}, padding ${show([left, right])} and dilation ${dilation} on ${x.shape[2]}`,
    )
  if (b !== null && (b.shape.length !== 1 || b.shape[0] !== O))
    throw new ShapeError(`conv1d: expected a bias [${O}], got ${show(b.shape)}`)
  const y = conv2d(unsqueeze(x, 2), unsqueeze(w, 2), b, {
    stride: [1, stride],
    padding: [0, 0, left, right],
    dilation: [1, dilation],
    groups,
  }) // (N, O, 1, L')
  return reshape(y, [y.shape[0], O, y.shape[3]])
}
