/** Held-out pictures and random crops: what is on which side, and which window of a picture a batch has. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/random.ts'
import { Batches, holdOut, type ImageDataset, openDataset, subsetOf, toByte, withCrops } from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'

/** A set whose picture i has i in its first byte and, behind it, the place of each byte. */
function numbered(length: number, size = 2): ImageDataset {
  return {
    name: 'numbered',
    length,
    size,
    channels: 3,
    classes: ['even', 'odd'],
    flips: true,
    label: i => i % 2,
    pixels: i => Uint8Array.from({ length: 3 * size * size }, (_, k) => (k === 0 ? i : k % 256)),
  }
}

/** First bytes of the pictures of a set. */
const numbers = async (set: ImageDataset) =>
  Promise.all(Array.from({ length: set.length }, async (_, i) => (await set.pixels(i))[0]))

test('every picture is on one side, the share is met, and the split is always the same', async () => {
  const set = numbered(100)
  const [first, again] = [holdOut(set, 0.05), holdOut(set, 0.05)]
  const [training, heldOut] = [await numbers(first.training), await numbers(first.heldOut)]
  assert.is(heldOut.length, 5)
  assert.equal(
    [...training, ...heldOut].sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
  )
  assert.equal(await numbers(again.heldOut), heldOut)
  heldOut.forEach((number, i) => {
    assert.is(first.heldOut.label(i), number % 2)
  })
  assert.is(holdOut(numbered(2), 0.01).heldOut.length, 1)
  assert.is(holdOut(numbered(2), 0.5).training.length, 1)
})

test('a set of one thing cannot be split', () => {
  for (const set of [numbered(1), { ...numbered(6), group: () => 0 }])
    assert.throws(
      () => holdOut(set, 0.05),
      (error: Error) =>
        error instanceof UserError &&
        error.message === '--held-out: expected a set of at least 2 different pictures, got 1 (numbered)',
    )
})

test('all skin tones of an emoji are on one side', async () => {
  const set = await openDataset('emoji', 8)
  const { training, heldOut } = holdOut(set, 0.05)
  assert.is(training.length + heldOut.length, 3781)
  assert.ok(heldOut.length >= 190 && heldOut.length < 220, String(heldOut.length))
  const groups = (part: ImageDataset) => Array.from({ length: part.length }, (_, i) => part.group!(i))
  const seen = new Set(groups(training))
  const unseen = groups(heldOut)
  assert.ok(new Set(unseen).size < unseen.length, 'some have several')
  assert.not(unseen.some(group => seen.has(group)))
})

test('crops are windows of the picture, drawn anew by step and place; otherwise it is the centre', async () => {
  const [S, size] = [6, 2]
  const set = withCrops(numbered(9, S), size)
  assert.equal([set.size, set.margin], [2, 4])
  const place = (top: number, left: number) => [0, 1].flatMap(y => [0, 1].map(x => (top + y) * S + left + x))
  assert.equal([...(await set.pixels(3))].slice(0, 4), place(2, 2))
  assert.equal(
    [...(await set.window!(3, 4, 1))].slice(4, 8),
    place(4, 1).map(k => k + S * S),
  )
  const options = { batch: 200, flip: false, rng: rng(1) }
  const batches = new Batches(set, options)
  const firsts = async (step: number) => {
    const { images } = await batches.at(step)
    // The second green byte tells the window's place.
    return Array.from({ length: 200 }, (_, i) => toByte(images[12 * i + 4]) - S * S)
  }
  const seen = await firsts(0)
  for (const at of seen) assert.ok(at % S <= 4 && at / S < 5, String(at))
  assert.is(new Set(seen).size, 25)
  assert.not.equal(await firsts(1), seen)
  assert.equal((await new Batches(set, options).at(1)).images, (await batches.at(1)).images)
  const still = new Batches({ ...set, margin: undefined }, options)
  assert.equal(new Set((await still.at(0)).images.filter((_, i) => i % 12 === 4)).size, 1)
  const part = withCrops(subsetOf(numbered(9, S), [4]), size)
  assert.equal((await subsetOf(part, [0]).window!(0, 0, 0))[0], 4)
  assert.throws(() => withCrops(numbered(1, 2), 3), /^withCrops: expected a size in \[1, 2\], got 3$/)
})

test.run()
