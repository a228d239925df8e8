/**
 * Bytes at the peak of a training step of MDT, worked out from its options alone. A step is a pass over the full picture and
 * one over the masked one, each forward and backward, then AdamW. Its operations are models/cost.ts.
 */

import { keptTokens } from '../diffusion/index.ts'
import type { MDTOptions } from '../models/index.ts'

/** Tokens that each block of a pass sees, in order. */
interface Pass {
  readonly encoder: number
  readonly others: number
  /** Blocks with the encoder's tokens, and with all of them. */
  readonly encoderBlocks: number
  readonly otherBlocks: number
}

function passesOf({ inputSize, patchSize, depth, decodeLayer, maskRatio }: MDTOptions): { full: Pass; masked: Pass } {
  const T = (inputSize / patchSize) ** 2
  const encoderBlocks = depth - decodeLayer
  return {
    full: { encoder: T, others: T, encoderBlocks, otherBlocks: decodeLayer },
    // One more block: the side-interpolator.
    masked: { encoder: keptTokens(T, maskRatio ?? 0), others: T, encoderBlocks, otherBlocks: decodeLayer + 1 },
  }
}

/**
 * Bytes at the peak of a step on N pictures, in f32, of a model with `parameters`: the most of three moments. At the end of
 * the full pass's forward there are weights, two moments and what that pass has saved; at the end of the masked one's,
 * gradients too; at the end of its backward nothing saved, but all its gradients, which are added only then.
 */
export function stepBytes(options: MDTOptions, parameters: number, N: number): number {
  const { full, masked } = passesOf(options)
  const saved = (pass: Pass) => savedValues(options, pass, N)
  return 4 * Math.max(3 * parameters + saved(full), 4 * parameters + saved(masked), 5 * parameters)
}

/**
 * A block on n tokens saves 18 values per token and channel: its input x, norm, qkv (3), attention, projection, x again,
 * norm, the MLP's two hidden layers (4 each) and its output. Besides, per picture and channel, the MLP of the modulation
 * (1, giving 6) and its 6 parts; and the attention bias, as it was gathered and as heads want it. The loss makes some 70
 * arrays of the size of the pictures.
 */
function savedValues(options: MDTOptions, pass: Pass, N: number): number {
  const { hiddenSize: D, numHeads: h, mlpRatio = 4, inChannels: C, inputSize: S } = options
  const { encoder: n, others: T, encoderBlocks, otherBlocks } = pass
  const block = (tokens: number) => N * D * (tokens * (10 + 2 * mlpRatio) + 13)
  const bias = (tokens: number) => 2 * h * tokens * tokens
  const ownBias = n < T ? N : 1 // kept tokens differ from picture to picture
  const loss = 70 * N * C * S * S
  return encoderBlocks * (block(n) + ownBias * bias(n)) + otherBlocks * (block(T) + bias(T)) + loss
}
