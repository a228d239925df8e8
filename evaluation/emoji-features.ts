/**
 * A small network that tells the categories of emoji apart, trained by bench/evidence/train-features.ts: features for measuring
 * pictures where Inception's weights are not at hand. Distances of its features are not FID, are not comparable with any
 * published number, and are named for what they are wherever they are printed.
 */

import { check, numbers } from '../core/arguments.ts'
import {
  add,
  interpolate,
  mean,
  noGrad,
  permute,
  reshape,
  ShapeError,
  scope,
  silu,
  slice,
  type Tensor,
} from '../core/index.ts'
import { Conv2d, GroupNorm, type Init, Layer, Linear, Module, normal } from '../nn/index.ts'
import { checkLayer } from '../nn/layer-arguments.ts'
import type { FeatureNetwork, PictureFeatures } from './index.ts'

const groups = 8

/** silu(norm(conv(x))): 3 × 3, at half the height and width with stride 2. */
class ConvUnit extends Layer {
  readonly conv: Conv2d
  readonly norm: GroupNorm

  constructor(inChannels: number, outChannels: number, stride: number, init: Init) {
    super()
    const weight = normal(Math.sqrt(2 / (9 * inChannels)))
    this.conv = new Conv2d(inChannels, outChannels, 3, init, { stride, padding: 1, bias: false, weight })
    this.norm = new GroupNorm(groups, outChannels, init)
  }

  forward(x: Tensor): Tensor {
    return scope(() => silu(this.norm.forward(this.conv.forward(x))))
  }
}

/** x + unit(unit(x)) */
class Residual extends Layer {
  readonly first: ConvUnit
  readonly second: ConvUnit

  constructor(C: number, init: Init) {
    super()
    this.first = new ConvUnit(C, C, 1, init)
    this.second = new ConvUnit(C, C, 1, init)
  }

  forward(x: Tensor): Tensor {
    return scope(() => add(x, this.second.forward(this.first.forward(x))))
  }
}

const widths = [32, 64, 128] as const
/** Number of channels and side of the spatial features, as in sFID. */
const [spatialChannels, spatialSide] = [7, 8]

/** 32 × 32 → 16 × 16 → 8 × 8, or half of that, then one number per channel. */
export class EmojiFeatures extends Module implements FeatureNetwork {
  readonly stem: ConvUnit
  readonly down1: ConvUnit
  readonly block1: Residual
  readonly down2: ConvUnit
  readonly block2: Residual
  readonly fc: Linear
  readonly #sides: readonly number[]

  /** `sides` are those of the pictures that it is trained on, rising; others are resized to the last. */
  constructor(classes: number, init: Init, sides: readonly number[] = [32]) {
    super()
    checkLayer('EmojiFeatures', { classes }, init)
    check('EmojiFeatures', 'sides', sides, numbers)
    this.#sides = sides
    this.stem = new ConvUnit(3, widths[0], 1, init)
    this.down1 = new ConvUnit(widths[0], widths[1], 2, init)
    this.block1 = new Residual(widths[1], init)
    this.down2 = new ConvUnit(widths[1], widths[2], 2, init)
    this.block2 = new Residual(widths[2], init)
    this.fc = new Linear(widths[2], classes, init)
  }

  /**
   * x (N, 3, H, W) in [−1, 1], of any size → `pool` (N, 128), `spatial` (N, 448), height by width by channel, and `logits`
   * (N, classes). Throws ShapeError.
   */
  forward(x: Tensor): PictureFeatures<Tensor> {
    const [N, C, H, W] = x.shape
    if (x.shape.length !== 4 || C !== 3)
      throw new ShapeError(`EmojiFeatures: expected pictures [N, 3, H, W], got [${x.shape.join(', ')}]`)
    return scope(() => {
      const S = H === W && this.#sides.includes(H) ? H : this.#sides.at(-1)!
      const seen = H === S && W === S ? x : interpolate(x, [S, S], 'bilinear') // (N, 3, S, S)
      const half = this.block1.forward(this.down1.forward(this.stem.forward(seen))) // (N, 64, S / 2, S / 2)
      const quarter = this.block2.forward(this.down2.forward(half)) // (N, 128, S / 4, S / 4)
      const pool = mean(quarter, [2, 3]) // (N, 128)
      const some = slice(quarter, 1, 0, spatialChannels)
      const sized = S / 4 === spatialSide ? some : interpolate(some, [spatialSide, spatialSide], 'bilinear')
      const spatial = permute(sized, [0, 2, 3, 1]) // (N, 8, 8, 7)
      return { pool, spatial: reshape(spatial, [N, -1]), logits: this.fc.forward(pool) }
    })
  }

  /** As `forward`, of x (N, C, H, W), not recorded. */
  features(x: Tensor): PictureFeatures<Tensor> {
    return noGrad(() => this.forward(x))
  }
}
