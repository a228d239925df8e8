/** Square windows of pictures, for random crops. */

import { aCount, check } from '../core/arguments.ts'
import { aPictureSet } from './arguments.ts'
import type { ImageDataset } from './dataset.ts'

/**
 * The set with pictures of `size` by `size`, the centres of its own, and with the windows around them for random crops.
 * Throws RangeError if its own are smaller.
 */
export function withCrops(set: ImageDataset, size: number): ImageDataset {
  check('withCrops', 'set', set, aPictureSet)
  check('withCrops', 'size', size, aCount)
  const { size: S, pixels } = set
  if (size > S) throw new RangeError(`withCrops: expected a size in [1, ${S}], got ${size}`)
  const window = async (i: number, top: number, left: number) => windowOf(await pixels(i), S, size, top, left)
  const middle = (S - size) >> 1
  return { ...set, size, margin: S - size, window, pixels: i => window(i, middle, middle) }
}

/** The square of side `size` at (top, left) of planes (3, S, S): (3, size, size). */
function windowOf(planes: Uint8Array, S: number, size: number, top: number, left: number): Uint8Array {
  const out = new Uint8Array(3 * size * size)
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < size; y++) {
      const from = (c * S + top + y) * S + left
      out.set(planes.subarray(from, from + size), (c * size + y) * size)
    }
  return out
}
