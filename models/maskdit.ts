/**
 * MaskDiT, trained with half of the tokens removed [MaskDiT §2.2]: the encoder, a DiT, sees the visible tokens only; a
 * light decoder gets all, a learned mask token in place of those removed, and predicts every patch. Around it lies
 * EDM's preconditioning: the network's time is ln(σ)/4. Without a mask, as in sampling, encoder and decoder see all
 * tokens. The loss and the schedules of the mask ratio are maskdit-loss.ts. Leaves out the official code's class token
 * and features as conditions, which no published model has. Read dit.ts first; samplers are diffusion/edm-samplers.ts.
 */

import { aFiniteNumber, check } from '../core/arguments.ts'
import {
  adaLayerNorm,
  add,
  broadcastTo,
  concat,
  gatherRows,
  layerNorm,
  mean,
  mul,
  pad,
  type Rng,
  ShapeError,
  split,
  sub,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { type Denoiser, precondition } from '../diffusion/edm.ts'
import { keptTokens, type TokenMask, tokenMask } from '../diffusion/masking.ts'
import {
  constantZero,
  frozen,
  type Init,
  Linear,
  Modulation,
  Module,
  ModuleList,
  normal,
  PatchEmbed,
  parameter,
  TimestepEmbedder,
  unpatchify,
} from '../nn/index.ts'
import { checkMaskDiT } from './arguments.ts'
import { checkInput, checkSizes, DiTBlock, eps, FinalLayer, gridOf, sinusoids, type TransformerOptions } from './dit.ts'

/** The blocks behind the mask token. */
export interface DecoderOptions {
  readonly hiddenSize: number
  readonly depth: number
  readonly numHeads: number
}

/** The decoder of every official model, whatever the size of its encoder. */
export const officialDecoder: DecoderOptions = { hiddenSize: 512, depth: 8, numHeads: 16 }

/** Options of a MaskDiT: a DiT's options, and its decoder. */
export interface MaskDiTOptions extends Omit<TransformerOptions, 'learnSigma'> {
  /** Default: `officialDecoder`. null for no decoder: removed patches are then predicted as 0. */
  readonly decoder?: DecoderOptions | null
  /**
   * Weight of the reconstruction of removed patches. Default 0.1; at 0 there is no mask token, its place holds zeros.
   */
  readonly maeLossCoef?: number
}

/** Class labels through a linear layer on one-hot rows. 'No label' is a row of zeros, and so has no weights. */
export class OneHotEmbedder extends Module {
  /** weight (D, classes) */
  readonly embedding_table: Linear

  constructor(classes: number, D: number, init: Init) {
    super()
    this.embedding_table = new Linear(classes, D, init, { bias: false, weight: normal(0.02) })
  }

  /** labels: N integers in [0, classes], of which `classes` means none → (N, D). Throws RangeError. */
  forward(labels: ArrayLike<number>): Tensor {
    const { shape, dtype, backend } = this.embedding_table.weight
    const rows = oneHot(labels, shape[1])
    return this.embedding_table.forward(tensor(rows, { shape: [labels.length, shape[1]], dtype, backend })) // (N, D)
  }
}

/** N labels in [0, classes] → N·classes numbers, row by row; a row of zeros for label `classes`. Throws RangeError. */
export function oneHot(labels: ArrayLike<number>, classes: number): Float32Array {
  const rows = new Float32Array(labels.length * classes)
  for (let n = 0; n < labels.length; n++) {
    const label = labels[n]
    if (!Number.isInteger(label) || label < 0 || label > classes)
      throw atCaller(new RangeError(`MaskDiT: labels: expected integers in [0, ${classes}], got ${label}`))
    if (label < classes) rows[n * classes + label] = 1
  }
  return rows
}

/** From the encoder's width to the decoder's; begins at 0. */
export class DecoderLayer extends Module {
  readonly linear: Linear
  readonly adaLN_modulation: Modulation

  constructor(from: number, to: number, init: Init) {
    super()
    this.linear = new Linear(from, to, init, { weight: constantZero })
    this.adaLN_modulation = new Modulation(from, from, 2, init)
  }

  /** x (N, T, from), c (N, from) → (N, T, to) */
  forward(x: Tensor, c: Tensor): Tensor {
    const [shift, scale] = this.adaLN_modulation.vectors(c)
    return this.linear.forward(adaLayerNorm(x, shift, scale, eps))
  }
}

/** The network F inside the preconditioning. D is the encoder's width, also that of the condition; E the decoder's. */
export class MaskDiT extends Module {
  /** (1, T, D) and (1, T, E): sinusoids of the position, not trained. */
  readonly pos_embed: Tensor
  readonly decoder_pos_embed: Tensor | null
  /** (1, 1, E) */
  readonly mask_token: Tensor | null
  readonly x_embedder: PatchEmbed
  readonly t_embedder: TimestepEmbedder
  readonly y_embedder: OneHotEmbedder | null
  readonly blocks: ModuleList<DiTBlock>
  readonly decoder_layer: DecoderLayer | null
  readonly decoder_blocks: ModuleList<DiTBlock> | null
  readonly final_layer: FinalLayer
  readonly options: MaskDiTOptions

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: MaskDiTOptions, init: Init) {
    super()
    checkMaskDiT('MaskDiT', options, init)
    checkSizes('MaskDiT', options)
    const { patchSize, inChannels, hiddenSize: D, depth, numClasses, mlpRatio } = options
    const { decoder = officialDecoder, maeLossCoef = 0.1 } = options
    if (!(maeLossCoef >= 0 && maeLossCoef < Infinity))
      throw atCaller(new RangeError(`MaskDiT: maeLossCoef: expected a number from 0, got ${maeLossCoef}`))
    if (decoder !== null && !(Number.isInteger(decoder.depth) && decoder.depth >= 1))
      throw atCaller(new RangeError(`MaskDiT: expected decoder.depth: an integer from 1, got ${decoder.depth}`))
    const grid = gridOf(options)
    const positions = (width: number) => frozen(sinusoids('MaskDiT', width, grid)([1, grid[0] * grid[1], width], init))
    this.options = options
    this.pos_embed = positions(D)
    this.decoder_pos_embed = decoder && positions(decoder.hiddenSize)
    const hasToken = decoder !== null && maeLossCoef > 0
    this.mask_token = hasToken ? parameter(normal(0.02)([1, 1, decoder.hiddenSize], init)) : null
    this.x_embedder = new PatchEmbed(patchSize, inChannels, D, init)
    this.t_embedder = new TimestepEmbedder(D, init)
    this.y_embedder = numClasses > 0 ? new OneHotEmbedder(numClasses, D, init) : null
    this.blocks = new ModuleList(Array.from({ length: depth }, () => new DiTBlock(options, init)))
    this.decoder_layer = decoder && new DecoderLayer(D, decoder.hiddenSize, init)
    this.decoder_blocks = decoder && decoderBlocks({ ...decoder, mlpRatio }, D, init)
    const hiddenSize = decoder?.hiddenSize ?? D
    this.final_layer = new FinalLayer({ hiddenSize, patchSize, inChannels, learnSigma: false }, init, D)
  }

  /**
   * F: x (N, C, H, W); N values of c_noise; y: N labels in [0, numClasses] (numClasses means none), or null; mask: as
   * sampleMask gives it, or null for all tokens → (N, C, H, W). Throws ShapeError and RangeError.
   */
  forward(
    x: Tensor,
    cNoise: ArrayLike<number>,
    y: ArrayLike<number> | null = null,
    mask: TokenMask | null = null,
  ): Tensor {
    const c = this.condition(x.shape[0], cNoise, y) // (N, D)
    const patches = this.decode(this.encode(x, c, mask), c, mask) // (N, T, P·P·C)
    const { patchSize, inputSize } = this.options
    return unpatchify(patches, patchSize, [inputSize, inputSize]) // (N, C, H, W)
  }

  /** F guided on all channels, F(none) + scale · (F(y) − F(none)) [CFG eq. 6]: y are N labels. Throws as `forward`. */
  guided(x: Tensor, cNoise: ArrayLike<number>, y: ArrayLike<number>, scale: number): Tensor {
    const { numClasses } = this.options
    if (numClasses === 0)
      throw atCaller(new RangeError('MaskDiT: guidance: expected a model with classes, got one without'))
    if (!(scale >= 0 && scale < Infinity))
      throw atCaller(new RangeError(`MaskDiT: guidance: scale: expected a number from 0, got ${scale}`))
    const [c, labels] = [Array.from(cNoise), Array.from(y)]
    const all = [...labels, ...labels.map(() => numClasses)]
    const both = this.forward(concat([x, x], 0), [...c, ...c], all) // (2N, C, H, W)
    const [conditional, unconditional] = split(both, 2, 0) // (N, C, H, W) each
    return add(unconditional, mul(sub(conditional, unconditional), scale))
  }

  /** The encoder's output for all tokens of a picture, averaged and normalised: x (N, C, H, W) → (N, D). Throws. */
  features(x: Tensor, cNoise: ArrayLike<number>, y: ArrayLike<number> | null = null): Tensor {
    const tokens = this.encode(x, this.condition(x.shape[0], cNoise, y), null) // (N, T, D)
    return layerNorm(mean(tokens, 1), null, null, eps) // (N, D)
  }

  /** c = embedding of c_noise + embedding of y: (N, D). Throws RangeError and ShapeError. */
  condition(N: number, cNoise: ArrayLike<number>, y: ArrayLike<number> | null): Tensor {
    if (cNoise.length !== N)
      throw new ShapeError(`MaskDiT: expected a c_noise for each of ${N} pictures, got ${cNoise.length}`)
    if (y !== null && y.length !== N)
      throw new ShapeError(`MaskDiT: expected a label for each of ${N} pictures, got ${y.length}`)
    const time = this.t_embedder.forward(cNoise) // (N, D)
    if (y === null) return time
    if (this.y_embedder === null)
      throw atCaller(new RangeError('MaskDiT: expected no labels, as the model has no classes, got some'))
    return add(time, this.y_embedder.forward(y))
  }

  /** x (N, C, H, W), c (N, D) → encoded tokens (N, T, D), or those that a mask keeps (N, K, D). [MaskDiT §2.2] */
  encode(x: Tensor, c: Tensor, mask: TokenMask | null): Tensor {
    checkInput('MaskDiT', x, this.options)
    if (mask?.kept === 0)
      throw atCaller(new RangeError('MaskDiT: expected a mask that keeps a token, got one that keeps none'))
    const embedded = add(this.x_embedder.forward(x), this.pos_embed) // (N, T, D)
    const visible = mask === null ? embedded : gatherRows(embedded, mask.idsKeep) // (N, K, D)
    return this.blocks.items.reduce((y, block) => block.forward(y, c), visible)
  }

  /** Encoded tokens (N, T, D), or kept ones (N, K, D), c (N, D) → patches of F, (N, T, P·P·C). [MaskDiT §2.2] */
  decode(x: Tensor, c: Tensor, mask: TokenMask | null): Tensor {
    const all = (kept: Tensor, filler: Tensor | null) => (mask === null ? kept : inPlace(kept, mask, filler))
    if (this.decoder_blocks === null) return all(this.final_layer.forward(x, c), null)
    const tokens = add(all(this.decoder_layer!.forward(x, c), this.mask_token), this.decoder_pos_embed!) // (N, T, E)
    return this.final_layer.forward(
      this.decoder_blocks.items.reduce((y, block) => block.forward(y, c), tokens),
      c,
    )
  }
}

/** Blocks of the decoder's width that are steered by a condition of the encoder's. */
function decoderBlocks(
  options: DecoderOptions & Pick<MaskDiTOptions, 'mlpRatio'>,
  conditionSize: number,
  init: Init,
): ModuleList<DiTBlock> {
  return new ModuleList(Array.from({ length: options.depth }, () => new DiTBlock(options, init, conditionSize)))
}

/** Kept rows x (N, K, D) back in their places, `filler` (1, 1, D) or else zeros in the others: (N, T, D). */
function inPlace(x: Tensor, { idsRestore, kept }: TokenMask, filler: Tensor | null): Tensor {
  const [N, T] = idsRestore.shape
  const D = x.shape[2]
  const shuffled =
    filler === null ? pad(x, [0, 0, 0], [N, T, D]) : concat([x, broadcastTo(filler, [N, T - kept, D])], 1) // (N, T, D)
  return gatherRows(shuffled, idsRestore)
}

/** MaskDiT as it is trained, saved and sampled: D(x; σ) = c_skip x + c_out F(c_in x; ln(σ)/4). [EDM eq. 7] */
export class PreconditionedMaskDiT extends Module {
  readonly model: MaskDiT
  readonly sigmaData: number

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: MaskDiTOptions, init: Init, sigmaData = 0.5) {
    super()
    checkMaskDiT('PreconditionedMaskDiT', options, init)
    check('PreconditionedMaskDiT', 'sigmaData', sigmaData, aFiniteNumber)
    this.model = new MaskDiT(options, init)
    this.sigmaData = sigmaData
  }

  /**
   * D: x (N, C, H, W) and N noise levels above 0 → the expected clean picture, (N, C, H, W); labels and mask as
   * MaskDiT.forward takes them. Throws ShapeError and RangeError.
   */
  forward(
    x: Tensor,
    sigma: ArrayLike<number>,
    y: ArrayLike<number> | null = null,
    mask: TokenMask | null = null,
  ): Tensor {
    const network = (z: Tensor, cNoise: Float64Array) => this.model.forward(z, cNoise, y, mask)
    return precondition(network, this.sigmaData)(x, Float64Array.from(sigma))
  }

  /** D for the samplers, with N labels or none; guided on all channels where a scale is given. */
  denoiser(y: ArrayLike<number> | null = null, scale?: number): Denoiser {
    const { model, sigmaData } = this
    if (scale === undefined) return precondition((x, cNoise) => model.forward(x, cNoise, y), sigmaData)
    if (y === null) throw atCaller(new RangeError('MaskDiT: guidance: expected labels, got none'))
    return precondition((x, cNoise) => model.guided(x, cNoise, y, scale), sigmaData)
  }

  /**
   * A mask for each of N pictures that removes a share `ratio` of the tokens, in [0, 1); null where that removes none,
   * as at the end of unmasking tuning. Throws RangeError.
   */
  sampleMask(N: number, ratio: number, rng: Rng): TokenMask | null {
    const T = this.model.pos_embed.shape[1]
    if (keptTokens(T, ratio) === T) return null
    return tokenMask(rng.uniformArray(N * T), [N, T], ratio, { backend: this.model.pos_embed.backend })
  }
}
