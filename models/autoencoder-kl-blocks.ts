/**
 * Blocks of the encoder and decoder of autoencoder-kl.ts: residual blocks, attention over all pixels, and resampling
 * by two, with diffusers' parameter names. Intermediates are freed once the next layer has read them (under a recording
 * the tape keeps those that gradients need).
 */

import {
  add,
  affine,
  broadcastTo,
  concat,
  conv2d,
  gradEnabled,
  interpolate,
  linear,
  mean,
  mul,
  reshape,
  rsqrt,
  scope,
  selfAttention,
  silu,
  slice,
  split,
  square,
  stack,
  sub,
  type Tensor,
  transpose,
} from '../core/index.ts'
import { Conv2d, GroupNorm, type Init, Layer, Linear, ModuleList, uniform } from '../nn/index.ts'

/** Of every group norm; PyTorch's own default is 1e-5. */
const eps = 1e-6

/** Elements from which a pre-activation is computed in strips, and elements of a strip at most unless a row has more. */
const strips = { from: 1 << 25, elements: 1 << 21 }

/** A step of a network. It may free x as soon as x was read if `owned`, and else leaves x as it is. */
type Step = (x: Tensor, owned: boolean) => Tensor

/** The steps one after the other. What a step returns is freed when the next has read it; `x` is the caller's. */
export function through(x: Tensor, ...steps: readonly Step[]): Tensor {
  return chain(x, false, steps)
}

/** The same from x (…) on, which frees x too if `owned`. */
export function chain(x: Tensor, owned: boolean, steps: readonly Step[]): Tensor {
  let y = x
  let mine = owned
  for (const step of steps) {
    const next = scope(() => step(y, mine))
    if (mine && !y.disposed) y.dispose()
    y = next
    mine = true
  }
  return y
}

/** Returns the step x (N, C, H, W) → (N, out, H, W) of group norm, SiLU and a convolution that keeps height and width. */
export function activated(norm: GroupNorm, conv: Conv2d): Step {
  return (x, owned) =>
    x.size >= strips.from && !gradEnabled()
      ? activatedInStrips(x, norm, conv)
      : chain(x, owned, [h => norm.forward(h), silu, h => conv.forward(h)])
}

/**
 * The same of x (N, C, H, W) for some rows at a time, `elements` of x, so that neither the normalised nor the activated
 * image is in memory as a whole → (N, out, H, W).
 */
export function activatedInStrips(x: Tensor, norm: GroupNorm, conv: Conv2d, elements = strips.elements): Tensor {
  return scope(() => {
    const [N, C, H, W] = x.shape
    const { mean, scale } = statistics(x, norm)
    const shift = reshape(norm.bias, [C, 1, 1])
    const border = (conv.weight.shape[2] - 1) / 2
    const perStrip = Math.max(1, Math.floor(elements / (N * C * W)))
    const parts = Array.from({ length: Math.ceil(H / perStrip) }, (_, i) => {
      const [first, end] = [i * perStrip, Math.min((i + 1) * perStrip, H)]
      const [top, bottom] = [Math.max(first - border, 0), Math.min(end + border, H)]
      const padding = [top - first + border, end + border - bottom, border, border] as const
      return through(
        x,
        h => slice(h, 2, top, bottom), // (N, C, rows seen, W)
        h => sub(h, mean),
        h => mul(h, scale),
        h => add(h, shift),
        silu,
        h => conv2d(h, conv.weight, conv.bias, { padding }), // (N, out, rows, W)
      )
    })
    return concat(parts, 2) // (N, out, H, W)
  })
}

/** Per picture and channel (N, C, 1, 1): the mean of its group, and the norm's weight over the group's deviation. */
function statistics(x: Tensor, { groups, eps, weight }: GroupNorm): { readonly mean: Tensor; readonly scale: Tensor } {
  const [N, C, H, W] = x.shape
  const perGroup = C / groups
  const parts = Array.from({ length: groups }, (_, group) =>
    scope(() => {
      const part = reshape(slice(x, 1, group * perGroup, (group + 1) * perGroup), [N, perGroup * H * W])
      const centre = mean(part, 1, true) // (N, 1)
      const variance = mean(square(sub(part, centre)), 1, true) // (N, 1)
      return concat([centre, rsqrt(affine(variance, 1, eps))], 1) // (N, 2)
    }),
  )
  const all = reshape(stack(parts, 1), [N, groups, 1, 2]) // (N, groups, 1, 2)
  const perChannel = reshape(broadcastTo(all, [N, groups, perGroup, 2]), [N, C, 1, 1, 2])
  const [centre, inverse] = split(perChannel, 2, 4).map(part => reshape(part, [N, C, 1, 1]))
  return { mean: centre, scale: mul(inverse, reshape(weight, [C, 1, 1])) }
}

/** Group norm with affine parameters, eps 1e-6. */
export function groupNormOf(groups: number, C: number, init: Init): GroupNorm {
  return new GroupNorm(groups, C, init, { eps })
}

/** A 3×3 convolution that keeps height and width. */
export function conv3(inChannels: number, outChannels: number, init: Init): Conv2d {
  return new Conv2d(inChannels, outChannels, 3, init, { padding: 1 })
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
    this.conv_shortcut = inChannels === outChannels ? null : new Conv2d(inChannels, outChannels, 1, init)
  }

  /** x (N, C, H, W) → (N, out, H, W); frees x after the last use of it if `owned`. */
  forward(x: Tensor, owned = false): Tensor {
    return scope(() => {
      const hidden = through(x, activated(this.norm1, this.conv1)) // (N, out, H, W)
      const shortcut = this.conv_shortcut?.forward(x) ?? x
      if (owned && shortcut !== x) x.dispose()
      return add(shortcut, chain(hidden, true, [activated(this.norm2, this.conv2)]))
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
    this.conv = new Conv2d(C, C, 3, init, { stride: 2, padding: [0, 1, 0, 1] })
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

  /** x (N, C, H, W) → (N, out, 2H, 2W), or (N, out, H, W) at the highest resolution; frees x early if `owned`. */
  forward(x: Tensor, owned = false): Tensor {
    return chain(x, owned, [
      ...[...this.resnets].map(
        (resnet): Step =>
          (h, mine) =>
            resnet.forward(h, mine),
      ),
      ...[...(this.upsamplers ?? [])].map(
        (upsampler): Step =>
          h =>
            upsampler.forward(h),
      ),
    ])
  }
}
