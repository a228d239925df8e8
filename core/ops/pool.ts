/**
 * Pooling, as a reduction of the columns that `unfold` lays out, and the patches of vision transformers.
 */

import { aNumber, check, checkFloats, checkTensor } from '../arguments.ts'
import type { Window2d } from '../backend.ts'
import { ShapeError, show } from '../shape.ts'
import { type Tensor, tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { div } from './elementwise.ts'
import { pad, permute, reshape } from './movement.ts'
import { max, mean } from './reduce.ts'
import { checkImage, checkWindow, positions, unfold } from './unfold.ts'

/** The pixels under each window of x, which has a border of `value`. */
function pooled(op: string, x: Tensor, size: number, stride: number, padding: number, value: number): Tensor {
  checkImage(op, x.shape)
  for (const [name, value] of Object.entries({ size, stride, padding })) check(op, name, value, aNumber)
  const square = (border: number): Window2d => ({
    kernel: [size, size],
    stride: [stride, stride],
    padding: [border, border, border, border],
  })
  checkWindow(op, square(padding))
  // A window that lay in the padding alone would have no mean and no largest element. PyTorch's rule.
  if (2 * padding > size)
    throw new ShapeError(`${op}: expected a padding of at most half of size ${size}, got ${padding}`)
  const image = bordered(x, padding, value)
  const window = square(0)
  const [rows, columns] = positions(op, image.shape, window)
  const [N, C] = x.shape
  return reshape(unfold(image, window), [N, C, size * size, rows, columns]) // (N, C, k·k, H', W')
}

/** x (N, C, H, W) with a border of `value`, `width` pixels wide. */
function bordered(x: Tensor, width: number, value: number): Tensor {
  if (width === 0) return x
  const [N, C, H, W] = x.shape
  return pad(x, [0, 0, width, width], [N, C, H + 2 * width, W + 2 * width], value)
}

/**
 * Mean over size × size windows of x (N, C, H, W). What a window covers of the zero padding does not count, as PyTorch's
 * `count_include_pad=False`; at most half of a window may be padding. Throws ShapeError.
 */
export function avgPool2d(x: Tensor, size: number, stride = size, padding = 0): Tensor {
  checkFloats('avgPool2d', { x })
  const patches = pooled('avgPool2d', x, size, stride, padding, 0)
  if (padding === 0) return mean(patches, 2) // (N, C, H', W')
  const [, , H, W] = x.shape
  const [, , , rows, columns] = patches.shape
  const covered = (i: number, extent: number) =>
    Math.min(i * stride - padding + size, extent) - Math.max(i * stride - padding, 0)
  const counts = Float64Array.from(
    { length: rows * columns },
    (_, i) => covered(Math.floor(i / columns), H) * covered(i % columns, W),
  )
  return div(sum(patches, 2), tensor(counts, { ...placeOf(x), shape: [rows, columns] })) // (N, C, H', W')
}

/**
 * Largest element of size × size windows of x (N, C, H, W); padding, at most half of a window, is never the largest.
 * Throws ShapeError.
 */
export function maxPool2d(x: Tensor, size: number, stride = size, padding = 0): Tensor {
  checkTensor('maxPool2d', 'x', x)
  return max(pooled('maxPool2d', x, size, stride, padding, Number.NEGATIVE_INFINITY), 2)
}

/** Where and in which dtype a tensor beside x is made. */
function placeOf({ dtype, backend }: Tensor) {
  return { dtype, backend }
}

/**
 * x (N, C, H, W) → (N, H/P · W/P, C·P·P): non-overlapping patches as rows, row-major over the grid, channel-major. Throws
 * ShapeError.
 */
export function patchify(x: Tensor, P: number): Tensor {
  checkTensor('patchify', 'x', x)
  checkImage('patchify', x.shape)
  const [N, C, H, W] = x.shape
  if (!(Number.isInteger(P) && P >= 1) || H % P !== 0 || W % P !== 0)
    throw new ShapeError(`patchify: expected H and W divisible by ${P}, got ${show(x.shape)}`)
  const grid = reshape(x, [N, C, H / P, P, W / P, P]) // (N, C, H/P, P, W/P, P)
  return reshape(permute(grid, [0, 2, 4, 1, 3, 5]), [N, (H / P) * (W / P), C * P * P])
}
