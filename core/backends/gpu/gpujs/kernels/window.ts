/**
 * unfold and fold: the patches of an image under a sliding window as columns, and the adjoint.
 */

import { type BackendKernels, type Window2d, windowPositions } from '../../../../backend.ts'
import type { Shape } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'

declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function element(outer: number, rows: number, row: number, width: number, column: number): number

/**
 * Image H × W, window kh × kw, strides down and right from (−top, −left), taps tapY and tapX apart, rows × columns
 * positions.
 */
// biome-ignore format: one group of parameters a line
function unfold(
  this: Thread, x: Elements, H: number, W: number, kh: number, kw: number,
  down: number, right: number, tapY: number, tapX: number, top: number, left: number, rows: number, columns: number,
): number {
  const i = along(this.thread.x, kh, kw * rows * columns)
  const j = along(this.thread.x, kw, rows * columns)
  const y = along(this.thread.x, rows, columns) * down - top + i * tapY
  const z = remainder(this.thread.x, columns) * right - left + j * tapX
  if (y < 0 || y >= H || z < 0 || z >= W) {
    return 0
  }
  return x[element(quotient(this.thread.x, kh * kw * rows * columns), H, y, W, z)]
}

/** A pixel lies in a window if the position of that window is an integer and in range. */
// biome-ignore format: one group of parameters a line
function fold(
  this: Thread, x: Elements, H: number, W: number, kh: number, kw: number,
  down: number, right: number, tapY: number, tapX: number, top: number, left: number, rows: number, columns: number,
): number {
  const plane = quotient(this.thread.x, H * W)
  const row = along(this.thread.x, H, W) + top
  const column = remainder(this.thread.x, W) + left
  let total = 0
  for (let i = 0; i < kh; i++) {
    for (let j = 0; j < kw; j++) {
      if (row >= i * tapY && column >= j * tapX) {
        if (remainder(row - i * tapY, down) === 0 && remainder(column - j * tapX, right) === 0) {
          if (quotient(row - i * tapY, down) < rows && quotient(column - j * tapX, right) < columns) {
            total +=
              x[
                element(
                  element(plane, kh, i, kw, j),
                  rows,
                  quotient(row - i * tapY, down),
                  columns,
                  quotient(column - j * tapX, right),
                )
              ]
          }
        }
      }
    }
  }
  return total
}

export function createWindowKernels({ launch }: Launcher) {
  return {
    unfold: (x, window, out) => launch({ key: 'unfold', kernel: unfold }, [x], out, intsOf('unfold', x.shape, window)),
    fold: (x, window, out) => launch({ key: 'fold', kernel: fold }, [x], out, intsOf('fold', out.shape, window)),
  } satisfies Partial<BackendKernels>
}

/** Returns the whole-number arguments of both kernels. */
function intsOf(op: string, image: Shape, window: Window2d): number[] {
  const [N, C, H, W] = image
  const { kernel, stride, padding, dilation = [1, 1] } = window
  const [top, , left] = padding
  coordinate(op, N * C * kernel[0] * kernel[1])
  return [H, W, ...kernel, ...stride, ...dilation, top, left, ...windowPositions(image, window)]
}
