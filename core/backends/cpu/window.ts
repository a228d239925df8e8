/**
 * The patch under each position of a sliding window, laid out so that a convolution is one matrix product, and the
 * adjoint, which puts patches back and sums where they overlap.
 */

import { type BackendKernels, type Window2d, windowPositions } from '../../backend.ts'
import type { Shape } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function windowLoops(host: Host) {
  return {
    unfold(x, window, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      Y.fill(0) // the padding
      eachTap(x.shape, window, (pixel, patch) => {
        Y[patch] = X[pixel]
      })
      return y
    },

    fold(x, window, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const sums = new Float64Array(Y.length)
      eachTap(out.shape, window, (pixel, patch) => {
        sums[pixel] += X[patch]
      })
      Y.set(sums)
      return y
    },
  } satisfies Partial<BackendKernels>
}

/**
 * Calls `each` with the position of a pixel in the image (N, C, H, W) and of its copy in the patches
 * (N, C·kh·kw, H'·W'), for every window position and every tap of the window that falls inside the image.
 */
function eachTap(image: Shape, window: Window2d, each: (pixel: number, patch: number) => void): void {
  const [N, C, H, W] = image
  const [kh, kw] = window.kernel
  const [dy, dx] = window.stride
  const [down, right] = window.dilation ?? [1, 1]
  const [top, , left] = window.padding
  const [outH, outW] = windowPositions(image, window)
  let patch = 0
  for (let plane = 0; plane < N * C; plane++) {
    for (let i = 0; i < kh; i++) {
      for (let j = 0; j < kw; j++) {
        for (let row = 0; row < outH; row++) {
          const y = row * dy + i * down - top
          for (let column = 0; column < outW; column++, patch++) {
            const x = column * dx + j * right - left
            if (y >= 0 && y < H && x >= 0 && x < W) each((plane * H + y) * W + x, patch)
          }
        }
      }
    }
  }
}
