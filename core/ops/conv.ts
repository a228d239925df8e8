/**
 * Convolution. Its gradients by the image and by the weights are ops of their own. All three are linear in each operand,
 * and each one's gradients are the other two, so derivatives of any order run on the same kernels. A backend without a
 * kernel unfolds the image and multiplies matrices.
 */

import { aCount, aNumber, checkFloats, checkOneDType, checkOptions, either, listOf, oneOf } from '../arguments.ts'
import type { Convolution, Spec, Window2d } from '../backend.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { convLoops } from '../backends/cpu/conv.ts'
import { gradEnabled } from '../graph.ts'
import { apply, type Binary, defineOp } from '../op.ts'
import { scope } from '../scope.ts'
import { checkShape, type Shape, ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { add } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { concat, reshape, slice } from './movement.ts'
import { checkWindow, fold, type Pair, positions, spanOf, unfold } from './unfold.ts'

addLoops(convLoops)

/** Elements of unfolded columns that are in memory at a time at most, unless a single row has more or is recorded. */
const stripElements = 1 << 22

type Ternary = readonly [Tensor, Tensor, Tensor]

/** A convolution, and the shape of its image. */
interface OnImage extends Convolution {
  readonly shape: Shape
}

/** Shape of the result. Throws ShapeError. */
function convolved(op: string, x: Shape, w: Shape, { window, groups }: Convolution): Shape {
  if (x.length !== 4 || w.length !== 4 || x[1] !== w[1] * groups || w[0] % groups !== 0)
    throw new ShapeError(
      `${op}: expected x [N, C, H, W] and w [O, ${groupsOf('C', groups)}, kh, kw]` +
        `${groups === 1 ? '' : `, O divisible by ${groups}`}, got ${show(x)} and ${show(w)}`,
    )
  return [x[0], w[0], ...positions(op, x, window)]
}

function groupsOf(channels: string, groups: number): string {
  return groups === 1 ? channels : `${channels}/${groups}`
}

/** True if kernels take these operands: floats, and some of them. */
function kernelsTake(out: Spec, ...x: readonly Tensor[]): boolean {
  return out.dtype !== 'i32' && x.every(({ size }) => size > 0)
}

/** w (O, C/groups, kh, kw) as a matrix (groups, O/groups, C/groups·kh·kw). */
function matrixOf(w: Tensor, groups: number): Tensor {
  const [O, C, kh, kw] = w.shape
  return reshape(w, [groups, O / groups, C * kh * kw])
}

/** Columns of x (N, C, H, W) by group: (N, groups, C/groups·kh·kw, H'·W'). */
function columnsOf(x: Tensor, { window, groups }: Convolution): Tensor {
  const columns = unfold(x, window)
  const [N, rows, P] = columns.shape
  return reshape(columns, [N, groups, rows / groups, P])
}

/** g (N, O, H', W') by group: (N, groups, O/groups, H'·W'). */
function outputsOf(g: Tensor, groups: number): Tensor {
  const [N, O, rows, columns] = g.shape
  return reshape(g, [N, groups, O / groups, rows * columns])
}

function unfolded(x: Tensor, w: Tensor, b: Tensor | undefined, conv: Convolution): Tensor {
  const shape = convolved('conv2d', x.shape, w.shape, conv)
  const y = matmul(matrixOf(w, conv.groups), columnsOf(x, conv)) // (N, groups, O/groups, H'·W')
  return withBias(reshape(y, shape), b ?? null)
}

/** The same for some rows of the result at a time, so that the unfolded columns are never in memory as a whole. */
function inStrips(x: Tensor, w: Tensor, b: Tensor | undefined, conv: Convolution): Tensor {
  const { stride, padding, ...rest } = conv.window
  const [N, C, H] = x.shape
  const [, , rows, columns] = convolved('conv2d', x.shape, w.shape, conv)
  const perStrip = Math.max(1, Math.floor(stripElements / (N * C * w.shape[2] * w.shape[3] * columns)))
  if (rows <= perStrip) return unfolded(x, w, b, conv)
  const [top, , left, right] = padding
  const [span] = spanOf(conv.window)
  const strips: Tensor[] = []
  for (let row = 0; row < rows; row += perStrip) {
    // The rows of x that these rows of the result see; where they lie outside of x they are padding.
    const first = row * stride[0] - top
    const seen = (Math.min(perStrip, rows - row) - 1) * stride[0] + span
    const start = Math.min(Math.max(first, 0), H)
    const end = Math.max(Math.min(first + seen, H), start)
    const above = Math.min(Math.max(start - first, 0), seen - (end - start))
    const window = { ...rest, stride, padding: [above, seen - (end - start) - above, left, right] as const }
    strips.push(scope(() => unfolded(slice(x, 2, start, end), w, b, { ...conv, window }))) // (N, O, rows seen, W')
  }
  return concat(strips, 2) // (N, O, H', W')
}

const onSamples: readonly [x: Shape, w: Shape, Convolution][] = [
  [
    [2, 3, 6, 5],
    [4, 3, 3, 3],
    { window: { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1] }, groups: 1 },
  ],
  [
    [1, 4, 9, 8],
    [6, 2, 3, 2],
    { window: { kernel: [3, 2], stride: [2, 3], padding: [0, 1, 2, 1], dilation: [2, 1] }, groups: 2 },
  ],
  [
    [3, 2, 4, 4],
    [33, 2, 3, 3],
    { window: { kernel: [3, 3], stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] }, groups: 1 },
  ],
  [
    [1, 17, 4, 11],
    [2, 17, 3, 3],
    { window: { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1] }, groups: 1 },
  ],
  [
    [1, 1, 1, 1031],
    [5, 1, 1, 1],
    { window: { kernel: [1, 1], stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1] }, groups: 1 },
  ],
]

const flopsOf = (g: number, w: Shape) => 2 * g * w[1] * w[2] * w[3]

const conv2dOp = defineOp<Binary | Ternary, Convolution, Binary>({
  name: 'conv2d',
  integers: true,
  infer: ([x, w, b], conv) => {
    const shape = convolved('conv2d', x, w, conv)
    if (b !== undefined) checkShape('conv2d', 'bias', b, [w[0]])
    return shape
  },
  forward: (k, [x, w, b], conv, out) => (kernelsTake(out, x, w) ? k.conv2d?.(x, w, b ?? null, conv, out) : undefined),
  decompose: ([x, w, b], conv) => (gradEnabled() ? unfolded(x, w, b, conv) : inStrips(x, w, b, conv)),
  save: ([x, w]) => [x, w],
  vjp: (g, [x, w], conv) => [
    () => conv2dInputGrad(g, w, { ...conv, shape: x.shape }),
    () => conv2dWeightGrad(g, x, conv),
    () => sum(g, [0, 2, 3]),
  ],
  flops: ([x, w], conv) => {
    const [N, O, rows, columns] = convolved('conv2d', x.shape, w.shape, conv)
    return flopsOf(N * O * rows * columns, w.shape)
  },
  samples: r =>
    onSamples.map(([x, w, attrs], i) => ({
      x: i % 2 === 0 ? ([r(...x), r(...w), r(w[0])] as const) : ([r(...x), r(...w)] as const),
      attrs,
    })),
})

/** Inputs (g, w): the gradient by x of conv2d, which is the transposed convolution of g. */
const conv2dInputGradOp = defineOp<Binary, OnImage, Binary>({
  name: 'conv2dInputGrad',
  infer: ([g, w], conv) => {
    checkShape('conv2dInputGrad', 'g', g, convolved('conv2dInputGrad', conv.shape, w, conv))
    return conv.shape
  },
  forward: (k, [g, w], conv, out) => (kernelsTake(out, g, w) ? k.conv2dInputGrad?.(g, w, conv, out) : undefined),
  decompose: ([g, w], { window, groups, shape }) => {
    const patches = matmul(matrixOf(w, groups), outputsOf(g, groups), { transposeA: true })
    const [N, , rows, P] = patches.shape
    return fold(reshape(patches, [N, groups * rows, P]), window, shape)
  },
  save: x => x,
  vjp: (h, [g, w], { window, groups }) => [
    () => convolve(h, w, { window, groups }),
    () => conv2dWeightGrad(g, h, { window, groups }),
  ],
  flops: ([g, w]) => flopsOf(g.size, w.shape),
  samples: r =>
    onSamples.map(([shape, w, conv]) => ({
      x: [r(...convolved('conv2d', shape, w, conv)), r(...w)] as const,
      attrs: { ...conv, shape },
    })),
})

/** Inputs (g, x): the gradient by w of conv2d. */
const conv2dWeightGradOp = defineOp<Binary, Convolution, Binary>({
  name: 'conv2dWeightGrad',
  infer: ([g, x], conv) => {
    const w = [g[1], x[1] / conv.groups, ...conv.window.kernel]
    checkShape('conv2dWeightGrad', 'g', g, convolved('conv2dWeightGrad', x, w, conv))
    return w
  },
  forward: (k, [g, x], conv, out) => (kernelsTake(out, g, x) ? k.conv2dWeightGrad?.(g, x, conv, out) : undefined),
  decompose: ([g, x], conv) => {
    const { groups, window } = conv
    const [O, C] = [g.shape[1], x.shape[1]]
    const products = matmul(outputsOf(g, groups), columnsOf(x, conv), { transposeB: true }) // (N, groups, …)
    return reshape(sum(products, 0), [O, C / groups, ...window.kernel])
  },
  save: x => x,
  vjp: (h, [g, x], conv) => [() => convolve(x, h, conv), () => conv2dInputGrad(g, h, { ...conv, shape: x.shape })],
  flops: ([g, x], { window, groups }) => flopsOf(g.size, [g.shape[1], x.shape[1] / groups, ...window.kernel]),
  samples: r =>
    onSamples.map(([x, w, attrs]) => ({ x: [r(...convolved('conv2d', x, w, attrs)), r(...x)] as const, attrs })),
})

function convolve(x: Tensor, w: Tensor, conv: Convolution): Tensor {
  return apply(conv2dOp, [x, w], conv)
}

function conv2dInputGrad(g: Tensor, w: Tensor, conv: OnImage): Tensor {
  return apply(conv2dInputGradOp, [g, w], conv)
}

function conv2dWeightGrad(g: Tensor, x: Tensor, conv: Convolution): Tensor {
  return apply(conv2dWeightGradOp, [g, x], conv)
}

/** Zero padding: on all sides, [above and below, on the left and right], or [top, bottom, left, right]. */
export type ConvPadding = number | readonly [vertical: number, horizontal: number] | Window2d['padding']

/** Options of `conv2d`. A number stands for both axes. */
export interface ConvOptions {
  /** Pixels from one position of the kernel to the next, [down, across]. Default: 1. */
  readonly stride?: number | readonly [down: number, across: number]
  /** Default: 0, which is 'valid'. 'same' keeps height and width at stride 1; odd pixels are on the right and below. */
  readonly padding?: ConvPadding | 'same' | 'valid'
  /** Pixels from one tap of the kernel to the next, [down, across]. Default: 1. */
  readonly dilation?: number | readonly [down: number, across: number]
  /** Groups of channels: output channels of a group see its input channels only. Default: 1. */
  readonly groups?: number
}

/** Kinds of the options of `conv2d`. */
export const convOptionKinds = {
  stride: either(aNumber, listOf(2)),
  padding: either(aNumber, oneOf(['same', 'valid']), listOf(2, 4)),
  dilation: either(aNumber, listOf(2)),
  groups: aCount,
}

function pairOf(n: number | Pair): Pair {
  return typeof n === 'number' ? [n, n] : n
}

/** The window of these options. Throws ShapeError on padding 'same' with a stride above 1. */
function windowOf(op: string, kernel: Pair, { stride = 1, padding = 0, dilation = 1 }: ConvOptions): Window2d {
  const window = { kernel, stride: pairOf(stride), dilation: pairOf(dilation) }
  if (padding === 'valid') return { ...window, padding: [0, 0, 0, 0] }
  if (padding === 'same') {
    if (window.stride.some(step => step !== 1))
      throw new ShapeError(`${op}: expected a stride of 1 with padding 'same', got ${show(window.stride)}`)
    const [down, across] = spanOf({ ...window, padding: [0, 0, 0, 0] })
    const before = (span: number) => Math.floor((span - 1) / 2)
    return { ...window, padding: [before(down), before(down + 1), before(across), before(across + 1)] }
  }
  if (typeof padding === 'number') return { ...window, padding: [padding, padding, padding, padding] }
  if (padding.length === 4) return { ...window, padding }
  const [vertical, horizontal] = padding
  return { ...window, padding: [vertical, vertical, horizontal, horizontal] }
}

/** x (N, C, H, W), w (O, C/groups, kh, kw), b (O) or null → (N, O, H', W'). Throws ShapeError. */
export function conv2d(x: Tensor, w: Tensor, b: Tensor | null = null, options: ConvOptions = {}): Tensor {
  checkOneDType('conv2d', b === null ? { x, w } : { x, w, b })
  checkOptions('conv2d', options, convOptionKinds)
  const [, , kh = 1, kw = 1] = w.shape
  const conv = { window: windowOf('conv2d', [kh, kw], options), groups: options.groups ?? 1 }
  return apply(conv2dOp, b === null ? [x, w] : [x, w, b], conv)
}

/** image (N, O, H, W) + b (O), or as it is. */
function withBias(image: Tensor, b: Tensor | null): Tensor {
  return b === null ? image : add(image, reshape(b, [image.shape[1], 1, 1]))
}

/** Options of `convTranspose2d`. A number stands for both axes. */
export interface ConvTransposeOptions extends Omit<ConvOptions, 'padding'> {
  /** Pixels that are cut off the result, as `conv2d` would pad it. Default: 0. */
  readonly padding?: ConvPadding
  /** Pixels that the result has more at the bottom and on the right, below the stride. Default: 0. */
  readonly outputPadding?: number | readonly [down: number, across: number]
}

const transposeOptionKinds = {
  ...convOptionKinds,
  padding: either(aNumber, listOf(2, 4)),
  outputPadding: either(aNumber, listOf(2)),
}

/**
 * The adjoint of conv2d: x (N, C, H, W), w (C, O/groups, kh, kw), b (O) or null → (N, O, H', W'), where H' is
 * (H − 1)·stride − padding + dilation·(kh − 1) + outputPadding + 1, with the padding of both sides. Throws ShapeError.
 */
export function convTranspose2d(
  x: Tensor,
  w: Tensor,
  b: Tensor | null = null,
  options: ConvTransposeOptions = {},
): Tensor {
  const op = 'convTranspose2d'
  checkFloats(op, b === null ? { x, w } : { x, w, b })
  checkOptions(op, options, transposeOptionKinds)
  const { groups = 1, outputPadding = 0, ...rest } = options
  if (x.shape.length !== 4 || w.shape.length !== 4 || x.shape[1] !== w.shape[0] || w.shape[0] % groups !== 0)
    throw new ShapeError(
      `${op}: expected x [N, C, H, W] and w [C, ${groupsOf('O', groups)}, kh, kw]` +
        `${groups === 1 ? '' : `, C divisible by ${groups}`}, got ${show(x.shape)} and ${show(w.shape)}`,
    )
  const [N, , H, W] = x.shape
  const [, O, kh, kw] = w.shape
  const window = windowOf(op, [kh, kw], rest)
  checkWindow(op, window)
  const more = pairOf(outputPadding)
  if (!more.every((n, axis) => Number.isInteger(n) && n >= 0 && n < window.stride[axis]))
    throw new ShapeError(
      `${op}: expected an outputPadding from 0 and below the stride ${show(window.stride)}, got ${show(more)}`,
    )
  const [top, bottom, left, right] = window.padding
  const spans = spanOf(window)
  const size = (n: number, axis: 0 | 1, cut: number) => (n - 1) * window.stride[axis] - cut + spans[axis] + more[axis]
  const shape = [N, O * groups, size(H, 0, top + bottom), size(W, 1, left + right)]
  if (shape[2] < 1 || shape[3] < 1)
    throw new ShapeError(`${op}: expected a result of 1×1 or more, got ${shape[2]}×${shape[3]} of ${show(x.shape)}`)
  if (b !== null) checkShape(op, 'bias', b.shape, [shape[1]])
  return withBias(apply(conv2dInputGradOp, [x, w], { window, groups, shape }), b)
}
