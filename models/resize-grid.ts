/**
 * Bicubic interpolation of tables of learned positions, in f64 on the host, by which ViT and BEiT go to another resolution. It is
 * PyTorch's `interpolate(mode='bicubic', align_corners=False)`. The arithmetic is core/ops/interpolate.ts.
 */

import { cpu, interpolate, permute, scope, tensor } from '../core/index.ts'

/** Resizes a square grid: values (S, S, D) row-major → (side, side, D), each channel for itself. An equal size returns a copy. */
export function resizeGrid(values: ArrayLike<number>, S: number, side: number): Float64Array {
  const shape = [1, S, S, values.length / (S * S)]
  return scope(() => {
    const grid = tensor(Float64Array.from(values), { shape, dtype: 'f64', backend: cpu })
    const resized = interpolate(permute(grid, [0, 3, 1, 2]), [side, side], 'bicubic') // (1, D, side, side)
    return Float64Array.from(permute(resized, [0, 2, 3, 1]).dataSync()) // (side, side, D)
  })
}
