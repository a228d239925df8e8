/**
 * MaskDM's network, a U-ViT [MaskDM §3.3, U-ViT §3]: label, timestep and patches are all tokens of one plain transformer,
 * and each block of its second half takes in the output of the opposite one of the first half, a long skip. Under a mask
 * the removed patches are not there at all: no mask token stands for them, and nothing is predicted for them. Attention
 * has no key bias, layer norms have weights, GELU is exact. Diffusion, loss and sampler are maskdm-diffusion.ts, the way
 * from pre-training to other pictures is transfer.ts. Leaves out dropout, which is 0 in every official model.
 */

import { aBoolean, anObject, aSize, check, checkOptions } from '../core/arguments.ts'
import {
  add,
  concat,
  embedding,
  gatherRows,
  gelu,
  linear,
  patchify,
  reshape,
  ShapeError,
  scope,
  selfAttention,
  silu,
  slice,
  type Tensor,
  tensor,
  zeros,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import {
  Activation,
  constantZero,
  Embedding,
  type Init,
  LayerNorm,
  Linear,
  Mlp,
  Module,
  ModuleList,
  normal,
  PatchEmbed,
  parameter,
  Sequential,
  timestepEmbedding,
  unpatchify,
} from '../nn/index.ts'
import { checkTransformer, maskdmKinds } from './arguments.ts'
import { checkBlock, checkInput, checkSizes, gridOf, type TransformerOptions } from './dit.ts'

/** `depth` counts the blocks, of which an even number gets one more: there is always one in the middle. */
export interface MaskDMOptions extends Omit<TransformerOptions, 'classDropoutProb' | 'learnSigma'> {
  /** Adds a bias to queries and values. Default false. */
  readonly qkvBias?: boolean
  /** Puts an MLP between the sinusoids of t and their token. Default false. */
  readonly mlpTimeEmbed?: boolean
}

/** First weights of all linear layers and learned tokens. */
const weight = normal(0.02)

/** Tokens before the patches: label (where there are classes) and time. */
export function extraTokens(options: Pick<MaskDMOptions, 'numClasses'>): number {
  check('extraTokens', 'options', options, anObject)
  const { numClasses } = options
  check('extraTokens', 'numClasses', numClasses, aSize)
  return numClasses > 0 ? 2 : 1
}

/** Self-attention, in which at most queries and values have a bias. */
export class UViTAttention extends Module {
  /** (D) each, begin at 0; null without. */
  readonly q_bias: Tensor | null
  readonly v_bias: Tensor | null
  readonly qkv: Linear
  readonly proj: Linear
  readonly heads: number

  constructor(options: MaskDMOptions, init: Init) {
    super()
    checkBlock('UViTAttention', options, init)
    const { hiddenSize: D, numHeads, qkvBias = false } = options
    check('UViTAttention', 'qkvBias', qkvBias, aBoolean)
    this.q_bias = qkvBias ? parameter(constantZero([D], init)) : null
    this.v_bias = qkvBias ? parameter(constantZero([D], init)) : null
    this.qkv = new Linear(D, 3 * D, init, { bias: false, weight })
    this.proj = new Linear(D, D, init, { weight })
    this.heads = numHeads
  }

  /** x (N, T, D) → (N, T, D) */
  forward(x: Tensor): Tensor {
    const qkv = linear(x, this.qkv.weight, this.#bias()) // (N, T, 3D)
    return this.proj.forward(selfAttention(qkv, null, this.heads)) // (N, T, D)
  }

  /** (3D) with zeros for the keys, or null. */
  #bias(): Tensor | null {
    const { q_bias: q, v_bias: v } = this
    return q && v && concat([q, zeros(q.shape, { dtype: q.dtype, backend: q.backend }), v], 0)
  }
}

/** A pre-norm transformer block that may begin with a long skip. [U-ViT §3.1] */
export class UViTBlock extends Module {
  readonly norm1: LayerNorm
  readonly attn: UViTAttention
  readonly norm2: LayerNorm
  readonly mlp: Mlp
  /** Joins tokens and skip, in blocks that have one. */
  readonly skip_linear: Linear | null

  constructor(options: MaskDMOptions, init: Init, place: { readonly skip?: boolean } = {}) {
    super()
    checkBlock('UViTBlock', options, init)
    checkOptions('UViTBlock', place, { skip: aBoolean })
    const { skip = false } = place
    const { hiddenSize: D, mlpRatio = 4 } = options
    this.norm1 = new LayerNorm(D, init)
    this.attn = new UViTAttention(options, init)
    this.norm2 = new LayerNorm(D, init)
    this.mlp = new Mlp(D, Math.trunc(D * mlpRatio), init, { activation: gelu, weight })
    this.skip_linear = skip ? new Linear(2 * D, D, init, { weight }) : null
  }

  /**
   * x (N, T, D), and in blocks with a skip that too, (N, T, D) → (N, T, D). Frees intermediates on return, except those
   * saved for backward.
   */
  forward(x: Tensor, skip: Tensor | null = null): Tensor {
    return scope(() => {
      const joined = skip === null ? x : this.skip_linear!.forward(concat([x, skip], 2)) // (N, T, D)
      const y = add(joined, this.attn.forward(this.norm1.forward(joined)))
      return add(y, this.mlp.forward(this.norm2.forward(y)))
    })
  }
}

/** All of the network but the last linear layer. E is the number of extra tokens: label (if any), then time. */
export class UViTEncoder extends Module {
  /** (1, D) the label token where no label is given; null without classes. */
  readonly uncond_embed: Tensor | null
  /** (1, E + T, D) learned positions, of the extra tokens too. */
  readonly encoder_pos_embed: Tensor
  readonly patch_embed: PatchEmbed
  readonly label_emb: Embedding | null
  readonly time_embed: Sequential | null
  readonly in_blocks: ModuleList<UViTBlock>
  readonly mid_block: UViTBlock
  readonly out_blocks: ModuleList<UViTBlock>
  readonly norm: LayerNorm
  readonly options: MaskDMOptions

  constructor(options: MaskDMOptions, init: Init) {
    super()
    checkTransformer('UViTEncoder', options, maskdmKinds, init)
    const { patchSize: P, inChannels: C, hiddenSize: D, depth, numClasses, mlpTimeEmbed = false } = options
    const [rows, columns] = gridOf(options)
    const half = Math.floor(depth / 2)
    const blocks = (skip: boolean) =>
      new ModuleList(Array.from({ length: half }, () => new UViTBlock(options, init, { skip })))
    this.options = options
    this.uncond_embed = numClasses > 0 ? parameter(weight([1, D], init)) : null
    this.encoder_pos_embed = parameter(weight([1, extraTokens(options) + rows * columns, D], init))
    this.patch_embed = new PatchEmbed(P, C, D, init, {}) // PyTorch's defaults, as in U-ViT
    this.label_emb = numClasses > 0 ? new Embedding(numClasses, D, init, normal(1)) : null
    this.time_embed = mlpTimeEmbed
      ? new Sequential([
          new Linear(D, 4 * D, init, { weight }),
          new Activation(silu),
          new Linear(4 * D, D, init, { weight }),
        ])
      : null
    this.in_blocks = blocks(false)
    this.mid_block = new UViTBlock(options, init)
    this.out_blocks = blocks(true)
    this.norm = new LayerNorm(D, init)
  }

  /** As MaskedUViT.patches, → (N, E + K, D). */
  forward(x: Tensor, t: ArrayLike<number>, y: ArrayLike<number> | null, mask: TokenMask | null): Tensor {
    const [N] = x.shape
    const all = patchify(x, this.options.patchSize) // (N, T, C·P·P)
    const visible = mask === null ? all : gatherRows(all, mask.idsKeep) // (N, K, C·P·P)
    const label = this.label_emb === null ? [] : [this.#labelTokens(N, y)]
    const tokens = concat([...label, this.#timeTokens(t), this.patch_embed.project(visible)], 1) // (N, E + K, D)
    let h = add(tokens, this.#positions(mask))
    const skips: Tensor[] = []
    for (const block of this.in_blocks) {
      h = block.forward(h)
      skips.push(h)
    }
    h = this.mid_block.forward(h)
    for (const block of this.out_blocks) h = block.forward(h, skips.pop())
    return this.norm.forward(h)
  }

  /** (N, 1, D) */
  #timeTokens(t: ArrayLike<number>): Tensor {
    const { dtype, backend, shape } = this.encoder_pos_embed
    const D = shape[2]
    const sinusoids = tensor(timestepEmbedding(t, D), { shape: [t.length, 1, D], dtype, backend })
    return this.time_embed === null ? sinusoids : this.time_embed.forward(sinusoids)
  }

  /** (N, 1, D) */
  #labelTokens(N: number, y: ArrayLike<number> | null): Tensor {
    const { backend } = this.encoder_pos_embed
    // Without labels the table has one row, which all of the batch get.
    const table = y === null ? this.uncond_embed! : this.label_emb!.weight // (1 or V, D)
    const ids = y === null ? new Int32Array(N) : Int32Array.from(y)
    return embedding(table, tensor(ids, { shape: [N, 1], dtype: 'i32', backend }))
  }

  /** Positions of extra tokens and visible patches: (1, E + T, D), or with a mask (N, E + K, D). */
  #positions(mask: TokenMask | null): Tensor {
    const { encoder_pos_embed: positions } = this
    if (mask === null) return positions
    const [, rows, D] = positions.shape
    const [[N, K], E] = [mask.idsKeep.shape, extraTokens(this.options)]
    const ids = Int32Array.from({ length: N * (E + K) }, (_, i) => {
      const [n, token] = [Math.floor(i / (E + K)), i % (E + K)]
      return token < E ? token : E + mask.hostIdsKeep[n * K + token - E]
    })
    const { backend } = positions
    return embedding(reshape(positions, [rows, D]), tensor(ids, { shape: [N, E + K], dtype: 'i32', backend }))
  }
}

/** The network as it is trained, saved and sampled. */
export class MaskedUViT extends Module {
  readonly encoder: UViTEncoder
  readonly encoder_to_output: Linear
  readonly options: MaskDMOptions

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: MaskDMOptions, init: Init) {
    super()
    checkTransformer('MaskedUViT', options, maskdmKinds, init)
    checkSizes('MaskDM', options)
    const { patchSize: P, inChannels: C, hiddenSize: D } = options
    this.options = options
    this.encoder = new UViTEncoder(options, init)
    this.encoder_to_output = new Linear(D, P * P * C, init, { weight })
  }

  /**
   * x (N, C, H, W); t: N timesteps; y: N labels in [0, numClasses), or null for none → (N, C, H, W). Throws ShapeError
   * and RangeError.
   */
  forward(x: Tensor, t: ArrayLike<number>, y: ArrayLike<number> | null = null): Tensor {
    const { patchSize, inputSize } = this.options
    return unpatchify(this.patches(x, t, y, null), patchSize, [inputSize, inputSize]) // (N, C, H, W)
  }

  /**
   * The same for the patches that a mask keeps (all, where it is null), in the mask's order; each as `unpatchify` reads
   * one: (N, K, P·P·C). Only those patches of x are looked at. [MaskDM §3.2] Throws as `forward`.
   */
  patches(x: Tensor, t: ArrayLike<number>, y: ArrayLike<number> | null, mask: TokenMask | null): Tensor {
    checkInput('MaskDM', x, this.options)
    this.#check(x.shape[0], t, y, mask)
    const tokens = this.encoder.forward(x, t, y, mask) // (N, E + K, D)
    return this.encoder_to_output.forward(slice(tokens, 1, extraTokens(this.options))) // (N, K, P·P·C)
  }

  #check(N: number, t: ArrayLike<number>, y: ArrayLike<number> | null, mask: TokenMask | null): void {
    const { numClasses } = this.options
    const [rows, columns] = gridOf(this.options)
    if (t.length !== N) throw new ShapeError(`MaskDM: expected a timestep for each of ${N} pictures, got ${t.length}`)
    if (mask !== null && (mask.mask.shape[0] !== N || mask.mask.shape[1] !== rows * columns))
      throw new ShapeError(`MaskDM: expected a mask [${N}, ${rows * columns}], got [${mask.mask.shape.join(', ')}]`)
    if (y === null) return
    if (y.length !== N) throw new ShapeError(`MaskDM: expected a label for each of ${N} pictures, got ${y.length}`)
    if (numClasses === 0)
      throw atCaller(new RangeError('MaskDM: expected no labels, as the model has no classes, got some'))
    const bad = Array.from(y).find(label => !Number.isInteger(label) || label < 0 || label >= numClasses)
    if (bad !== undefined)
      throw atCaller(new RangeError(`MaskDM: labels: expected integers in [0, ${numClasses - 1}], got ${bad}`))
  }
}
