/**
 * Convolution and pooling, as two ideas: `unfold` lays out the patch under every window position as a column (its adjoint
 * `fold` sums them back), and a matrix product or a reduction does the rest.
 */

import { aNumber, check, checkFloats, checkOneDType, checkOptions, checkTensor, either, numbers } from '../arguments.ts'
import { type Window2d, windowPositions } from '../backend.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { windowLoops } from '../backends/cpu/window.ts'
import { apply, defineOp, type Unary } from '../op.ts'
import { type Shape, ShapeError, show } from '../shape.ts'
import { type Tensor, tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { add, div } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { pad, permute, reshape } from './movement.ts'
import { max, mean } from './reduce.ts'

addLoops(windowLoops)

type Pair = readonly [number, number]

function checkImage(op: string, x: Shape): void {
  if (x.length !== 4) throw new ShapeError(`${op}: expected x [N, C, H, W], got ${show(x)}`)
}

/** Throws ShapeError where a window is none: whole numbers, kernel and stride from 1, padding from 0. */
function checkWindow(op: string, window: Window2d): void {
  checkOptions(op, window, { kernel: numbers, stride: numbers, padding: numbers })
  const { kernel, stride, padding } = window
  const from = (least: number) => (n: number) => Number.isInteger(n) && n >= least
  if (!kernel.every(from(1)) || !stride.every(from(1)) || !padding.every(from(0)))
    throw new ShapeError(
      `${op}: expected whole numbers, kernel and stride from 1 and padding from 0, ` +
        `got kernel ${show(kernel)}, stride ${show(stride)} and padding ${show(padding)}`,
    )
}

/** Window positions along height and width of an image. Throws ShapeError. */
function positions(op: string, x: Shape, window: Window2d): Pair {
  checkImage(op, x)
  checkWindow(op, window)
  const [rows, columns] = windowPositions(x, window)
  if (rows < 1 || columns < 1)
    throw new ShapeError(
      `${op}: expected a window that fits, got kernel ${show(window.kernel)} on ${x[2]}×${x[3]} ` +
        `padded by ${show(window.padding)}`,
    )
  return [rows, columns]
}

const windows: readonly [Shape, Window2d][] = [
  [[2, 3, 7, 6], { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1] }],
  [[1, 2, 9, 8], { kernel: [3, 2], stride: [2, 3], padding: [0, 1, 0, 1] }],
  [[2, 3, 8, 12], { kernel: [4, 4], stride: [4, 4], padding: [0, 0, 0, 0] }],
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

/** Options of convolutions: zero padding on all sides, or [top, bottom, left, right]. */
export interface ConvOptions {
  readonly stride?: number
  readonly padding?: number | Window2d['padding']
}

const convOptions = { stride: aNumber, padding: either(aNumber, numbers) }

function windowOf(kernel: Pair, { stride = 1, padding = 0 }: ConvOptions): Window2d {
  const p = typeof padding === 'number' ? ([padding, padding, padding, padding] as const) : padding
  return { kernel, stride: [stride, stride], padding: p }
}

/** x (N, C, H, W), w (O, C, kh, kw), b (O) or null → (N, O, H', W'). Throws ShapeError. */
export function conv2d(x: Tensor, w: Tensor, b: Tensor | null = null, options: ConvOptions = {}): Tensor {
  checkOneDType('conv2d', b === null ? { x, w } : { x, w, b })
  checkOptions('conv2d', options, convOptions)
  if (x.shape.length !== 4 || w.shape.length !== 4 || x.shape[1] !== w.shape[1])
    throw new ShapeError(
      `conv2d: expected x [N, C, H, W] and w [O, C, kh, kw], got ${show(x.shape)} and ${show(w.shape)}`,
    )
  const [O, C, kh, kw] = w.shape
  const window = windowOf([kh, kw], options)
  const [rows, columns] = positions('conv2d', x.shape, window)
  const y = matmul(reshape(w, [O, C * kh * kw]), unfold(x, window)) // (N, O, H'·W')
  const image = reshape(y, [x.shape[0], O, rows, columns]) // (N, O, H', W')
  return withBias('conv2d', image, b)
}

/** image (N, O, H, W) + b (O), or as it is. */
function withBias(op: string, image: Tensor, b: Tensor | null): Tensor {
  if (b === null) return image
  const O = image.shape[1]
  if (b.shape.length !== 1 || b.shape[0] !== O)
    throw new ShapeError(`${op}: bias must have shape [${O}], got ${show(b.shape)}`)
  return add(image, reshape(b, [O, 1, 1]))
}

/**
 * The adjoint of conv2d: x (N, C, H, W), w (C, O, kh, kw), b (O) or null → (N, O, (H−1)·stride − 2·padding + kh, …).
 * Throws ShapeError.
 */
export function convTranspose2d(x: Tensor, w: Tensor, b: Tensor | null, stride: number, padding: number): Tensor {
  checkFloats('convTranspose2d', b === null ? { x, w } : { x, w, b })
  check('convTranspose2d', 'stride', stride, aNumber)
  check('convTranspose2d', 'padding', padding, aNumber)
  if (x.shape.length !== 4 || w.shape.length !== 4 || x.shape[1] !== w.shape[0])
    throw new ShapeError(
      `convTranspose2d: expected x [N, C, H, W] and w [C, O, kh, kw], got ${show(x.shape)} and ${show(w.shape)}`,
    )
  const [N, C, H, W] = x.shape
  const [, O, kh, kw] = w.shape
  const window = windowOf([kh, kw], { stride, padding })
  checkWindow('convTranspose2d', window)
  const shape = [N, O, (H - 1) * stride - 2 * padding + kh, (W - 1) * stride - 2 * padding + kw]
  const patches = matmul(reshape(w, [C, O * kh * kw]), reshape(x, [N, C, H * W]), { transposeA: true })
  const image = fold(patches, window, shape) // (N, O, H', W')
  return withBias('convTranspose2d', image, b)
}

/** The pixels under each window of x, which has a border of `value`. */
function pooled(op: string, x: Tensor, size: number, stride: number, padding: number, value: number): Tensor {
  checkImage(op, x.shape)
  for (const [name, value] of Object.entries({ size, stride, padding })) check(op, name, value, aNumber)
  checkWindow(op, windowOf([size, size], { stride, padding }))
  // A window that lay in the padding alone would have no mean and no largest element. PyTorch's rule.
  if (2 * padding > size)
    throw new ShapeError(`${op}: expected a padding of at most half of size ${size}, got ${padding}`)
  const image = bordered(x, padding, value)
  const window = windowOf([size, size], { stride })
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
