/**
 * Images to tokens and back. The embedding is a convolution whose stride is its kernel, which is a linear layer on
 * patches; the weight keeps the convolution's shape, as checkpoints have it. [ViT §3.1]
 */

import { aCount, aFunction, check, checkOptions, checkTensor } from '../core/arguments.ts'
import { linear, patchify, permute, reshape, ShapeError, type Tensor } from '../core/index.ts'
import { Conv2d, type Conv2dOptions } from './conv.ts'
import { constantZero, type Init, xavierUniform } from './init.ts'
import { aGrid, anInitializerOrFalse, checkLayer } from './layer-arguments.ts'
import { Layer } from './module.ts'

/** One token of width D for each patch of P × P pixels, row by row over the image. */
export class PatchEmbed extends Layer {
  /** weight (D, C, P, P), bias (D) */
  readonly proj: Conv2d
  readonly P: number

  /** Begins as in DiT, MDT and MaskDiT unless `first` says otherwise. */
  constructor(
    P: number,
    C: number,
    D: number,
    init: Init,
    first: Pick<Conv2dOptions, 'weight' | 'bias'> = { weight: xavierUniform, bias: constantZero },
  ) {
    super()
    checkLayer('PatchEmbed', { P, C, D }, init)
    checkOptions('PatchEmbed', first, { weight: aFunction, bias: anInitializerOrFalse })
    this.proj = new Conv2d(C, D, P, init, { ...first, stride: P })
    this.P = P
  }

  /** x (N, C, H, W) → (N, H/P · W/P, D). Throws ShapeError. */
  forward(x: Tensor): Tensor {
    return this.project(patchify(x, this.P)) // (N, T, D)
  }

  /** The embedding of patches as `patchify` cuts them, all of a picture or some: (N, K, C·P·P) → (N, K, D). */
  project(patches: Tensor): Tensor {
    const { weight, bias } = this.proj
    const D = weight.shape[0]
    return linear(patches, reshape(weight, [D, weight.size / D]), bias) // (N, K, D)
  }
}

/**
 * x (N, T, P·P·C), T = H/P · W/P → (N, C, H, W). A token holds its patch by (row, column, channel): not the order in
 * which `PatchEmbed` reads one. Throws ShapeError.
 */
export function unpatchify(x: Tensor, P: number, size: readonly [H: number, W: number]): Tensor {
  checkTensor('unpatchify', 'x', x)
  check('unpatchify', 'P', P, aCount)
  check('unpatchify', 'size', size, aGrid)
  const [H, W] = size
  const [N, T, width] = x.shape
  const [rows, columns, C] = [H / P, W / P, width / (P * P)]
  if (x.shape.length !== 3 || rows * columns !== T || !Number.isInteger(C))
    throw new ShapeError(`unpatchify: expected ${rows * columns} tokens of ${P}·${P}·C, got [${x.shape.join(', ')}]`)
  const grid = reshape(x, [N, rows, columns, P, P, C]) // (N, H/P, W/P, P, P, C)
  return reshape(permute(grid, [0, 5, 1, 3, 2, 4]), [N, C, H, W]) // (N, C, H, W)
}
