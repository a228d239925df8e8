/**
 * Blocks of the encoder and decoder of autoencoder-kl.ts: residual blocks, attention over all pixels, and resampling
 * by two, with diffusers' parameter names. Intermediates are freed once the next layer has read them (under a recording
 * the tape keeps those that gradients need). Without a recording a convolution is computed in strips, so its columns are
 * never in memory as a whole.
 */

import {
  add,
  type ConvOptions,
  concat,
  conv2d,
  gradEnabled,
  interpolate,
  linear,
  reshape,
  scope,
  selfAttention,
  silu,
  slice,
  type Tensor,
  transpose,
} from '../core/index.ts'
import { Conv2d, type Conv2dOptions, GroupNorm, type Init, Layer, Linear, ModuleList, uniform } from '../nn/index.ts'

/** Of every group norm; PyTorch's own default is 1e-5. */
const eps = 1e-6

/** Elements of the columns of one strip of a convolution at most, unless a single row has more. */
const stripElements = 1 << 22

/** The steps one after the other. What a step returns is freed when the next has read it; `x` is the caller's. */
export function through(x: Tensor, ...steps: readonly ((x: Tensor) => Tensor)[]): Tensor {
  let y = x
  for (const step of steps) {
    const next = scope(() => step(y))
    if (y !== x) y.dispose()
    y = next
  }
  return y
}

/** The steps of a pre-activation: group norm, SiLU, convolution. */
export function activated(norm: GroupNorm, conv: Conv2d): ((x: Tensor) => Tensor)[] {
  return [x => norm.forward(x), silu, x => conv.forward(x)]
}

/** Group norm with affine parameters, eps 1e-6. */
export function groupNormOf(groups: number, C: number, init: Init): GroupNorm {
  return new GroupNorm(groups, C, init, { eps })
}

/** A convolution whose columns are not all there at once, unless it is recorded: the same numbers in less memory. */
export class StripConv2d extends Conv2d {
  readonly #window: Required<ConvOptions>

  constructor(inChannels: number, outChannels: number, k: number, init: Init, options: Conv2dOptions = {}) {
    super(inChannels, outChannels, k, init, options)
    this.#window = { stride: 1, padding: 0, ...this.options }
  }

  /** x (N, C, H, W) → (N, out, H', W'). Throws ShapeError. */
  override forward(x: Tensor): Tensor {
    return scope(() => (gradEnabled() ? super.forward(x) : this.#inStrips(x)))
  }

  #inStrips(x: Tensor): Tensor {
    const { weight, bias } = this
    const { stride, padding } = this.#window
    const [top, bottom, left, right] = typeof padding === 'number' ? [padding, padding, padding, padding] : padding
    const [N, C, H, W] = x.shape
    const k = weight.shape[2]
    const rows = Math.floor((H + top + bottom - k) / stride) + 1
    const columns = Math.floor((W + left + right - k) / stride) + 1
    const perStrip = Math.max(1, Math.floor(stripElements / (N * C * k * k * columns)))
    if (!(rows > perStrip)) return super.forward(x)
    const strips: Tensor[] = []
    for (let row = 0; row < rows; row += perStrip) {
      // The rows of x that these rows of the result see; where they lie outside of x they are padding.
      const first = row * stride - top
      const end = (Math.min(row + perStrip, rows) - 1) * stride - top + k
      const border = [Math.max(-first, 0), Math.max(end - H, 0), left, right] as const
      const seen = () => slice(x, 2, Math.max(first, 0), Math.min(end, H)) // (N, C, rows seen, W)
      strips.push(scope(() => conv2d(seen(), weight, bias, { stride, padding: border })))
    }
    return concat(strips, 2) // (N, out, H', W')
  }
}

/** A 3×3 convolution that keeps height and width. */
export function conv3(inChannels: number, outChannels: number, init: Init): StripConv2d {
  return new StripConv2d(inChannels, outChannels, 3, init, { padding: 1 })
}

/** x + conv(silu(norm(conv(silu(norm(x)))))), with a 1×1 convolution of x where the channels change. */
export class ResnetBlock extends Layer {
  readonly norm1: GroupNorm
  readonly conv1: Conv2d
  readonly norm2: GroupNorm
  readonly conv2: Conv2d
  readonly conv_shortcut: Conv2d | null

  constructor(inChannels: number, outChannels: number, groups: number, init: Init) {
    super()
    this.norm1 = groupNormOf(groups, inChannels, init)
    this.conv1 = conv3(inChannels, outChannels, init)
    this.norm2 = groupNormOf(groups, outChannels, init)
    this.conv2 = conv3(outChannels, outChannels, init)
    this.conv_shortcut = inChannels === outChannels ? null : new StripConv2d(inChannels, outChannels, 1, init)
  }

  /** x (N, C, H, W) → (N, out, H, W) */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const y = through(x, ...activated(this.norm1, this.conv1), ...activated(this.norm2, this.conv2)) // (N, out, H, W)
      return add(this.conv_shortcut?.forward(x) ?? x, y)
    })
  }
}

/** Self-attention between all pixels, of a single head as wide as there are channels, with a residual. */
export class AttentionBlock extends Layer {
  readonly group_norm: GroupNorm
  readonly to_q: Linear
  readonly to_k: Linear
  readonly to_v: Linear
  readonly to_out: ModuleList<Linear>

  constructor(C: number, groups: number, init: Init) {
    super()
    const first = uniform(1 / Math.sqrt(C)) // PyTorch's defaults, as diffusers leaves them
    const projection = () => new Linear(C, C, init, { weight: first, bias: first })
    this.group_norm = groupNormOf(groups, C, init)
    this.to_q = projection()
    this.to_k = projection()
    this.to_v = projection()
    this.to_out = new ModuleList([projection()])
  }

  /** x (N, C, H, W) → (N, C, H, W) */
  forward(x: Tensor): Tensor {
    const [N, C, H, W] = x.shape
    const parts = [this.to_q, this.to_k, this.to_v]
    const [out] = this.to_out
    return scope(() => {
      const weight = concat([...parts.map(part => part.weight)], 0) // (3C, C)
      const bias = concat([...parts.map(part => part.bias!)], 0) // (3C)
      const tokens = transpose(reshape(this.group_norm.forward(x), [N, C, H * W])) // (N, T, C)
      const y = out.forward(selfAttention(linear(tokens, weight, bias), null, 1)) // (N, T, C)
      return add(x, reshape(transpose(y), [N, C, H, W]))
    })
  }
}

/** Two residual blocks with attention between them, at the lowest resolution. */
export class MidBlock extends Layer {
  readonly attentions: ModuleList<AttentionBlock>
  readonly resnets: ModuleList<ResnetBlock>

  constructor(C: number, groups: number, init: Init) {
    super()
    this.attentions = new ModuleList([new AttentionBlock(C, groups, init)])
    this.resnets = new ModuleList([new ResnetBlock(C, C, groups, init), new ResnetBlock(C, C, groups, init)])
  }

  /** x (N, C, H, W) → (N, C, H, W) */
  forward(x: Tensor): Tensor {
    const [[attention], [first, second]] = [this.attentions, this.resnets]
    return through(
      x,
      h => first.forward(h),
      h => attention.forward(h),
      h => second.forward(h),
    )
  }
}

/** Half the height and width. The padding is to the right and at the bottom only. */
export class Downsampler extends Layer {
  readonly conv: Conv2d

  constructor(C: number, init: Init) {
    super()
    this.conv = new StripConv2d(C, C, 3, init, { stride: 2, padding: [0, 1, 0, 1] })
  }

  /** x (N, C, H, W) → (N, C, ⌊H/2⌋, ⌊W/2⌋) */
  forward(x: Tensor): Tensor {
    return this.conv.forward(x)
  }
}

/** Twice the height and width: every pixel becomes four, then a convolution. */
export class Upsampler extends Layer {
  readonly conv: Conv2d

  constructor(C: number, init: Init) {
    super()
    this.conv = conv3(C, C, init)
  }

  /** x (N, C, H, W) → (N, C, 2H, 2W) */
  forward(x: Tensor): Tensor {
    const [, , H, W] = x.shape
    return through(
      x,
      h => interpolate(h, [2 * H, 2 * W], 'nearest'), // (N, C, 2H, 2W)
      h => this.conv.forward(h),
    )
  }
}

/** A row of residual blocks, of which the first changes the channels. */
export function resnetsOf(
  count: number,
  [inChannels, outChannels]: readonly [number, number],
  groups: number,
  init: Init,
): ModuleList<ResnetBlock> {
  return new ModuleList(
    Array.from(
      { length: count },
      (_, i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels, groups, init),
    ),
  )
}

/** Residual blocks at one resolution of the encoder, then the way down to the next. */
export class DownBlock extends Layer {
  readonly resnets: ModuleList<ResnetBlock>
  readonly downsamplers: ModuleList<Downsampler> | null

  constructor(resnets: ModuleList<ResnetBlock>, downsampler: Downsampler | null) {
    super()
    this.resnets = resnets
    this.downsamplers = downsampler && new ModuleList([downsampler])
  }

  /** x (N, C, H, W) → (N, out, H/2, W/2), or (N, out, H, W) at the lowest resolution */
  forward(x: Tensor): Tensor {
    return through(x, ...[...this.resnets, ...(this.downsamplers ?? [])].map(layer => (h: Tensor) => layer.forward(h)))
  }
}

/** Residual blocks at one resolution of the decoder, then the way up to the next. */
export class UpBlock extends Layer {
  readonly resnets: ModuleList<ResnetBlock>
  readonly upsamplers: ModuleList<Upsampler> | null

  constructor(resnets: ModuleList<ResnetBlock>, upsampler: Upsampler | null) {
    super()
    this.resnets = resnets
    this.upsamplers = upsampler && new ModuleList([upsampler])
  }

  /** x (N, C, H, W) → (N, out, 2H, 2W), or (N, out, H, W) at the highest resolution */
  forward(x: Tensor): Tensor {
    return through(x, ...[...this.resnets, ...(this.upsamplers ?? [])].map(layer => (h: Tensor) => layer.forward(h)))
  }
}
