/**
 * Convolution and its gradients, each as the sum over channels and taps that defines it, on a picture with its zero padding.
 * The three loops run over the same triples of a weight, a row of pixels and a row of results, and differ in which two are
 * multiplied into the third.
 */

import { type BackendKernels, type Convolution, windowPositions } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { type Shape, sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function convLoops(host: Host) {
  return {
    conv2d(x, w, b, conv, out) {
      const y = output(host, out)
      const [W, Y] = [host.view(w.storage), host.view(y)]
      const X = padded(host.view(x.storage), x.shape, conv)
      const sums = new Float64Array(Y.length)
      if (b !== null) {
        const B = host.view(b.storage)
        const [, O, rows, columns] = out.shape
        for (let i = 0; i < sums.length; i++) sums[i] = B[Math.floor(i / (rows * columns)) % O]
      }
      eachRow(x.shape, w.shape, conv, (weight, pixel, step, result, count) => {
        const factor = W[weight]
        for (let i = 0; i < count; i++) sums[result + i] += factor * X[pixel + i * step]
      })
      Y.set(sums)
      return y
    },

    conv2dInputGrad(g, w, conv, out) {
      const y = output(host, out)
      const [G, W, Y] = [host.view(g.storage), host.view(w.storage), host.view(y)]
      const sums = new Float64Array(sizeOf(paddedShape(out.shape, conv)))
      eachRow(out.shape, w.shape, conv, (weight, pixel, step, result, count) => {
        const factor = W[weight]
        for (let i = 0; i < count; i++) sums[pixel + i * step] += factor * G[result + i]
      })
      eachPictureRow(out.shape, conv, (row, inPadded, width) => {
        Y.set(sums.subarray(inPadded, inPadded + width), row)
      })
      return y
    },

    conv2dWeightGrad(g, x, conv, out) {
      const y = output(host, out)
      const [G, Y] = [host.view(g.storage), host.view(y)]
      const X = padded(host.view(x.storage), x.shape, conv)
      const sums = new Float64Array(Y.length)
      eachRow(x.shape, out.shape, conv, (weight, pixel, step, result, count) => {
        let sum = 0
        for (let i = 0; i < count; i++) sum += G[result + i] * X[pixel + i * step]
        sums[weight] += sum
      })
      Y.set(sums)
      return y
    },
  } satisfies Partial<BackendKernels>
}

/** Shape of a picture with its padding. */
function paddedShape([N, C, H, W]: Shape, { window }: Convolution): Shape {
  const [top, bottom, left, right] = window.padding
  return [N, C, top + H + bottom, left + W + right]
}

/** Calls `each` for every row of a picture (N, C, H, W): where it begins, where in the padded picture, and its width. */
function eachPictureRow(
  shape: Shape,
  conv: Convolution,
  each: (row: number, inPadded: number, width: number) => void,
): void {
  const [N, C, H, W] = shape
  const [top, , left] = conv.window.padding
  const [, , height, width] = paddedShape(shape, conv)
  for (let plane = 0; plane < N * C; plane++)
    for (let y = 0; y < H; y++) each((plane * H + y) * W, (plane * height + top + y) * width + left, W)
}

/** A picture with its zero padding. */
function padded(x: TypedArray, shape: Shape, conv: Convolution): Float64Array {
  const all = new Float64Array(sizeOf(paddedShape(shape, conv)))
  eachPictureRow(shape, conv, (row, inPadded, width) => all.set(x.subarray(row, row + width), inPadded))
  return all
}

/**
 * Calls `each` for every picture, pair of channels, tap, and row of results, of a picture x (N, C, H, W) and
 * w (O, C/groups, kh, kw): the positions of the weight, of the first pixel in the padded picture and of the first result,
 * the step between pixels, and the number of results.
 */
function eachRow(
  image: Shape,
  [O, perGroup, kh, kw]: Shape,
  conv: Convolution,
  each: (weight: number, pixel: number, step: number, result: number, count: number) => void,
): void {
  const { window, groups } = conv
  const [dy, dx] = window.stride
  const [down, right] = window.dilation ?? [1, 1]
  const [rows, columns] = windowPositions(image, window)
  const [N, C, H, W] = paddedShape(image, conv)
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < O; o++) {
      const firstChannel = Math.floor(o / (O / groups)) * perGroup
      for (let c = 0; c < perGroup; c++) {
        const plane = (n * C + firstChannel + c) * H
        for (let i = 0; i < kh; i++) {
          for (let j = 0; j < kw; j++) {
            const weight = ((o * perGroup + c) * kh + i) * kw + j
            for (let row = 0; row < rows; row++) {
              const pixel = (plane + row * dy + i * down) * W + j * right
              each(weight, pixel, dx, ((n * O + o) * rows + row) * columns, columns)
            }
          }
        }
      }
    }
  }
}
