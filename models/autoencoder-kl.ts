/**
 * The autoencoder of latent diffusion [LDM §3.1]: an encoder to a diagonal Gaussian over latents of a lower resolution,
 * and a decoder back to pictures. DiT, MDT and MaskDiT are trained on the latents of Stable Diffusion's. Parameters are
 * named as in diffusers, so its published weights load as they are, those with older names of the attention too. Leaves
 * out the perceptual and adversarial losses that those weights were trained with. Its blocks are autoencoder-kl-blocks.ts.
 */

import { aCount, aFiniteNumber, check, checkFloats, checkOptions, numbers } from '../core/arguments.ts'
import {
  add,
  affine,
  clamp,
  div,
  exp,
  mul,
  noGrad,
  reshape,
  type Shape,
  ShapeError,
  scope,
  split,
  square,
  sub,
  sum,
  Tensor,
} from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import {
  Conv2d,
  type GroupNorm,
  type HostState,
  type Init,
  Layer,
  Module,
  ModuleList,
  type StateSource,
} from '../nn/index.ts'
import { checkInit } from '../nn/layer-arguments.ts'
import {
  activated,
  conv3,
  DownBlock,
  Downsampler,
  groupNormOf,
  MidBlock,
  resnetsOf,
  through,
  UpBlock,
  Upsampler,
} from './autoencoder-kl-blocks.ts'

export interface AutoencoderKLOptions {
  /** Channels of the pictures. Default 3. */
  readonly inChannels?: number
  /** Channels of the decoded pictures. Default 3. */
  readonly outChannels?: number
  readonly latentChannels: number
  /** Channels at each resolution, the highest first: each but the last halves height and width. */
  readonly blockOutChannels: readonly number[]
  /** Residual blocks at each resolution of the encoder; the decoder has one more. */
  readonly layersPerBlock: number
  /** Groups of every group norm; must divide all of `blockOutChannels`. */
  readonly normGroups: number
  /** Factor of latents that makes their standard deviation about 1. Default 0.18215, Stable Diffusion's. */
  readonly scalingFactor?: number
}

const autoencoderKinds = {
  inChannels: aCount,
  outChannels: aCount,
  latentChannels: aCount,
  blockOutChannels: numbers,
  layersPerBlock: aCount,
  normGroups: aCount,
  scalingFactor: aFiniteNumber,
}

/** Throws TypeError unless the options of an autoencoder are of their kinds, and none is missing or unknown. */
export function checkAutoencoder(op: string, options: AutoencoderKLOptions): void {
  checkOptions(op, options, autoencoderKinds)
  for (const name of ['latentChannels', 'layersPerBlock', 'normGroups'] as const) check(op, name, options[name], aCount)
  check(op, 'blockOutChannels', options.blockOutChannels, numbers)
}

/** sd-vae-ft-mse and sd-vae-ft-ema: 83,653,863 parameters, latents of 4 channels at an eighth of height and width. */
export const stableDiffusionVae: AutoencoderKLOptions = {
  latentChannels: 4,
  blockOutChannels: [128, 256, 512, 512],
  layersPerBlock: 2,
  normGroups: 32,
}

/** N(mean, diag(exp(logvar))): what the encoder makes of a picture. [LDM §3.1] */
export class DiagonalGaussian {
  /** (N, C, h, w) */
  readonly mean: Tensor
  /** (N, C, h, w), in [−30, 20] */
  readonly logvar: Tensor

  /** moments (N, 2C, h, w): means, then logarithms of variances. Throws ShapeError on an odd number of channels. */
  constructor(moments: Tensor) {
    checkFloats('DiagonalGaussian', { moments })
    if (moments.shape.length !== 4 || moments.shape[1] % 2 !== 0)
      throw new ShapeError(`DiagonalGaussian: expected moments [N, 2·C, h, w], got [${moments.shape.join(', ')}]`)
    const [mean, logvar] = split(moments, 2, 1) // (N, C, h, w) each
    this.mean = mean
    this.logvar = clamp(logvar, -30, 20)
  }

  /** Standard deviation, (N, C, h, w). */
  std(): Tensor {
    return exp(mul(this.logvar, 0.5))
  }

  /** mean + std ⊙ noise; noise (N, C, h, w), standard normal. */
  sample(noise: Tensor): Tensor {
    return add(this.mean, mul(this.std(), noise))
  }

  /** KL(this ‖ N(0, 1)) per picture, in nats: ½ Σ (mean² + var − 1 − logvar), (N). */
  kl(): Tensor {
    const { mean, logvar } = this
    const perElement = sub(add(square(mean), exp(logvar)), affine(logvar, 1, 1)) // (N, C, h, w)
    return mul(sum(perElement, [1, 2, 3]), 0.5) // (N)
  }
}

/** Pictures to moments, before `quant_conv`. */
export class Encoder extends Layer {
  readonly conv_in: Conv2d
  readonly down_blocks: ModuleList<DownBlock>
  readonly mid_block: MidBlock
  readonly conv_norm_out: GroupNorm
  readonly conv_out: Conv2d

  constructor(options: AutoencoderKLOptions, init: Init) {
    super()
    const { inChannels = 3, latentChannels, blockOutChannels: widths, layersPerBlock, normGroups } = options
    const lowest = widths.length - 1
    this.conv_in = conv3(inChannels, widths[0], init)
    this.down_blocks = new ModuleList(
      widths.map((C, i) => {
        const resnets = resnetsOf(layersPerBlock, [widths[Math.max(i - 1, 0)], C], normGroups, init)
        return new DownBlock(resnets, i < lowest ? new Downsampler(C, init) : null)
      }),
    )
    this.mid_block = new MidBlock(widths[lowest], normGroups, init)
    this.conv_norm_out = groupNormOf(normGroups, widths[lowest], init)
    this.conv_out = conv3(widths[lowest], 2 * latentChannels, init)
  }

  /** x (N, C, H, W) in [−1, 1] → (N, 2·latents, h, w) */
  forward(x: Tensor): Tensor {
    return through(
      x,
      h => this.conv_in.forward(h),
      ...[...this.down_blocks, this.mid_block].map(block => (h: Tensor) => block.forward(h)),
      activated(this.conv_norm_out, this.conv_out),
    )
  }
}

/** Latents, after `post_quant_conv`, to pictures. */
export class Decoder extends Layer {
  readonly conv_in: Conv2d
  readonly up_blocks: ModuleList<UpBlock>
  readonly mid_block: MidBlock
  readonly conv_norm_out: GroupNorm
  readonly conv_out: Conv2d

  constructor(options: AutoencoderKLOptions, init: Init) {
    super()
    const { outChannels = 3, latentChannels, blockOutChannels, layersPerBlock, normGroups } = options
    const widths = [...blockOutChannels].reverse() // from the lowest resolution up
    const highest = widths.length - 1
    this.conv_in = conv3(latentChannels, widths[0], init)
    this.up_blocks = new ModuleList(
      widths.map((C, i) => {
        const resnets = resnetsOf(layersPerBlock + 1, [widths[Math.max(i - 1, 0)], C], normGroups, init)
        return new UpBlock(resnets, i < highest ? new Upsampler(C, init) : null)
      }),
    )
    this.mid_block = new MidBlock(widths[0], normGroups, init)
    this.conv_norm_out = groupNormOf(normGroups, widths[highest], init)
    this.conv_out = conv3(widths[highest], outChannels, init)
  }

  /** z (N, latents, h, w) → (N, C, H, W) */
  forward(z: Tensor): Tensor {
    return through(
      z,
      h => this.conv_in.forward(h),
      h => this.mid_block.forward(h),
      ...[...this.up_blocks].map(block => (h: Tensor, owned: boolean) => block.forward(h, owned)),
      activated(this.conv_norm_out, this.conv_out),
    )
  }
}

/** Encoder, decoder and the 1×1 convolutions between them. Call it under `noGrad` where no gradient is wanted. */
export class AutoencoderKL extends Module {
  readonly encoder: Encoder
  readonly decoder: Decoder
  readonly quant_conv: Conv2d
  readonly post_quant_conv: Conv2d
  readonly options: AutoencoderKLOptions
  readonly scalingFactor: number

  /** Throws RangeError on channels that do not divide into groups. */
  constructor(options: AutoencoderKLOptions, init: Init) {
    super()
    checkAutoencoder('AutoencoderKL', options)
    checkInit('AutoencoderKL', init)
    const { latentChannels, blockOutChannels, normGroups, scalingFactor = 0.18215 } = options
    const odd = blockOutChannels.find(C => C % normGroups !== 0)
    if (blockOutChannels.length === 0 || odd !== undefined)
      throw atCaller(
        new RangeError(
          `AutoencoderKL: expected channels divisible into ${normGroups} groups at one resolution or more, got ${odd ?? 'none'}`,
        ),
      )
    this.encoder = new Encoder(options, init)
    this.decoder = new Decoder(options, init)
    this.quant_conv = new Conv2d(2 * latentChannels, 2 * latentChannels, 1, init)
    this.post_quant_conv = new Conv2d(latentChannels, latentChannels, 1, init)
    this.options = options
    this.scalingFactor = scalingFactor
  }

  /** Ratio of a picture's side to its latent's side. */
  get downsampling(): number {
    return 2 ** (this.options.blockOutChannels.length - 1)
  }

  /** x (N, C, H, W) in [−1, 1] → moments (N, 2·latents, h, w), as `DiagonalGaussian` reads them. Throws ShapeError. */
  moments(x: Tensor): Tensor {
    const { inChannels = 3 } = this.options
    checkImage('encode', x.shape, inChannels, this.downsampling)
    return through(
      x,
      h => this.encoder.forward(h),
      h => this.quant_conv.forward(h),
    )
  }

  /** The distribution of latents of x (N, C, H, W), not yet scaled. Throws ShapeError. */
  encode(x: Tensor): DiagonalGaussian {
    return new DiagonalGaussian(this.moments(x))
  }

  /** z (N, latents, h, w), not scaled → pictures (N, C, H, W) of about [−1, 1]. Throws ShapeError. */
  decode(z: Tensor): Tensor {
    checkImage('decode', z.shape, this.options.latentChannels, 1)
    return through(
      z,
      h => this.post_quant_conv.forward(h),
      h => this.decoder.forward(h),
    )
  }

  /** Returns a scaled sample of the posterior, on which diffusion models train. noise (N, latents, h, w). */
  latents(x: Tensor, noise: Tensor): Tensor {
    return scope(() => mul(this.encode(x).sample(noise), this.scalingFactor))
  }

  /** Decodes scaled latents of a diffusion model: z (N, latents, h, w) → pictures (N, C, H, W). */
  pictures(latents: Tensor): Tensor {
    return scope(() => this.decode(div(latents, this.scalingFactor)))
  }

  /** As Module's; the names and shapes that diffusers once gave the attention's layers are understood too. */
  override loadStateDict(source: StateSource, options: { readonly strict?: boolean } = {}): void {
    noGrad(() => scope(() => super.loadStateDict(withCurrentNames(source), options)))
  }
}

function checkImage(what: string, shape: Shape, channels: number, least: number): void {
  if (shape.length === 4 && shape[1] === channels && Math.min(shape[2], shape[3]) >= least) return
  const sides = least > 1 ? `, H and W at least ${least}` : ''
  throw new ShapeError(`AutoencoderKL: ${what}: expected [N, ${channels}, H, W]${sides}, got [${shape.join(', ')}]`)
}

const formerNames: Readonly<Record<string, string>> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
}

/** Attention's layers were `query`, …, `proj_attn` once, and before that 1×1 convolutions: (C, C, 1, 1) for (C, C). */
function withCurrentNames(source: StateSource): StateSource {
  const renamed = new Map<string, Tensor | HostState>()
  for (const [name, value] of source) {
    const current = name.replace(/(?<=\.attentions\.\d+\.)\w+(?=\.(?:weight|bias)$)/, part => formerNames[part] ?? part)
    const isProjection = /\.attentions\.\d+\.to_(?:[qkv]|out\.0)\.weight$/.test(current)
    const { shape } = value
    const isConv = isProjection && shape.length === 4 && shape[2] === 1 && shape[3] === 1
    renamed.set(current, isConv ? matrixOf(value) : value)
  }
  return renamed
}

function matrixOf(value: Tensor | HostState): Tensor | HostState {
  const shape = value.shape.slice(0, 2)
  return value instanceof Tensor ? reshape(value, shape) : { shape, data: value.data }
}
