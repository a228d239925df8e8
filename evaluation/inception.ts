/**
 * Inception v3 [Inception §6] in the variant that FID is computed with: the network of 2015 with 1008 classes, which
 * averages over the pixels that are there rather than over padding, and in its last block takes a maximum instead. Names
 * are those of the published file `pt_inception-2015-12-05-6726825d.pth` (which are torchvision's), so it loads as it is.
 * Leaves out training: batch norm has its moments, and is folded into the convolutions. Next:
 * evaluation/features.ts.
 */

import { checkFloats } from '../core/arguments.ts'
import {
  avgPool2d,
  type ConvOptions,
  concat,
  conv2d,
  interpolate,
  linear,
  maxPool2d,
  mean,
  mul,
  noGrad,
  permute,
  relu,
  reshape,
  ShapeError,
  scope,
  slice,
  type Tensor,
} from '../core/index.ts'
import { BatchNorm, Conv2d, type Init, Layer, Linear, Module, normal, type StateSource } from '../nn/index.ts'
import { checkInit } from '../nn/layer-arguments.ts'
import type { FeatureNetwork, PictureFeatures } from './index.ts'

type Kernel = number | readonly [height: number, width: number]

/** relu(bn(conv(x))), without a bias of its own. */
export class BasicConv2d extends Layer {
  readonly conv: Conv2d
  readonly bn: BatchNorm

  constructor(inChannels: number, outChannels: number, k: Kernel, init: Init, options: ConvOptions = {}) {
    super()
    const [kh, kw] = typeof k === 'number' ? [k, k] : k
    const weight = normal(Math.sqrt(2 / (inChannels * kh * kw)))
    this.conv = new Conv2d(inChannels, outChannels, k, init, { ...options, bias: false, weight })
    this.bn = new BatchNorm(outChannels, init, { eps: 0.001, countsBatches: false })
  }

  /** x (N, C, H, W) → (N, out, H', W') */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const { scale, shift } = this.bn.affine()
      // bn(w ∗ x) = (scale ⊙ w) ∗ x + shift: a pass over the weights instead of two over the result.
      const weight = mul(this.conv.weight, reshape(scale, [-1, 1, 1, 1]))
      return relu(conv2d(x, weight, shift, this.conv.options))
    })
  }
}

/** A convolution that keeps height and width. */
function keeping(inChannels: number, outChannels: number, k: readonly [number, number], init: Init): BasicConv2d {
  const [up, left] = k.map(size => (size - 1) / 2)
  return new BasicConv2d(inChannels, outChannels, k, init, { padding: [up, up, left, left] })
}

function one(inChannels: number, outChannels: number, init: Init): BasicConv2d {
  return new BasicConv2d(inChannels, outChannels, 1, init)
}

/** The layers one after the other. */
function chain(x: Tensor, ...layers: readonly Layer[]): Tensor {
  return scope(() => layers.reduce((y, layer) => layer.forward(y), x))
}

const average = (x: Tensor) => avgPool2d(x, 3, 1, 1)

/** At 35 × 35: 1×1, 5×5, twice 3×3, and an average. */
export class InceptionA extends Layer {
  readonly branch1x1: BasicConv2d
  readonly branch5x5_1: BasicConv2d
  readonly branch5x5_2: BasicConv2d
  readonly branch3x3dbl_1: BasicConv2d
  readonly branch3x3dbl_2: BasicConv2d
  readonly branch3x3dbl_3: BasicConv2d
  readonly branch_pool: BasicConv2d

  constructor(C: number, poolChannels: number, init: Init) {
    super()
    this.branch1x1 = one(C, 64, init)
    this.branch5x5_1 = one(C, 48, init)
    this.branch5x5_2 = keeping(48, 64, [5, 5], init)
    this.branch3x3dbl_1 = one(C, 64, init)
    this.branch3x3dbl_2 = keeping(64, 96, [3, 3], init)
    this.branch3x3dbl_3 = keeping(96, 96, [3, 3], init)
    this.branch_pool = one(C, poolChannels, init)
  }

  /** x (N, C, H, W) → (N, 224 + pool, H, W) */
  forward(x: Tensor): Tensor {
    return scope(() =>
      concat(
        [
          this.branch1x1.forward(x),
          chain(x, this.branch5x5_1, this.branch5x5_2),
          chain(x, this.branch3x3dbl_1, this.branch3x3dbl_2, this.branch3x3dbl_3),
          this.branch_pool.forward(average(x)),
        ],
        1,
      ),
    )
  }
}

/** From 35 × 35 to 17 × 17. */
export class InceptionB extends Layer {
  readonly branch3x3: BasicConv2d
  readonly branch3x3dbl_1: BasicConv2d
  readonly branch3x3dbl_2: BasicConv2d
  readonly branch3x3dbl_3: BasicConv2d

  constructor(C: number, init: Init) {
    super()
    this.branch3x3 = new BasicConv2d(C, 384, 3, init, { stride: 2 })
    this.branch3x3dbl_1 = one(C, 64, init)
    this.branch3x3dbl_2 = keeping(64, 96, [3, 3], init)
    this.branch3x3dbl_3 = new BasicConv2d(96, 96, 3, init, { stride: 2 })
  }

  /** x (N, C, H, W) → (N, 480 + C, H/2, W/2) */
  forward(x: Tensor): Tensor {
    return scope(() =>
      concat(
        [
          this.branch3x3.forward(x),
          chain(x, this.branch3x3dbl_1, this.branch3x3dbl_2, this.branch3x3dbl_3),
          maxPool2d(x, 3, 2),
        ],
        1,
      ),
    )
  }
}

/** At 17 × 17: kernels of 7 × 7 as rows and columns. */
export class InceptionC extends Layer {
  readonly branch1x1: BasicConv2d
  readonly branch7x7_1: BasicConv2d
  readonly branch7x7_2: BasicConv2d
  readonly branch7x7_3: BasicConv2d
  readonly branch7x7dbl_1: BasicConv2d
  readonly branch7x7dbl_2: BasicConv2d
  readonly branch7x7dbl_3: BasicConv2d
  readonly branch7x7dbl_4: BasicConv2d
  readonly branch7x7dbl_5: BasicConv2d
  readonly branch_pool: BasicConv2d

  constructor(C: number, inner: number, init: Init) {
    super()
    this.branch1x1 = one(C, 192, init)
    this.branch7x7_1 = one(C, inner, init)
    this.branch7x7_2 = keeping(inner, inner, [1, 7], init)
    this.branch7x7_3 = keeping(inner, 192, [7, 1], init)
    this.branch7x7dbl_1 = one(C, inner, init)
    this.branch7x7dbl_2 = keeping(inner, inner, [7, 1], init)
    this.branch7x7dbl_3 = keeping(inner, inner, [1, 7], init)
    this.branch7x7dbl_4 = keeping(inner, inner, [7, 1], init)
    this.branch7x7dbl_5 = keeping(inner, 192, [1, 7], init)
    this.branch_pool = one(C, 192, init)
  }

  /** x (N, C, H, W) → (N, 768, H, W) */
  forward(x: Tensor): Tensor {
    const [d1, d2, d3, d4, d5] = [
      this.branch7x7dbl_1,
      this.branch7x7dbl_2,
      this.branch7x7dbl_3,
      this.branch7x7dbl_4,
      this.branch7x7dbl_5,
    ]
    return scope(() =>
      concat(
        [
          this.branch1x1.forward(x),
          chain(x, this.branch7x7_1, this.branch7x7_2, this.branch7x7_3),
          chain(x, d1, d2, d3, d4, d5),
          this.branch_pool.forward(average(x)),
        ],
        1,
      ),
    )
  }

  /** The first branch alone: ADM's `mixed_6/conv`, of which sFID takes channels. x (N, C, H, W) → (N, 192, H, W) */
  firstBranch(x: Tensor): Tensor {
    return this.branch1x1.forward(x)
  }
}

/** From 17 × 17 to 8 × 8. */
export class InceptionD extends Layer {
  readonly branch3x3_1: BasicConv2d
  readonly branch3x3_2: BasicConv2d
  readonly branch7x7x3_1: BasicConv2d
  readonly branch7x7x3_2: BasicConv2d
  readonly branch7x7x3_3: BasicConv2d
  readonly branch7x7x3_4: BasicConv2d

  constructor(C: number, init: Init) {
    super()
    this.branch3x3_1 = one(C, 192, init)
    this.branch3x3_2 = new BasicConv2d(192, 320, 3, init, { stride: 2 })
    this.branch7x7x3_1 = one(C, 192, init)
    this.branch7x7x3_2 = keeping(192, 192, [1, 7], init)
    this.branch7x7x3_3 = keeping(192, 192, [7, 1], init)
    this.branch7x7x3_4 = new BasicConv2d(192, 192, 3, init, { stride: 2 })
  }

  /** x (N, C, H, W) → (N, 512 + C, H/2, W/2) */
  forward(x: Tensor): Tensor {
    return scope(() =>
      concat(
        [
          chain(x, this.branch3x3_1, this.branch3x3_2),
          chain(x, this.branch7x7x3_1, this.branch7x7x3_2, this.branch7x7x3_3, this.branch7x7x3_4),
          maxPool2d(x, 3, 2),
        ],
        1,
      ),
    )
  }
}

/** At 8 × 8: the widest. The two of them differ in how they pool. */
export class InceptionE extends Layer {
  readonly branch1x1: BasicConv2d
  readonly branch3x3_1: BasicConv2d
  readonly branch3x3_2a: BasicConv2d
  readonly branch3x3_2b: BasicConv2d
  readonly branch3x3dbl_1: BasicConv2d
  readonly branch3x3dbl_2: BasicConv2d
  readonly branch3x3dbl_3a: BasicConv2d
  readonly branch3x3dbl_3b: BasicConv2d
  readonly branch_pool: BasicConv2d
  readonly pool: (x: Tensor) => Tensor

  constructor(C: number, pool: 'average' | 'max', init: Init) {
    super()
    this.branch1x1 = one(C, 320, init)
    this.branch3x3_1 = one(C, 384, init)
    this.branch3x3_2a = keeping(384, 384, [1, 3], init)
    this.branch3x3_2b = keeping(384, 384, [3, 1], init)
    this.branch3x3dbl_1 = one(C, 448, init)
    this.branch3x3dbl_2 = keeping(448, 384, [3, 3], init)
    this.branch3x3dbl_3a = keeping(384, 384, [1, 3], init)
    this.branch3x3dbl_3b = keeping(384, 384, [3, 1], init)
    this.branch_pool = one(C, 192, init)
    this.pool = pool === 'average' ? average : x => maxPool2d(x, 3, 1, 1)
  }

  /** x (N, C, H, W) → (N, 2048, H, W) */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const single = this.branch3x3_1.forward(x)
      const double = chain(x, this.branch3x3dbl_1, this.branch3x3dbl_2)
      return concat(
        [
          this.branch1x1.forward(x),
          this.branch3x3_2a.forward(single),
          this.branch3x3_2b.forward(single),
          this.branch3x3dbl_3a.forward(double),
          this.branch3x3dbl_3b.forward(double),
          this.branch_pool.forward(this.pool(x)),
        ],
        1,
      )
    })
  }
}

/** The side of the pictures that the network was trained on: others are resized to it. */
const side = 299
/** Number of channels of the spatial layer that sFID takes. [sFID, as ADM's evaluator] */
const spatialChannels = 7

/** The network of FID, sFID and the inception score: 23,850,960 parameters. */
export class InceptionV3 extends Module implements FeatureNetwork {
  readonly Conv2d_1a_3x3: BasicConv2d
  readonly Conv2d_2a_3x3: BasicConv2d
  readonly Conv2d_2b_3x3: BasicConv2d
  readonly Conv2d_3b_1x1: BasicConv2d
  readonly Conv2d_4a_3x3: BasicConv2d
  readonly Mixed_5b: InceptionA
  readonly Mixed_5c: InceptionA
  readonly Mixed_5d: InceptionA
  readonly Mixed_6a: InceptionB
  readonly Mixed_6b: InceptionC
  readonly Mixed_6c: InceptionC
  readonly Mixed_6d: InceptionC
  readonly Mixed_6e: InceptionC
  readonly Mixed_7a: InceptionD
  readonly Mixed_7b: InceptionE
  readonly Mixed_7c: InceptionE
  readonly fc: Linear

  constructor(init: Init) {
    super()
    checkInit('InceptionV3', init)
    this.Conv2d_1a_3x3 = new BasicConv2d(3, 32, 3, init, { stride: 2 })
    this.Conv2d_2a_3x3 = new BasicConv2d(32, 32, 3, init)
    this.Conv2d_2b_3x3 = keeping(32, 64, [3, 3], init)
    this.Conv2d_3b_1x1 = one(64, 80, init)
    this.Conv2d_4a_3x3 = new BasicConv2d(80, 192, 3, init)
    this.Mixed_5b = new InceptionA(192, 32, init)
    this.Mixed_5c = new InceptionA(256, 64, init)
    this.Mixed_5d = new InceptionA(288, 64, init)
    this.Mixed_6a = new InceptionB(288, init)
    this.Mixed_6b = new InceptionC(768, 128, init)
    this.Mixed_6c = new InceptionC(768, 160, init)
    this.Mixed_6d = new InceptionC(768, 160, init)
    this.Mixed_6e = new InceptionC(768, 192, init)
    this.Mixed_7a = new InceptionD(768, init)
    this.Mixed_7b = new InceptionE(1280, 'average', init)
    this.Mixed_7c = new InceptionE(2048, 'max', init)
    this.fc = new Linear(2048, 1008, init)
  }

  /**
   * Features of pictures x (N, 3, H, W) in [−1, 1], of any size: `pool` (N, 2048), `spatial` (N, 2023), height by
   * width by channel, and `logits` (N, 1008), as ADM's evaluator without the bias. Not recorded. Throws ShapeError.
   */
  features(x: Tensor): PictureFeatures<Tensor> {
    checkFloats('InceptionV3', { x })
    if (x.shape.length !== 4 || x.shape[1] !== 3)
      throw new ShapeError(`InceptionV3: expected pictures [N, 3, H, W], got [${x.shape.join(', ')}]`)
    const [N] = x.shape
    return noGrad(() =>
      scope(() => {
        const early = scope(() => this.#stem(interpolate(x, [side, side], 'bilinear'))) // (N, 192, 35, 35)
        const middle = chain(
          early,
          ...[this.Mixed_5b, this.Mixed_5c, this.Mixed_5d, this.Mixed_6a, this.Mixed_6b, this.Mixed_6c],
        ) // (N, 768, 17, 17)
        const plane = slice(this.Mixed_6d.firstBranch(middle), 1, 0, spatialChannels) // (N, 7, 17, 17)
        const late = chain(middle, this.Mixed_6d, this.Mixed_6e, this.Mixed_7a, this.Mixed_7b, this.Mixed_7c)
        const pool = mean(late, [2, 3]) // (N, 2048)
        return {
          pool,
          spatial: reshape(permute(plane, [0, 2, 3, 1]), [N, -1]), // (N, 2023)
          logits: linear(pool, this.fc.weight, null), // (N, 1008)
        }
      }),
    )
  }

  /** x (N, 3, 299, 299) → (N, 192, 35, 35) */
  #stem(x: Tensor): Tensor {
    const first = maxPool2d(chain(x, this.Conv2d_1a_3x3, this.Conv2d_2a_3x3, this.Conv2d_2b_3x3), 3, 2) // (N, 64, 73, 73)
    return maxPool2d(chain(first, this.Conv2d_3b_1x1, this.Conv2d_4a_3x3), 3, 2)
  }

  /** As Module's; how many batches a batch norm saw in training, which some files say, is not wanted here. */
  override loadStateDict(source: StateSource, options: { readonly strict?: boolean } = {}): void {
    super.loadStateDict(new Map([...source].filter(([name]) => !name.endsWith('.num_batches_tracked'))), options)
  }
}
