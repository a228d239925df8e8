/**
 * `unfold` lays out the patch under every position of a window as a column, and its adjoint `fold` sums columns back into
 * an image. Convolution (conv.ts) and pooling (pool.ts) are a product and a reduction of such columns.
 */

import { check, checkOptions, checkTensor, numbers } from '../arguments.ts'
import { type Window2d, windowPositions } from '../backend.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { windowLoops } from '../backends/cpu/window.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { type Shape, ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'

addLoops(windowLoops)

export type Pair = readonly [number, number]

export function checkImage(op: string, x: Shape): void {
  if (x.length !== 4) throw new ShapeError(`${op}: expected x [N, C, H, W], got ${show(x)}`)
}

/** Throws ShapeError where a window is none: whole numbers, kernel, stride and dilation from 1, padding from 0. */
export function checkWindow(op: string, window: Window2d): void {
  checkOptions(op, window, { kernel: numbers, stride: numbers, padding: numbers, dilation: numbers })
  const { kernel, stride, padding, dilation = [1, 1] } = window
  const from = (least: number) => (n: number) => Number.isInteger(n) && n >= least
  if (![kernel, stride, dilation].every(pair => pair.every(from(1))) || !padding.every(from(0)))
    throw new ShapeError(
      `${op}: expected whole numbers, kernel, stride and dilation from 1 and padding from 0, ` +
        `got kernel ${show(kernel)}, stride ${show(stride)}, padding ${show(padding)} and dilation ${show(dilation)}`,
    )
}

/** Pixels that a window spans, [down, across]. */
export function spanOf({ kernel, dilation = [1, 1] }: Window2d): Pair {
  return [dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1]
}

/** Window positions along height and width of an image. Throws ShapeError. */
export function positions(op: string, x: Shape, window: Window2d): Pair {
  checkImage(op, x)
  checkWindow(op, window)
  const [rows, columns] = windowPositions(x, window)
  if (rows < 1 || columns < 1)
    throw new ShapeError(
      `${op}: expected a window that fits, got one of ${show(spanOf(window))} on ${x[2]}×${x[3]} ` +
        `padded by ${show(window.padding)}`,
    )
  return [rows, columns]
}

const windows: readonly [Shape, Window2d][] = [
  [[2, 3, 7, 6], { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1] }],
  [[1, 2, 9, 8], { kernel: [3, 2], stride: [2, 3], padding: [0, 1, 0, 1] }],
  [[2, 3, 8, 12], { kernel: [4, 4], stride: [4, 4], padding: [0, 0, 0, 0] }],
  [[1, 2, 7, 9], { kernel: [3, 2], stride: [2, 1], padding: [2, 0, 1, 3], dilation: [2, 3] }],
  [[1, 1, 1, 1031], { kernel: [1, 1], stride: [1, 1], padding: [0, 0, 0, 0] }],
]

const unfoldOp = defineOp<Unary, { readonly window: Window2d }>({
  name: 'unfold',
  integers: true,
  infer: ([x], { window }) => {
    const [rows, columns] = positions('unfold', x, window)
    return [x[0], x[1] * window.kernel[0] * window.kernel[1], rows * columns]
  },
  forward: (k, [x], { window }, out) => k.unfold(x, window, out),
  vjp: (g, _, { window }, [x]) => [() => fold(g, window, x)],
  samples: r => windows.map(([shape, window]) => ({ x: [r(...shape)] as const, attrs: { window } })),
})

const foldOp = defineOp<Unary, { readonly window: Window2d; readonly shape: Shape }>({
  name: 'fold',
  infer: ([x], { window, shape }) => {
    const [rows, columns] = positions('fold', shape, window)
    const wanted = [shape[0], shape[1] * window.kernel[0] * window.kernel[1], rows * columns]
    if (show(x) !== show(wanted))
      throw new ShapeError(`fold: expected ${show(wanted)} for an image ${show(shape)}, got ${show(x)}`)
    return shape
  },
  forward: (k, [x], { window }, out) => k.fold(x, window, out),
  vjp: (g, _, { window }) => [() => unfold(g, window)],
  samples: r =>
    windows.map(([shape, window]) => ({ x: [unfold(r(...shape), window)] as const, attrs: { window, shape } })),
})

/** x (N, C, H, W) → (N, C·kh·kw, H'·W'): the patch under each window position, channel-major. Throws ShapeError. */
export function unfold(x: Tensor, window: Window2d): Tensor {
  checkTensor('unfold', 'x', x)
  return apply(unfoldOp, [x], { window })
}

/** The adjoint of unfold: patches (N, C·kh·kw, H'·W') summed into an image of `shape`. Throws ShapeError. */
export function fold(x: Tensor, window: Window2d, shape: Shape): Tensor {
  checkTensor('fold', 'x', x)
  check('fold', 'shape', shape, numbers)
  return apply(foldOp, [x], { window, shape })
}
