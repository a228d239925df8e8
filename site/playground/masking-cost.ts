/**
 * Savings of a mask in each of the three papers' models: products of the blocks of a forward pass, against those of a
 * transformer without masks that has the same depth and width. Norms, modulation and long skips are left out. Used by the
 * masks page.
 */

import type { MaskDiTOptions, MaskDMOptions, MDTOptions } from '../../models/index.ts'

export interface Cost {
  readonly what: string
  /** 1 is all of it. */
  readonly share: number
}

/** Of `blocks` blocks of width D on n tokens: qkv, projection and MLP, q kᵀ and the product with v. */
const products = (blocks: number, n: number, D: number) => blocks * n * (12 * D * D + 2 * n * D)

/** Encoder on K of T tokens, a narrower decoder on all. */
export function maskDiTCost({ depth, hiddenSize: D, decoder }: MaskDiTOptions, K: number, T: number): Cost {
  const { depth: more, hiddenSize: E } = decoder!
  return {
    what: `${depth} blocks of width ${D} on kept tokens, a decoder of ${more} of width ${E} on all`,
    share: (products(depth, K, D) + products(more, T, E)) / products(depth, T, D),
  }
}

/** The masked pass of a step: encoder on K of T tokens, interpolator and decoder on all. */
export function mdtCost({ depth, hiddenSize: D, decodeLayer }: MDTOptions, K: number, T: number): Cost {
  const encoder = depth - decodeLayer
  const others = `interpolator of 1 and a decoder of ${decodeLayer}`
  return {
    what: `masked pass: ${encoder} blocks of width ${D} on kept tokens, an ${others} on all`,
    share: (products(encoder, K, D) + products(1 + decodeLayer, T, D)) / products(depth, T, D),
  }
}

/** All blocks on K of T tokens. */
export function maskDMCost({ depth, hiddenSize: D }: MaskDMOptions, K: number, T: number): Cost {
  const blocks = 2 * Math.floor(depth / 2) + 1 // one in the middle
  return {
    what: `${blocks} blocks of width ${D} on kept tokens, nothing else`,
    share: products(blocks, K, D) / products(blocks, T, D),
  }
}
