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

/** Queries whose probabilities the gradient holds at once: all of a short sequence, so that its products are long. */
const BLOCK = 64
/** Groups of pictures in the gradient of a shared bias. */
const GROUPS = 4

/** Dimensions of a call; T4, T8, d4 and d8 are T and d rounded up to whole tiles of 4 rows and 8 columns. */
function sizes(qkv: Operand, bias: Operand | null, heads: number) {
  const [N, T, width] = qkv.shape
  const d = width / 3 / heads
  const perPicture = bias !== null && bias.shape.length === 4
  const biasStep = perPicture ? 4 * heads * T * T : 0
  const [T4, d4] = [T, d].map(n => 4 * ceilDiv(n, 4))
  const [T8, d8] = [T, d].map(n => 8 * ceilDiv(n, 8))
  return { N, T, d, T4, T8, d4, d8, perPicture, biasStep, scale: 1 / Math.sqrt(d) }
}

type Sizes = ReturnType<typeof sizes>

/** Floats that a thread of the forward kernel needs: sums, packed k, packed v, and of 8 queries q, scores and result. */
function forwardFloats({ T, d, T4, d4 }: Sizes): number {
  return 16 + T4 * d + d4 * T + 8 * (T4 + d + d4)
}

/**
 * Floats that a thread of the gradient's kernel needs: sums, packed k and v, k again by columns, 8 queries, and of a block
 * of queries P and its gradient, q or g by columns, and P again by keys, with room for queries that do not exist. Where
 * there are several blocks, the gradients of k and v too.
 */
function backwardFloats({ T, d, T4, d4, d8 }: Sizes, block: number): number {
  const sums = T > block ? 2 * T * d4 : 0
  return 16 + 2 * T4 * d + d4 * T + 8 * d4 + 2 * T4 * block + d8 * block + T4 * block + 32 + sums
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
      const of = sizes(qkv, bias, heads)
      const { N, T, d, biasStep, scale } = of
      const threadBytes = 4 * forwardFloats(of)
      context.scratch(runtime.threads * threadBytes, scratch =>
        runtime.launch(attention, N * heads, {
          qkv: addressOf(qkv),
          bias: addressOf(bias),
          out: y.address,
          T,
          heads,
          d,
          biasStep,
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
      const of = sizes(qkv, bias, heads)
      const { N, T, d, T8, perPicture, biasStep, scale } = of
      if (gqkv.length === 0) {
        if (gbias !== null) runtime.floats(gbias.address, gbias.length).fill(0)
        return gbias === null ? [gqkv] : [gqkv, gbias]
      }
      const picturesPerGroup = bias === null || perPicture ? 1 : ceilDiv(N, GROUPS)
      const groups = ceilDiv(N, picturesPerGroup)
      const summed = bias !== null && !perPicture && groups > 1
      const block = Math.min(BLOCK, T8)
      const threadBytes = 4 * backwardFloats(of, block)
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
          block,
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
