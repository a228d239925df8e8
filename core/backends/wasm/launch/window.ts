/**
 * Launches unfold and fold. Kernels: kernels/unfold.as.ts.
 */

import type { Kernels, Operand, Spec, Storage, Window2d } from '../../../backend.ts'
import { addressOf, CHUNK, ceilDiv, type LaunchContext } from '../storage.ts'

export function windows(context: LaunchContext): Pick<Kernels, 'unfold' | 'fold'> {
  const { runtime } = context
  const unfoldKernel = runtime.kernel('unfold')
  const foldKernels = { f32: runtime.kernel('fold'), i32: runtime.kernel('foldInts') }

  /** Both kernels: `image` (N, C, H, W) and `patches` (N, C·kh·kw, H'·W') are addresses, one of them of the result. */
  function launch(kernel: number, image: number, patches: number, shape: readonly number[], window: Window2d): void {
    const [N, C, H, W] = shape
    const {
      kernel: [kh, kw],
      stride: [dy, dx],
      padding: [top, bottom, left, right],
    } = window
    const outH = Math.floor((H + top + bottom - kh) / dy) + 1
    const outW = Math.floor((W + left + right - kw) / dx) + 1
    const perChunk = Math.max(1, Math.floor((2 * CHUNK) / (kh * kw * outH * outW)))
    runtime.launchWords(
      kernel,
      ceilDiv(N * C, perChunk),
      image,
      patches,
      N * C,
      perChunk,
      H,
      W,
      kh,
      kw,
      dy,
      dx,
      top,
      left,
      outH,
      outW,
    )
  }

  return {
    unfold(x: Operand, window: Window2d, out: Spec): Storage {
      const y = context.output(out)
      launch(unfoldKernel, addressOf(x), y.address, x.shape, window)
      return y
    },

    fold(x: Operand, window: Window2d, out: Spec): Storage {
      const y = context.output(out)
      launch(foldKernels[out.dtype as 'f32' | 'i32'], y.address, addressOf(x), out.shape, window)
      return y
    },
  }
}
