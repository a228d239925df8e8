/**
 * Convolution along one axis: that of an image one pixel high.
 */

import { ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { conv2d } from './conv.ts'
import { reshape, unsqueeze } from './movement.ts'

/** Options of `conv1d`: zero padding at both ends, or [left, right]. */
export interface Conv1dOptions {
  readonly stride?: number
  readonly padding?: number | readonly [left: number, right: number]
}

/** x (N, C, L), w (O, C, k), b (O) or null → (N, O, (L + padding − k) / stride + 1). Throws ShapeError. */
export function conv1d(x: Tensor, w: Tensor, b: Tensor | null = null, options: Conv1dOptions = {}): Tensor {
  const { stride = 1, padding = 0 } = options
  if (x.shape.length !== 3 || w.shape.length !== 3 || x.shape[1] !== w.shape[1])
    throw new ShapeError(`conv1d: expected x [N, C, L] and w [O, C, k], got ${show(x.shape)} and ${show(w.shape)}`)
  const [O, , k] = w.shape
  const [left, right] = typeof padding === 'number' ? [padding, padding] : padding
  const whole = (least: number) => (n: number) => Number.isInteger(n) && n >= least
  if (![k, stride].every(whole(1)) || ![left, right].every(whole(0)) || x.shape[2] + left + right < k)
    throw new ShapeError(
      'conv1d: expected whole numbers, kernel and stride from 1, padding from 0, and a kernel that fits, ' +
        `got kernel ${k}, stride ${stride} and padding ${show([left, right])} on ${x.shape[2]}`,
    )
  if (b !== null && (b.shape.length !== 1 || b.shape[0] !== O))
    throw new ShapeError(`conv1d: expected a bias [${O}], got ${show(b.shape)}`)
  const y = conv2d(unsqueeze(x, 2), unsqueeze(w, 2), b, { stride, padding: [0, 0, left, right] }) // (N, O, 1, L')
  return reshape(y, [y.shape[0], O, y.shape[3]])
}
