/** The network of emoji features with the weights that come with it. Needs Node. */

import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ready, rng, scope, tensor } from '../../core/index.ts'
import { holdOut, imagesOf, openDataset } from '../../data/index.ts'
import { EmojiFeatures } from '../../evaluation/emoji-features.ts'
import { featureGaussian, frechetDistance } from '../../evaluation/index.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'

const backend = await ready()
test.after(() => backend.dispose())

const { tensors } = readSafetensors(join(import.meta.dirname, '../../assets/emoji-features.safetensors'))
const classes = tensors.get('fc.bias')!.shape[0]

const model = new EmojiFeatures(classes, { rng: null }, [16, 32])
model.loadStateDict(
  new Map(Array.from(tensors, ([name, { shape, data }]) => [name, { shape, data: data as Float32Array }])),
)
const set = await openDataset('emoji', 32)

test('it names emoji that it was not trained on', async () => {
  assert.is(set.classes.length, classes)
  const { heldOut } = holdOut(set, 0.1)
  const unseen = Array.from({ length: 63 }, (_, i) => 6 * i)
  const pictures = await Promise.all(unseen.map(i => heldOut.pixels(i)))
  const { pool, spatial, logits } = scope(() =>
    model.features(tensor(imagesOf(pictures, 32), { shape: [pictures.length, 3, 32, 32] })),
  )
  assert.equal(
    [pool.shape, spatial.shape],
    [
      [63, 128],
      [63, 448],
    ],
  )
  assert.not(pool.requiresGrad)
  const values = await logits.data()
  const right = unseen.filter((i, n) => {
    const row = values.subarray(n * classes, (n + 1) * classes)
    return row.indexOf(Math.max(...row)) === heldOut.label(i)
  })
  assert.ok(right.length >= 45, `${right.length} of 63`)
  assert.throws(() => model.features(tensor([[1]])), /expected pictures \[N, 3, H, W\], got \[1, 1\]/)
})

test('pictures are the farther from others of their kind the more noise is on them', async () => {
  const chosen = (from: number) =>
    Promise.all(Array.from({ length: 48 }, (_, k) => set.pixels((from + 78 * k) % set.length)))
  const [some, others] = await Promise.all([chosen(0), chosen(39)])
  const gaussian = (pictures: Uint8Array[], noise: number) => {
    const images = imagesOf(pictures, 32)
    const draws = rng(1).normalArray(images.length)
    const x = tensor(
      images.map((value, i) => value + noise * draws[i]),
      { shape: [pictures.length, 3, 32, 32] },
    )
    const { pool } = scope(() => model.features(x))
    return featureGaussian({ data: pool.dataSync(), shape: pool.shape })
  }
  const reference = gaussian(some, 0)
  const distances = [0, 0.1, 0.2, 0.5].map(noise => frechetDistance(gaussian(others, noise), reference))
  assert.ok(
    distances.every((distance, i) => i === 0 || distance > distances[i - 1]),
    distances.join(', '),
  )
})

test.run()
