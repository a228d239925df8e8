/** Emoji, folders of pictures, and batches that do not depend on what was drawn before. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/random.ts'
import {
  type Batch,
  Batches,
  type ImageDataset,
  openDataset,
  readableFrom,
  Skipped,
  toByte,
  toModelRange,
  UnreadablePicture,
} from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-data-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

/** Rejects with a UserError of this one line. */
async function refused(promise: Promise<unknown>, message: string | RegExp): Promise<void> {
  try {
    await promise
  } catch (error) {
    assert.instance(error, UserError)
    const { message: got } = error as Error
    assert.not.match(got, /\n/)
    if (typeof message === 'string') assert.is(got, message)
    else assert.match(got, message)
    return
  }
  assert.unreachable('accepted')
}

/** Writes a picture of one colour. */
async function paint(
  path: string,
  width: number,
  height: number,
  background: string | { r: number; g: number; b: number; alpha: number },
): Promise<void> {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  await sharp({ create: { width, height, channels: 4, background } }).toFile(join(root, path))
}

/** A set in memory whose picture i is filled with byte i, except its left column: 255 − i. */
function numbered(length: number, size = 2): ImageDataset & { loads: number } {
  return {
    name: 'numbered',
    length,
    size,
    channels: 3,
    classes: ['even', 'odd'],
    flips: false,
    loads: 0,
    label: i => i % 2,
    async pixels(i) {
      this.loads++
      return new Uint8Array(3 * size * size).map((_, k) => (k % size === 0 ? 255 - i : i))
    },
  }
}

test('the smileys are 169 in 16 classes, area-averaged over white', async () => {
  const smileys = await openDataset('emoji:smileys', 16)
  assert.is(smileys.length, 169)
  assert.is(smileys.classes.length, 16)
  const count = (name: string) =>
    Array.from({ length: 169 }, (_, i) => smileys.label(i)).filter(label => smileys.classes[label] === name).length
  assert.is(count('face-concerned'), 26)
  assert.is(count('monkey-face'), 3)
  // The same picture from its own file, averaged in floating point.
  const require = createRequire(import.meta.url)
  const emoji: { category: string; image: string }[] = require('emoji-datasource-twitter/emoji.json')
  const faces = emoji.filter(({ category }) => category === 'Smileys & Emotion')
  const folder = dirname(require.resolve('emoji-datasource-twitter/package.json'))
  for (const i of [0, 17, 168]) {
    const rgba = await sharp(join(folder, 'img/twitter/64', faces[i].image))
      .ensureAlpha()
      .raw()
      .toBuffer()
    const pixels = await smileys.pixels(i)
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < 16; y++)
        for (let x = 0; x < 16; x++) {
          let sum = 0
          for (let k = 0; k < 16; k++) {
            const at = 4 * ((4 * y + (k >> 2)) * 64 + 4 * x + (k & 3))
            sum += (rgba[at + c] / 255) * (rgba[at + 3] / 255) + 1 - rgba[at + 3] / 255
          }
          assert.ok(Math.abs(pixels[(c * 16 + y) * 16 + x] - (255 * sum) / 16) <= 0.5 + 1e-9)
        }
    assert.is(pixels[0], 255)
  }
})

test('all emoji are 3,781 with skin tones, in 9 classes', async () => {
  const emoji = await openDataset('emoji', 32)
  assert.is(emoji.length, 3781)
  assert.is(emoji.classes.length, 9)
  assert.is((await emoji.pixels(3780)).length, 3 * 32 * 32)
  assert.ok(Array.from({ length: 3781 }, (_, i) => emoji.label(i)).every(label => label >= 0 && label < 9))
  await refused(openDataset('emoji', 24), 'emoji: expected a size that divides 64, got 24')
  await refused(
    openDataset('emoji:hats', 16),
    "data: expected emoji, emoji:smileys, emoji:others or a folder, got 'emoji:hats'",
  )
})

test('a folder of class folders: formats, crop, transparency, links', async () => {
  await paint('classes/cat/1.png', 10, 20, '#ff0000')
  await paint('classes/cat/2.JPG', 30, 30, '#00ff00')
  await paint('classes/dog/3.webp', 5, 5, { r: 0, g: 0, b: 0, alpha: 0 })
  mkdirSync(join(root, 'classes/empty'))
  writeFileSync(join(root, 'classes/cat/notes.txt'), 'no picture')
  await paint('elsewhere/4.png', 8, 8, '#808080')
  symlinkSync(join(root, 'elsewhere'), join(root, 'classes/eel'))
  const set = await openDataset(join(root, 'classes'), 8)
  assert.equal(set.classes, ['cat', 'dog', 'eel'])
  assert.equal([0, 1, 2, 3].map(set.label), [0, 0, 1, 2])
  const colours = await Promise.all([0, 1, 2, 3].map(async i => (await set.pixels(i)).filter((_, k) => k % 64 === 27)))
  assert.equal(colours[0], Uint8Array.of(255, 0, 0))
  assert.ok(colours[1].every((byte, c) => Math.abs(byte - [0, 255, 0][c]) <= 2)) // JPEG
  assert.equal(colours[2], Uint8Array.of(255, 255, 255))
  assert.equal(colours[3], Uint8Array.of(128, 128, 128))
  assert.ok(set.flips)
})

test('a flat folder is one class; grey and tall pictures become RGB squares from their middle', async () => {
  mkdirSync(join(root, 'flat'))
  const grey = Uint8Array.from({ length: 6 * 18 }, (_, i) => (i >= 36 && i < 72 ? 200 : 10)) // the middle third is light
  await sharp(grey, { raw: { width: 6, height: 18, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toFile(join(root, 'flat/a.png'))
  const set = await openDataset(join(root, 'flat'), 6)
  assert.equal(set.classes, ['flat'])
  assert.equal(await set.pixels(0), new Uint8Array(3 * 36).fill(200))
})

test('a folder that is missing, empty or mixed, and pictures that are cut short, are named', async () => {
  mkdirSync(join(root, 'none'))
  await refused(
    openDataset(join(root, 'none'), 8),
    `${root}/none: expected pictures (.png, .jpg, .webp, .gif, .tif or .avif) or class folders of pictures, got none`,
  )
  await refused(
    openDataset(join(root, 'nowhere'), 8),
    `${root}/nowhere: expected a folder of pictures: no such file or folder`,
  )
  await paint('mixed/x/1.png', 4, 4, 'red')
  await paint('mixed/2.png', 4, 4, 'red')
  await refused(
    openDataset(join(root, 'mixed'), 8),
    `${root}/mixed: expected pictures or class folders, got both: '2.png' and 'x'`,
  )
  await refused(openDataset(join(root, 'mixed/2.png'), 8), /2\.png: expected a folder of pictures: not a folder/)
  for (const extension of ['png', 'jpg', 'webp']) {
    const folder = join(root, `cut-${extension}`)
    await paint(`cut-${extension}/good.${extension}`, 64, 64, 'red')
    const noise = rng(0).integersArray(0, 256, 3 * 64 * 64)
    const bytes = await sharp(Uint8Array.from(noise), { raw: { width: 64, height: 64, channels: 3 } })
      .toFormat(extension as 'png')
      .toBuffer()
    for (const length of [0, 10, bytes.length >> 1]) {
      writeFileSync(join(folder, `half.${extension}`), bytes.subarray(0, length))
      const wanted = new RegExp(`half.${extension}: expected a picture, got one that cannot be read: .`)
      await refused(openDataset(folder, 8, { strict: true }), wanted)
      const said: string[] = []
      const set = await openDataset(folder, 8, { report: line => said.push(line) })
      assert.is(set.length, 1)
      assert.is(set.skipped!.count, 1)
      assert.is(said.length, 1)
      assert.match(said[0], wanted)
    }
  }
})

test('an epoch shows every picture once, and batches cross its end without a gap', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 50 }), fc.nat(), (length, batch, seed) => {
      const batches = new Batches(numbered(length), { batch, rng: rng(seed) })
      const steps = Math.ceil((3 * length) / batch)
      const drawn = Array.from({ length: steps }, (_, step) => Array.from(batches.indices(step))).flat()
      for (let epoch = 0; epoch < 3; epoch++) {
        const seen = drawn.slice(epoch * length, (epoch + 1) * length).sort((a, b) => a - b)
        assert.equal(
          seen,
          Array.from({ length }, (_, i) => i),
        )
      }
    }),
  )
})

test('batch k is the same whether the run began at 0 or at k, and whatever else the stream was used for', async () => {
  for (const replacement of [false, true]) {
    const options = { batch: 5, flip: true, replacement }
    const whole = new Batches(numbered(13), { ...options, rng: rng(7) })
    const all: Batch[] = []
    for (let step = 0; step < 9; step++) all.push(await whole.at(step))
    const used = rng(7)
    used.normalArray(100)
    const resumed = new Batches(numbered(13), { ...options, rng: used })
    for (let step = 6; step < 9; step++) assert.equal(await resumed.at(step), all[step])
    assert.not.equal(all[0].indices, all[1].indices)
    assert.not.equal((await new Batches(numbered(13), { ...options, rng: rng(8) }).at(0)).indices, all[0].indices)
  }
})

test('images are in [-1, 1] beside their labels; about half are mirrored where flips are on', async () => {
  const { images, labels, indices } = await new Batches(numbered(100), { batch: 400, rng: rng(1), flip: true }).at(0)
  let mirrored = 0
  indices.forEach((index, i) => {
    assert.is(labels[i], index % 2)
    const row = Array.from(images.subarray(12 * i, 12 * i + 2), toByte)
    if (row[0] === index && index !== 255 - index) mirrored++
    assert.equal(
      row.sort((a, b) => a - b),
      [index, 255 - index].sort((a, b) => a - b),
    )
  })
  assert.ok(mirrored > 150 && mirrored < 250, `${mirrored} of 400`)
  const still = await new Batches(numbered(100), { batch: 100, rng: rng(1) }).at(0)
  assert.equal(
    Array.from(still.indices, (_, i) => toByte(still.images[12 * i + 1])),
    Array.from(still.indices),
  )
  for (let byte = 0; byte < 256; byte++) assert.is(toByte(Math.fround(toModelRange(byte))), byte)
  assert.equal([-3, -1, 0, 1, 7].map(toByte), [0, 0, 128, 255, 255])
})

test('the next batches are decoded before they are asked for, and an error waits for its batch', async () => {
  const dataset = numbered(1000)
  const batches = new Batches(dataset, { batch: 10, rng: rng(2) })
  await batches.at(0)
  assert.is(dataset.loads, 30)
  await batches.at(1)
  assert.is(dataset.loads, 40)
  await batches.at(1)
  assert.is(dataset.loads, 40)
  const bad = new Batches(dataset, { batch: 10, rng: rng(2) }).indices(2)[0]
  const pixels = dataset.pixels.bind(dataset)
  dataset.pixels = i => (i === bad ? Promise.reject(new UserError('bad.png: cut short')) : pixels(i))
  const failing = new Batches(dataset, { batch: 10, rng: rng(2) })
  await failing.at(0)
  await new Promise(resolve => setTimeout(resolve, 5))
  await failing.at(1)
  await refused(failing.at(2), 'bad.png: cut short')
})

test('a batch takes the next picture in place of one that cannot be read, with its label and number', async () => {
  const dataset = numbered(10)
  const pixels = dataset.pixels.bind(dataset)
  const bad = new Set([3, 4])
  dataset.pixels = i => (bad.has(i) ? Promise.reject(new UnreadablePicture(`${i}.png: cut short`)) : pixels(i))
  const said: string[] = []
  const skipping = { ...dataset, skipped: new Skipped(line => said.push(line)) }
  const batches = new Batches(skipping, { batch: 10, rng: rng(3) })
  const wanted = batches.indices(0).map(i => (bad.has(i) ? 5 : i))
  const { images, labels, indices } = await batches.at(0)
  assert.equal(indices, wanted)
  assert.equal(
    labels,
    wanted.map(i => i % 2),
  )
  assert.equal(
    Array.from(indices, (_, i) => toByte(images[12 * i + 1])),
    Array.from(wanted),
  )
  assert.equal([...said].sort(), ['skipped: 3.png: cut short', 'skipped: 4.png: cut short'])
  const none = { ...skipping, pixels: (i: number) => Promise.reject(new UnreadablePicture(`${i}.png: cut short`)) }
  await refused(
    new Batches(none, { batch: 1, rng: rng(3) }).at(0),
    'numbered: expected pictures that can be read, got none',
  )
  assert.is(skipping.skipped.count, 10)
})

test('large sets are decoded only when they are drawn', async () => {
  await paint('many/good.png', 3, 3, 'red')
  const bytes = readFileSync(join(root, 'many/good.png'))
  for (let i = 0; i < 4096; i++) writeFileSync(join(root, `many/${i}.png`), bytes)
  writeFileSync(join(root, 'many/bad.png'), bytes.subarray(0, 50))
  const set = await openDataset(join(root, 'many'), 2)
  assert.is(set.length, 4098)
  assert.is((await set.pixels(4095)).length, 12)
  await refused(Promise.resolve(set.pixels(4096)), /bad\.png: expected a picture/) // bad and good come after the digits
  const said: string[] = []
  const skipping = await openDataset(join(root, 'many'), 2, { report: line => said.push(line) })
  const { index, pixels } = await readableFrom(skipping, 4096)
  assert.is(index, 4097)
  assert.equal(pixels, await set.pixels(4097))
  await readableFrom(skipping, 4096)
  assert.equal(said.length, 1)
  assert.is(skipping.skipped!.count, 1)
  const strict = await openDataset(join(root, 'many'), 2, { strict: true })
  await refused(readableFrom(strict, 4096), /bad\.png: expected a picture/)
})

test.run()
