/** Test of a classifier of pictures. */

import { scope, tensor } from '../../core/index.ts'
import { type ImageDataset, imagesOf } from '../../data/index.ts'
import type { FeatureNetwork } from '../../evaluation/index.ts'

/** Pictures of a forward pass. */
const together = 64

/** Returns the pictures of a set, (3, S, S) in bytes, whose largest logit is not that of their class. */
export async function misclassified(model: FeatureNetwork, set: ImageDataset): Promise<Uint8Array[]> {
  const found: Uint8Array[] = []
  const classes = set.classes.length
  for (let from = 0; from < set.length; from += together) {
    const count = Math.min(together, set.length - from)
    const pictures = await Promise.all(Array.from({ length: count }, (_, k) => set.pixels(from + k)))
    const pixels = imagesOf(pictures, set.size)
    const logits = scope(() => model.features(tensor(pixels, { shape: [count, 3, set.size, set.size] })).logits)
    const values = await logits.data()
    logits.dispose()
    pictures.forEach((picture, n) => {
      const row = values.subarray(n * classes, (n + 1) * classes)
      if (row.indexOf(Math.max(...row)) !== set.label(from + n)) found.push(picture)
    })
  }
  return found
}
