/**
 * MDT, the masked diffusion transformer [MDT §3]: a DiT that is trained on the full picture and on one with some tokens
 * removed. The encoder sees the kept tokens only; the side-interpolator guesses the others; the decoder gets all. Without
 * a mask, as in sampling, its position embedding replaces the interpolator. Two versions share that frame: `MDT`, the
 * paper's, and `MDTv2`, the authors' later code, which adds long skips and a random mask ratio. The loss is
 * mdt-loss.ts. Read dit.ts first; guidance is diffusion/guidance.ts.
 */

import { aBoolean, aCount, check, checkOptions } from '../core/arguments.ts'
import {
  adaLayerNorm,
  add,
  broadcastTo,
  concat,
  gatedResidual,
  gatherRows,
  type Rng,
  reshape,
  scope,
  type Tensor,
  where,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { type TokenMask, tokenMask } from '../diffusion/masking.ts'
import {
  Attention,
  constantZero,
  frozen,
  type Grid,
  type Init,
  keptPairs,
  type LabelEmbedder,
  Linear,
  Mlp,
  Modulation,
  Module,
  ModuleList,
  normal,
  PatchEmbed,
  parameter,
  TimestepEmbedder,
  unpatchify,
} from '../nn/index.ts'
import { checkTransformer, mdtKinds } from './arguments.ts'
import {
  checkBlock,
  checkInput,
  checkSizes,
  condition,
  eps,
  FinalLayer,
  gridOf,
  labelEmbedder,
  sinusoids,
  type TransformerOptions,
} from './dit.ts'

export interface MDTOptions extends TransformerOptions {
  /** Share of tokens that training removes, in [0, 1); null for a model that is never given a mask. */
  readonly maskRatio: number | null
  /** N₂, the number of blocks behind the side-interpolator. [MDT §3.3] */
  readonly decodeLayer: number
}

/** A DiT block whose attention has a relative position bias, and which may take in a long skip. [MDT §3.3] */
export class MDTBlock extends Module {
  readonly attn: Attention
  readonly mlp: Mlp
  readonly adaLN_modulation: Modulation
  /** Joins tokens and skip, in blocks that have one. */
  readonly skip_linear: Linear | null

  constructor(options: TransformerOptions, init: Init, place: { readonly skip?: boolean } = {}) {
    super()
    checkBlock('MDTBlock', options, init)
    for (const name of ['inputSize', 'patchSize'] as const) check('MDTBlock', name, options[name], aCount)
    checkOptions('MDTBlock', place, { skip: aBoolean })
    const { skip = false } = place
    const { hiddenSize: D, numHeads, mlpRatio = 4 } = options
    this.attn = new Attention(D, numHeads, init, { grid: gridOf(options) })
    this.mlp = new Mlp(D, Math.trunc(D * mlpRatio), init)
    this.adaLN_modulation = new Modulation(D, D, 6, init)
    this.skip_linear = skip ? new Linear(2 * D, D, init) : null
  }

  /**
   * x (N, T, D), c (N, D), and in blocks with a skip that too, (N, T, D) → (N, T, D). With kept tokens (N, K, D), `pairs`
   * are theirs (keptPairs). Frees intermediates on return, except those saved for backward.
   */
  forward(x: Tensor, c: Tensor, pairs: Tensor | null = null, skip: Tensor | null = null): Tensor {
    return scope(() => {
      const [shift1, scale1, gate1, shift2, scale2, gate2] = this.adaLN_modulation.vectors(c)
      const joined = skip === null ? x : this.skip_linear!.forward(concat([x, skip], 2)) // (N, T, D)
      const y = gatedResidual(joined, gate1, this.attn.forward(adaLayerNorm(joined, shift1, scale1, eps), pairs))
      return gatedResidual(y, gate2, this.mlp.forward(adaLayerNorm(y, shift2, scale2, eps)))
    })
  }
}

/** Base of the two versions, which differ in the blocks of encoder and decoder. */
export abstract class MaskedDiffusionTransformer extends Module {
  /** (1, T, D) positions of encoder and decoder: learned, sinusoids at first. */
  readonly pos_embed: Tensor
  readonly decoder_pos_embed: Tensor
  /** (1, 1, D) what the side-interpolator is given for a removed token. Not trained where maskRatio is null. */
  readonly mask_token: Tensor
  readonly x_embedder: PatchEmbed
  readonly t_embedder: TimestepEmbedder
  readonly y_embedder: LabelEmbedder | null
  abstract readonly sideblocks: ModuleList<MDTBlock>
  abstract readonly final_layer: FinalLayer
  readonly options: MDTOptions
  readonly grid: Grid

  constructor(options: MDTOptions, init: Init, model = 'MDT') {
    super()
    checkTransformer(model, options, mdtKinds, init)
    checkSizes(model, options)
    const { patchSize, inChannels, hiddenSize: D, depth, decodeLayer, maskRatio } = options
    if (!(Number.isInteger(decodeLayer) && decodeLayer >= 1 && decodeLayer <= depth))
      throw atCaller(new RangeError(`${model}: decodeLayer: expected an integer in [1, ${depth}], got ${decodeLayer}`))
    if (maskRatio !== null && !(maskRatio >= 0 && maskRatio < 1))
      throw atCaller(new RangeError(`${model}: maskRatio: expected a number in [0, 1) or null, got ${maskRatio}`))
    this.options = options
    this.grid = gridOf(options)
    const positions = sinusoids(model, D, this.grid)
    const shape = [1, this.grid[0] * this.grid[1], D]
    this.pos_embed = parameter(positions(shape, init))
    this.decoder_pos_embed = parameter(positions(shape, init))
    this.mask_token =
      maskRatio === null ? frozen(constantZero([1, 1, D], init)) : parameter(normal(0.02)([1, 1, D], init))
    this.x_embedder = new PatchEmbed(patchSize, inChannels, D, init)
    this.t_embedder = new TimestepEmbedder(D, init)
    this.y_embedder = labelEmbedder(options, init)
  }

  /** Tokens (N, T, D), or kept ones (N, K, D) with their `pairs`, through the N₁ blocks that see no removed token. */
  abstract encode(x: Tensor, c: Tensor, pairs: Tensor | null): Tensor

  /** All tokens (N, T, D) through the N₂ last blocks. `embedded` are the tokens as the encoder would get them, unmasked. */
  abstract decode(x: Tensor, c: Tensor, embedded: Tensor): Tensor

  /** The share of tokens that a training step removes. */
  abstract sampleRatio(rng: Rng): number

  /** The weight of the squared error by timestep in this version's training. */
  abstract readonly weighting: 'uniform' | 'min-snr-5'

  /** The mask of a training step's masked pass for N pictures: the ratio is drawn first, then noise for every token. */
  sampleMask(N: number, rng: Rng): TokenMask {
    const T = this.grid[0] * this.grid[1]
    const ratio = this.sampleRatio(rng)
    return tokenMask(rng.uniformArray(N * T), [N, T], ratio, { backend: this.mask_token.backend })
  }

  /**
   * x (N, C, H, W); t: N timesteps; y: N labels in [0, numClasses], or null; mask: as sampleMask gives it, or null for the
   * full picture → (N, Cout, H, W), Cout = 2C, or C without learnSigma. Throws ShapeError and RangeError.
   */
  forward(x: Tensor, t: ArrayLike<number>, y: ArrayLike<number> | null = null, mask: TokenMask | null = null): Tensor {
    const c = this.condition(x.shape[0], t, y) // (N, D)
    const embedded = this.embed(x) // (N, T, D)
    const all = mask === null ? this.encodeFull(embedded, c) : this.encodeMasked(embedded, c, mask) // (N, T, D)
    return this.unpatchify(this.final_layer.forward(this.decode(all, c, embedded), c)) // (N, Cout, H, W)
  }

  /** Encoder on all tokens (N, T, D); in place of the side-interpolator its position embedding. → (N, T, D) */
  encodeFull(embedded: Tensor, c: Tensor): Tensor {
    return add(this.encode(embedded, c, null), this.decoder_pos_embed)
  }

  /** Encoder on the kept ones of all tokens (N, T, D), then the side-interpolator. → (N, T, D) */
  encodeMasked(embedded: Tensor, c: Tensor, mask: TokenMask): Tensor {
    const { maskRatio } = this.options
    if (maskRatio === null) throw atCaller(new RangeError('MDT: expected no mask, as maskRatio is null, got one'))
    if (mask.kept === 0)
      throw atCaller(new RangeError('MDT: expected a mask that keeps a token, got one that keeps none'))
    const x = this.encode(gatherRows(embedded, mask.idsKeep), c, this.pairsOf(mask)) // (N, K, D)
    return this.sideInterpolator(x, c, mask)
  }

  /** x (N, C, H, W) → tokens with their positions (N, T, D). Throws ShapeError. */
  embed(x: Tensor): Tensor {
    checkInput('MDT', x, this.options)
    return add(this.x_embedder.forward(x), this.pos_embed)
  }

  /** t and y, one each per picture → c (N, D). Throws as `condition` of dit.ts. */
  condition(N: number, t: ArrayLike<number>, y: ArrayLike<number> | null): Tensor {
    return condition('MDT', this, N, t, y)
  }

  /** For the relative position bias among the tokens that a mask keeps. */
  pairsOf({ hostIdsKeep, idsKeep, kept }: TokenMask): Tensor {
    return keptPairs(hostIdsKeep, [idsKeep.shape[0], kept], this.grid, idsKeep)
  }

  /**
   * Kept tokens x (N, K, D) back in their places, the mask token in the others, positions added: q. A block predicts k̂
   * from q, and k = M k̂ + (1 − M) q, M being 1 where a token was removed: (N, T, D). [MDT §3.3]
   */
  sideInterpolator(x: Tensor, c: Tensor, { idsRestore, mask, kept }: TokenMask): Tensor {
    const [N, T] = mask.shape
    const D = x.shape[2]
    const filled = kept === T ? x : concat([x, broadcastTo(this.mask_token, [N, T - kept, D])], 1) // (N, T, D)
    const q = add(gatherRows(filled, idsRestore), this.decoder_pos_embed) // (N, T, D)
    let k = q
    for (const block of this.sideblocks) k = block.forward(k, c)
    return where(reshape(mask, [N, T, 1]), k, q)
  }

  /** (N, T, P·P·Cout) → (N, Cout, H, W) */
  unpatchify(tokens: Tensor): Tensor {
    const { patchSize, inputSize } = this.options
    return unpatchify(tokens, patchSize, [inputSize, inputSize])
  }
}

function blocks(count: number, options: MDTOptions, init: Init, skip = false): ModuleList<MDTBlock> {
  return new ModuleList(Array.from({ length: count }, () => new MDTBlock(options, init, { skip })))
}

/** The paper's model: `depth` blocks, of which the last N₂ decode. */
export class MDT extends MaskedDiffusionTransformer {
  readonly weighting = 'uniform'
  readonly blocks: ModuleList<MDTBlock>
  readonly sideblocks: ModuleList<MDTBlock>
  readonly final_layer: FinalLayer

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: MDTOptions, init: Init) {
    super(options, init)
    this.blocks = blocks(options.depth, options, init)
    this.sideblocks = blocks(1, options, init)
    this.final_layer = new FinalLayer(options, init)
  }

  encode(x: Tensor, c: Tensor, pairs: Tensor | null): Tensor {
    const { depth, decodeLayer } = this.options
    return this.blocks.items.slice(0, depth - decodeLayer).reduce((y, block) => block.forward(y, c, pairs), x)
  }

  decode(x: Tensor, c: Tensor): Tensor {
    const { depth, decodeLayer } = this.options
    return this.blocks.items.slice(depth - decodeLayer).reduce((y, block) => block.forward(y, c), x)
  }

  /** The fixed ratio. */
  sampleRatio(): number {
    return this.options.maskRatio ?? 0
  }
}

/**
 * The authors' second version: the second half of the encoder's blocks take in the outputs of the first half, last one
 * first, and every decoder block the embedded picture, unmasked. An odd number of encoder blocks loses one.
 */
export class MDTv2 extends MaskedDiffusionTransformer {
  readonly weighting = 'min-snr-5'
  readonly en_inblocks: ModuleList<MDTBlock>
  readonly en_outblocks: ModuleList<MDTBlock>
  readonly de_blocks: ModuleList<MDTBlock>
  readonly sideblocks: ModuleList<MDTBlock>
  readonly final_layer: FinalLayer

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: MDTOptions, init: Init) {
    super(options, init, 'MDTv2')
    const { maskRatio } = options
    if (maskRatio !== null && maskRatio > 0.8)
      throw atCaller(new RangeError(`MDTv2: maskRatio: expected at most 0.8, as up to 0.2 is added, got ${maskRatio}`))
    const half = Math.floor((options.depth - options.decodeLayer) / 2)
    this.en_inblocks = blocks(half, options, init)
    this.en_outblocks = blocks(half, options, init, true)
    this.de_blocks = blocks(options.decodeLayer, options, init, true)
    this.sideblocks = blocks(1, options, init)
    this.final_layer = new FinalLayer(options, init)
  }

  encode(x: Tensor, c: Tensor, pairs: Tensor | null): Tensor {
    const skips: Tensor[] = []
    let y = x
    for (const block of this.en_inblocks) {
      y = block.forward(y, c, pairs)
      skips.push(y)
    }
    for (const block of this.en_outblocks) y = block.forward(y, c, pairs, skips.pop())
    return y
  }

  decode(x: Tensor, c: Tensor, embedded: Tensor): Tensor {
    return this.de_blocks.items.reduce((y, block) => block.forward(y, c, null, embedded), x)
  }

  /** maskRatio + u/5 with u uniform on [0, 1). */
  sampleRatio(rng: Rng): number {
    return randomMaskRatio(this.options.maskRatio ?? 0, rng.uniformArray(1)[0])
  }
}

/** MDT v2's mask ratio: from `least` up to a fifth more, as u goes from 0 to 1. */
export function randomMaskRatio(least: number, u: number): number {
  return u * 0.2 + least
}
