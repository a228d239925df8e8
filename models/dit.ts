/**
 * DiT, the diffusion transformer [DiT §3]: patches of the noised picture become tokens, timestep and label become one
 * vector c, and every block is steered by c through adaLN-Zero. At first every block is the identity and the output 0.
 * Labels are dropped before `forward` (dropLabels of nn/label-embedder.ts), guidance is diffusion/guidance.ts. Leaves
 * out the in-context and cross-attention variants that the paper compares with.
 */

import {
  aBoolean,
  aCount,
  aFiniteNumber,
  anObject,
  check,
  checkFloats,
  numbers,
  optional,
  orNull,
} from '../core/arguments.ts'
import { adaLayerNorm, add, gatedResidual, ShapeError, scope, type Tensor } from '../core/index.ts'
import { show } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import {
  Attention,
  constantZero,
  frozen,
  type Grid,
  given,
  type Init,
  type Initializer,
  LabelEmbedder,
  Linear,
  Mlp,
  Modulation,
  Module,
  ModuleList,
  PatchEmbed,
  sinCos2d,
  TimestepEmbedder,
  unpatchify,
} from '../nn/index.ts'
import { checkLayer } from '../nn/layer-arguments.ts'
import { checkTransformer, transformerKinds } from './arguments.ts'

/** Sizes of DiT and MDT. Pictures are square. */
export interface TransformerOptions {
  /** H = W of the picture (or latent): a multiple of `patchSize`. */
  readonly inputSize: number
  /** P */
  readonly patchSize: number
  /** C */
  readonly inChannels: number
  /** D: a multiple of 4 and of `numHeads`. */
  readonly hiddenSize: number
  /** Number of blocks. */
  readonly depth: number
  /** h */
  readonly numHeads: number
  /** 0 for pictures without labels. */
  readonly numClasses: number
  /** Width of the MLPs over D. Default 4. */
  readonly mlpRatio?: number
  /** How often training drops a label. Above 0, label `numClasses` means 'no label'. Default 0.1. */
  readonly classDropoutProb?: number
  /** True if the output has C more channels, for the variance. Default true. */
  readonly learnSigma?: boolean
}

/** The layer norms of DiT and MDT have no parameters of their own: the condition gives them. */
export const eps = 1e-6

/** Throws RangeError on options that fit no model; what layers check themselves is left to them. */
export function checkSizes(model: string, options: TransformerOptions): void {
  const { inputSize, patchSize, depth, hiddenSize, numHeads, numClasses } = options
  const wanted = (what: string, ok: boolean, got: number) => {
    if (!ok) throw atCaller(new RangeError(`${model}: expected ${what}, got ${got}`))
  }
  wanted('patchSize: an integer from 1', Number.isInteger(patchSize) && patchSize >= 1, patchSize)
  wanted(`inputSize: a multiple of patchSize ${patchSize}`, inputSize > 0 && inputSize % patchSize === 0, inputSize)
  wanted('depth: an integer from 1', Number.isInteger(depth) && depth >= 1, depth)
  const isDivided = Number.isInteger(numHeads) && numHeads >= 1 && hiddenSize % numHeads === 0
  wanted(`a width divisible by ${numHeads} heads`, isDivided, hiddenSize)
  wanted('numClasses: an integer from 0', Number.isInteger(numClasses) && numClasses >= 0, numClasses)
}

/** Rows and columns of the tokens. */
export function gridOf({ inputSize, patchSize }: TransformerOptions): Grid {
  return [inputSize / patchSize, inputSize / patchSize]
}

/** An initializer of positions, (1, T, D) sinusoids of a grid. Throws RangeError unless the width D is a multiple of 4. */
export function sinusoids(model: string, D: number, grid: Grid): Initializer {
  if (D % 4 !== 0) throw atCaller(new RangeError(`${model}: expected a width divisible by 4, got ${D}`))
  return given(sinCos2d(D, grid))
}

/** The label table: none where it would have no row. */
export function labelEmbedder(options: TransformerOptions, init: Init): LabelEmbedder | null {
  const { numClasses, hiddenSize, classDropoutProb = 0.1 } = options
  return numClasses > 0 || classDropoutProb > 0
    ? new LabelEmbedder(numClasses, hiddenSize, classDropoutProb, init)
    : null
}

const numbersOrNull = orNull(numbers)

/**
 * c = embedding of t + embedding of y: (N, D). Without y every picture gets the row for 'no label'. Throws RangeError on
 * labels that have no row, and ShapeError when there is not one t, or not one y, per picture.
 */
export function condition(
  op: string,
  model: { readonly t_embedder: TimestepEmbedder; readonly y_embedder: LabelEmbedder | null },
  N: number,
  t: ArrayLike<number>,
  y: ArrayLike<number> | null,
): Tensor {
  const { t_embedder, y_embedder } = model
  check(op, 't', t, numbers)
  check(op, 'y', y, numbersOrNull)
  if (t.length !== N) throw new ShapeError(`${op}: expected a timestep for each of ${N} pictures, got ${t.length}`)
  if (y !== null && y.length !== N)
    throw new ShapeError(`${op}: expected a label for each of ${N} pictures, got ${y.length}`)
  const time = t_embedder.forward(t) // (N, D)
  if (y_embedder === null) {
    if (y !== null) throw atCaller(new RangeError(`${op}: expected no labels, as the model has no classes, got some`))
    return time
  }
  return add(time, y_embedder.forward(y ?? new Int32Array(N).fill(y_embedder.classes)))
}

/** Throws ShapeError unless x is (N, C, H, W) as the model was built for. */
export function checkInput(model: string, x: Tensor, { inChannels, inputSize }: TransformerOptions): void {
  checkFloats(model, { x })
  const [, C, H, W] = x.shape
  if (x.shape.length !== 4 || C !== inChannels || H !== inputSize || W !== inputSize)
    throw new ShapeError(`${model}: expected x [N, ${inChannels}, ${inputSize}, ${inputSize}], got ${show(x.shape)}`)
}

/** Throws TypeError unless the options of a block and `init` are of their kinds, RangeError unless the heads divide the width. */
export function checkBlock(
  block: string,
  options: Pick<TransformerOptions, 'hiddenSize' | 'numHeads' | 'mlpRatio'>,
  init: Init,
): void {
  check(block, 'options', options, anObject)
  const { hiddenSize, numHeads, mlpRatio } = options
  checkLayer(block, { hiddenSize, numHeads }, init)
  check(block, 'mlpRatio', mlpRatio, optional(aFiniteNumber))
  if (hiddenSize % numHeads !== 0)
    throw atCaller(new RangeError(`${block}: expected a width divisible by ${numHeads} heads, got ${hiddenSize}`))
}

/** One transformer block with adaLN-Zero. [DiT §3.2] */
export class DiTBlock extends Module {
  readonly attn: Attention
  readonly mlp: Mlp
  readonly adaLN_modulation: Modulation

  /** The condition has the block's width by default. */
  constructor(
    options: Pick<TransformerOptions, 'hiddenSize' | 'numHeads' | 'mlpRatio'>,
    init: Init,
    conditionSize?: number,
  ) {
    super()
    checkBlock('DiTBlock', options, init)
    check('DiTBlock', 'conditionSize', conditionSize, optional(aCount))
    const { hiddenSize: D, numHeads, mlpRatio = 4 } = options
    this.attn = new Attention(D, numHeads, init)
    this.mlp = new Mlp(D, Math.trunc(D * mlpRatio), init)
    this.adaLN_modulation = new Modulation(conditionSize ?? D, D, 6, init)
  }

  /** x (N, T, D), c (N, conditionSize) → (N, T, D). Frees intermediates on return, except those saved for backward. */
  forward(x: Tensor, c: Tensor): Tensor {
    return scope(() => {
      const [shift1, scale1, gate1, shift2, scale2, gate2] = this.adaLN_modulation.vectors(c)
      const y = gatedResidual(x, gate1, this.attn.forward(adaLayerNorm(x, shift1, scale1, eps)))
      return gatedResidual(y, gate2, this.mlp.forward(adaLayerNorm(y, shift2, scale2, eps)))
    })
  }
}

/** Tokens to patches of the output; begins at 0. [DiT §3.2] */
export class FinalLayer extends Module {
  readonly linear: Linear
  readonly adaLN_modulation: Modulation

  /** The condition has the tokens' width by default. */
  constructor(
    options: Pick<TransformerOptions, 'hiddenSize' | 'patchSize' | 'inChannels' | 'learnSigma'>,
    init: Init,
    conditionSize?: number,
  ) {
    super()
    check('FinalLayer', 'options', options, anObject)
    const { hiddenSize: D, patchSize: P, inChannels: C, learnSigma = true } = options
    checkLayer('FinalLayer', { hiddenSize: D, patchSize: P, inChannels: C }, init)
    check('FinalLayer', 'learnSigma', learnSigma, aBoolean)
    check('FinalLayer', 'conditionSize', conditionSize, optional(aCount))
    this.linear = new Linear(D, P * P * (learnSigma ? 2 * C : C), init, { weight: constantZero })
    this.adaLN_modulation = new Modulation(conditionSize ?? D, D, 2, init)
  }

  /** x (N, T, D), c (N, conditionSize) → (N, T, P·P·Cout) */
  forward(x: Tensor, c: Tensor): Tensor {
    const [shift, scale] = this.adaLN_modulation.vectors(c)
    return this.linear.forward(adaLayerNorm(x, shift, scale, eps))
  }
}

/** The diffusion transformer. [DiT §3] */
export class DiT extends Module {
  /** (1, T, D) sinusoids of the position, not trained. */
  readonly pos_embed: Tensor
  readonly x_embedder: PatchEmbed
  readonly t_embedder: TimestepEmbedder
  readonly y_embedder: LabelEmbedder | null
  readonly blocks: ModuleList<DiTBlock>
  readonly final_layer: FinalLayer
  readonly options: TransformerOptions

  /** Throws RangeError on sizes that do not fit. */
  constructor(options: TransformerOptions, init: Init) {
    super()
    checkTransformer('DiT', options, transformerKinds, init)
    checkSizes('DiT', options)
    const { patchSize, inChannels, hiddenSize: D, depth } = options
    const grid = gridOf(options)
    this.options = options
    this.pos_embed = frozen(sinusoids('DiT', D, grid)([1, grid[0] * grid[1], D], init))
    this.x_embedder = new PatchEmbed(patchSize, inChannels, D, init)
    this.t_embedder = new TimestepEmbedder(D, init)
    this.y_embedder = labelEmbedder(options, init)
    this.blocks = new ModuleList(Array.from({ length: depth }, () => new DiTBlock(options, init)))
    this.final_layer = new FinalLayer(options, init)
  }

  /**
   * x (N, C, H, W); t: N timesteps; y: N labels in [0, numClasses], or null → (N, Cout, H, W), Cout = 2C, or C without
   * learnSigma. Throws ShapeError and RangeError.
   */
  forward(x: Tensor, t: ArrayLike<number>, y: ArrayLike<number> | null = null): Tensor {
    checkInput('DiT', x, this.options)
    const c = this.condition(x.shape[0], t, y) // (N, D)
    let tokens = this.embed(x) // (N, T, D)
    for (const block of this.blocks) tokens = block.forward(tokens, c)
    return this.unpatchify(this.final_layer.forward(tokens, c)) // (N, Cout, H, W)
  }

  /** x (N, C, H, W) → tokens with their positions (N, T, D). Throws ShapeError. */
  embed(x: Tensor): Tensor {
    checkInput('DiT', x, this.options)
    return add(this.x_embedder.forward(x), this.pos_embed)
  }

  /** t and y, one each per picture → c (N, D). Throws as the function of this name. */
  condition(N: number, t: ArrayLike<number>, y: ArrayLike<number> | null): Tensor {
    return condition('DiT', this, N, t, y)
  }

  /** (N, T, P·P·Cout) → (N, Cout, H, W) */
  unpatchify(tokens: Tensor): Tensor {
    const { patchSize, inputSize } = this.options
    return unpatchify(tokens, patchSize, [inputSize, inputSize])
  }
}
