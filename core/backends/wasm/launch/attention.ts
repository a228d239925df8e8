/**
 * Launches self-attention and its gradient. Chunks are heads of pictures; where the gradient of a bias that pictures
 * share is wanted, pictures are taken in at most four groups, whose sums are added at the end.
 * Kernels: kernels/attention.as.ts.
 */

import type { FusedKernels, Operand } from '../../../backend.ts'
import { ceilDiv } from '../../../shape.ts'
import { addBytes } from '../memory.ts'
import { addressOf, type LaunchContext } from '../storage.ts'
import type { Reduce } from './reduce.ts'

/** Query rows of a block: all of a short sequence, so that its products are long. */
const BLOCK = 64
/** Groups of pictures in the gradient of a shared bias. */
const GROUPS = 4

/** Dimensions of a call, and sizes of packed panels in bytes. */
function sizes(qkv: Operand, bias: Operand | null, heads: number) {
  const [N, T, width] = qkv.shape
  const d = width / 3 / heads
  const perPicture = bias !== null && bias.shape.length === 4
  const rowsPerBlock = Math.min(BLOCK, ceilDiv(T, 4) * 4)
  const wideT = ceilDiv(T, 8) * 8
  const wideD = ceilDiv(d, 8) * 8
  const biasStep = perPicture ? 4 * heads * T * T : 0
  return { N, T, d, rowsPerBlock, wideT, wideD, perPicture, biasStep, scale: 1 / Math.sqrt(d) }
}

export function attention(
  context: LaunchContext,
  reduce: Reduce,
): Pick<FusedKernels, 'selfAttention' | 'selfAttentionGrad'> {
  const { runtime } = context
  const { attention, attentionGrad } = runtime.kernels

  return {
    selfAttention(qkv, bias, heads, out) {
      const y = context.output(out)
      if (y.length === 0) return y
      const { N, T, d, rowsPerBlock, wideT, wideD, biasStep, scale } = sizes(qkv, bias, heads)
      const threadBytes = 4 * (wideT * d + wideD * T + rowsPerBlock * wideT + rowsPerBlock * Math.max(T, d))
      context.scratch(runtime.threads * threadBytes, scratch =>
        runtime.launch(attention, N * heads, {
          qkv: addressOf(qkv),
          bias: addressOf(bias),
          out: y.address,
          T,
          heads,
          d,
          biasStep,
          rowsPerBlock,
          scale,
          scratch,
          threadBytes,
        }),
      )
      return y
    },

    selfAttentionGrad(g, qkv, bias, heads) {
      const gqkv = context.output(qkv)
      const gbias = bias === null ? null : context.output(bias)
      const { N, T, d, rowsPerBlock, wideT, wideD, perPicture, biasStep, scale } = sizes(qkv, bias, heads)
      if (gqkv.length === 0) {
        if (gbias !== null) runtime.floats(gbias.address, gbias.length).fill(0)
        return gbias === null ? [gqkv] : [gqkv, gbias]
      }
      const picturesPerGroup = bias === null || perPicture ? 1 : ceilDiv(N, GROUPS)
      const groups = ceilDiv(N, picturesPerGroup)
      const summed = bias !== null && !perPicture && groups > 1
      const packed = Math.max(ceilDiv(T, 4) * 4 * rowsPerBlock, rowsPerBlock * d)
      const threadBytes = 4 * (2 * wideT * d + wideD * T + wideD * rowsPerBlock + 2 * rowsPerBlock * wideT + packed)
      const slotBytes = summed ? 4 * groups * heads * T * T : 0
      context.scratch(slotBytes + runtime.threads * threadBytes, slots => {
        runtime.launch(attentionGrad, groups * heads, {
          g: addressOf(g),
          qkv: addressOf(qkv),
          bias: addressOf(bias),
          gqkv: gqkv.address,
          gbias: summed ? slots : (gbias?.address ?? null),
          N,
          T,
          heads,
          d,
          biasStep,
          picturesPerGroup,
          rowsPerBlock,
          scale,
          scratch: addBytes(slots, slotBytes),
          threadBytes,
        })
        if (summed) reduce('sum', slots, gbias!.address, 1, groups, heads * T * T)
      })
      return gbias === null ? [gqkv] : [gqkv, gbias]
    },
  }
}
