/**
 * Floating-point operations of the families' matrix products, worked out from their options alone: 2·M·N·K each. Norms,
 * activations and biases are not counted, nor is the optimizer. A training step does three products for every layer: its
 * output, the gradient of its input and that of its weight; the second computation of attention in its gradient is not
 * counted. tests/models/families.test.ts compares these figures with the products that run.
 */

import { keptTokens } from '../diffusion/index.ts'
import { gridOf, type TransformerOptions } from './dit.ts'
import type { Cost } from './family.ts'
import { type MaskDiTOptions, officialDecoder } from './maskdit.ts'
import { extraTokens, type MaskDMOptions } from './maskdm.ts'
import type { MDTOptions } from './mdt.ts'

type Width = Pick<TransformerOptions, 'hiddenSize' | 'mlpRatio'>

/** Products of a transformer block on n tokens, without its condition: qkv 3D², projection D², MLP 2·ratio·D² per token. */
function block({ hiddenSize: D, mlpRatio = 4 }: Width, n: number): number {
  return 2 * n * (4 + 2 * mlpRatio) * D ** 2 + 4 * n ** 2 * D
}

/** `parts` vectors of width `to` from a condition of width `from`: shifts, scales and gates. */
function modulation(parts: number, from: number, to = from): number {
  return 2 * parts * from * to
}

/** A skip connection's linear layer on n tokens. */
function skip(D: number, n: number): number {
  return 4 * n * D ** 2
}

function tokensOf(options: TransformerOptions): number {
  const [rows, columns] = gridOf(options)
  return rows * columns
}

/** Patches and timestep to tokens and condition. */
function embedding(options: TransformerOptions): number {
  const { hiddenSize: D, patchSize: P, inChannels: C } = options
  return 2 * tokensOf(options) * C * P ** 2 * D + 2 * (256 * D + D ** 2)
}

/** Tokens to patches, in the final layer of DiT and MDT. */
function output(options: TransformerOptions): number {
  const { hiddenSize: D, patchSize: P, inChannels: C, learnSigma = true } = options
  return 2 * tokensOf(options) * D * P ** 2 * C * (learnSigma ? 2 : 1) + modulation(2, D)
}

export function ditCost(options: TransformerOptions, N: number): Cost {
  const { hiddenSize: D, depth } = options
  const forward =
    N * (embedding(options) + depth * (block(options, tokensOf(options)) + modulation(6, D)) + output(options))
  return { forward, step: 3 * forward }
}

/** Cost of an MDT whose blocks number as given; with `skips`, half of the encoder and all of the decoder have one. */
function mdtCostOf(options: MDTOptions, N: number, maskRatio: number, encoder: number, skips: boolean): Cost {
  const { hiddenSize: D, decodeLayer } = options
  const T = tokensOf(options)
  const adaLN = modulation(6, D)
  const pass = (kept: number, sideBlocks: number) => {
    const encoded = encoder * (block(options, kept) + adaLN) + (skips ? (encoder / 2) * skip(D, kept) : 0)
    const decoded = (decodeLayer + sideBlocks) * (block(options, T) + adaLN) + (skips ? decodeLayer * skip(D, T) : 0)
    return N * (embedding(options) + encoded + decoded + output(options))
  }
  const forward = pass(T, 0)
  return { forward, step: 3 * (forward + pass(keptTokens(T, maskRatio), 1)) }
}

export function mdtCost(options: MDTOptions, N: number, maskRatio = options.maskRatio ?? 0): Cost {
  return mdtCostOf(options, N, maskRatio, options.depth - options.decodeLayer, false)
}

/** MDTv2's mask ratio is random, `options.maskRatio` + 0.1 on average. */
export function mdtV2Cost(options: MDTOptions, N: number, maskRatio = (options.maskRatio ?? 0) + 0.1): Cost {
  return mdtCostOf(options, N, maskRatio, 2 * Math.floor((options.depth - options.decodeLayer) / 2), true)
}

export function maskDiTCost(options: MaskDiTOptions, N: number, maskRatio = 0.5): Cost {
  const { hiddenSize: D, depth, numClasses, mlpRatio, patchSize: P, inChannels: C, decoder = officialDecoder } = options
  const T = tokensOf(options)
  const pass = (K: number) => {
    const labels = 2 * numClasses * D
    const encoded = depth * (block(options, K) + modulation(6, D))
    if (decoder === null) return N * (embedding(options) + labels + encoded + 2 * K * D * P ** 2 * C + modulation(2, D))
    const { hiddenSize: E, depth: blocks } = decoder
    const widened = 2 * K * D * E + modulation(2, D)
    const decoded = blocks * (block({ hiddenSize: E, mlpRatio }, T) + modulation(6, D, E))
    const patches = 2 * T * E * P ** 2 * C + modulation(2, D, E)
    return N * (embedding(options) + labels + encoded + widened + decoded + patches)
  }
  return { forward: pass(T), step: 3 * pass(keptTokens(T, maskRatio)) }
}

export function maskDMCost(options: MaskDMOptions, N: number, maskRatio = 0.5): Cost {
  const { hiddenSize: D, depth, patchSize: P, inChannels: C, mlpTimeEmbed = false } = options
  const T = tokensOf(options)
  const half = Math.floor(depth / 2)
  const pass = (K: number) => {
    const n = K + extraTokens(options)
    const patches = 2 * K * C * P ** 2 * D
    const time = mlpTimeEmbed ? 16 * D ** 2 : 0
    return N * (patches + time + (2 * half + 1) * block(options, n) + half * skip(D, n) + patches)
  }
  return { forward: pass(T), step: 3 * pass(T - Math.trunc(maskRatio * T)) }
}
