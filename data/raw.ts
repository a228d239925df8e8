/** A set of pictures that are pixels already, not files to be decoded: cifar.ts, idx.ts, npz-pictures.ts. */

import { type ImageDataset, planesOf } from './dataset.ts'
import { centerCrop, type Pixels } from './resize.ts'

/** Source of a set of raw pictures. */
export interface RawPictures {
  readonly name: string
  readonly classes: readonly string[]
  readonly flips: boolean
  readonly labels: ArrayLike<number>
  /** Picture `i` of any height and width. */
  readonly picture: (i: number) => Pixels
}

/** The set at `size`, every picture scaled and cropped as ADM does (`centerCrop`) whenever it is asked for. */
export function rawDataset({ name, classes, flips, labels, picture }: RawPictures, size: number): ImageDataset {
  return {
    name,
    length: labels.length,
    size,
    channels: 3,
    classes,
    flips,
    label: i => labels[i],
    pixels: i => planesOf(centerCrop(picture(i), size).data, 3),
  }
}

/** Names for classes that have none: 0, 1, … */
export function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i))
}
