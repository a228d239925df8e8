/**
 * Launches unfold and fold. Kernels: kernels/unfold.as.ts.
 */

import {
  type Kernels,
  type Operand,
  type Spec,
  type Storage,
  type Window2d,
  windowPositions,
} from '../../../backend.ts'
import { ceilDiv } from '../../../shape.ts'
import type { WindowArgs } from '../generated/kernels.ts'
import type { Address } from '../memory.ts'
import type { Kernel } from '../runtime.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'

export function windows(context: LaunchContext): Pick<Kernels, 'unfold' | 'fold'> {
  const { runtime } = context
  const { unfold, fold, foldInts } = runtime.kernels

  /** Launches a kernel between an image (N, C, H, W) of this shape and its patches (N, C·kh·kw, H'·W'). */
  function launch(
    kernel: Kernel<WindowArgs>,
    image: Address,
    patches: Address,
    shape: readonly number[],
    window: Window2d,
  ): void {
    const [N, C, H, W] = shape
    const {
      kernel: [kh, kw],
      stride: [dy, dx],
      padding: [top, , left],
      dilation: [tapY, tapX] = [1, 1],
    } = window
    const planes = N * C
    const [outH, outW] = windowPositions(shape, window)
    const planesPerChunk = Math.max(1, Math.floor((2 * CHUNK) / (kh * kw * outH * outW)))
    runtime.launch(kernel, ceilDiv(planes, planesPerChunk), {
      image,
      patches,
      planes,
      planesPerChunk,
      H,
      W,
      kh,
      kw,
      dy,
      dx,
      tapY,
      tapX,
      top,
      left,
      outH,
      outW,
    })
  }

  return {
    unfold(x: Operand, window: Window2d, out: Spec): Storage {
      const y = context.output(out)
      launch(unfold, addressOf(x), y.address, x.shape, window)
      return y
    },

    fold(x: Operand, window: Window2d, out: Spec): Storage {
      const y = context.output(out)
      launch(out.dtype === 'f32' ? fold : foldInts, y.address, addressOf(x), out.shape, window)
      return y
    },
  }
}
