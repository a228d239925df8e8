/** Pictures as people have them: of any size, with alpha, grey, CMYK, WebP, and one that is broken. They train as they are. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp, { type Sharp } from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/index.ts'
import { openDataset } from '../../data/index.ts'
import { inFolder, run } from './example.ts'

const classes = ['discs', 'squares', 'stripes'] as const
const each = 100

/** A shape of a class in a colour, on another one, as SVG. */
function drawing(kind: (typeof classes)[number], random: readonly number[]): string {
  const [width, height] = [40 + Math.floor(random[0] * 60), 40 + Math.floor(random[1] * 60)]
  const colour = `hsl(${Math.floor(random[2] * 360)} 80% 45%)`
  const [x, y, r] = [width / 2, height / 2, (0.25 + 0.15 * random[3]) * Math.min(width, height)]
  const shape = {
    discs: `<circle cx="${x}" cy="${y}" r="${r}" fill="${colour}"/>`,
    squares: `<rect x="${x - r}" y="${y - r}" width="${2 * r}" height="${2 * r}" fill="${colour}"/>`,
    stripes: [0, 1, 2]
      .map(i => `<rect y="${((2 * i + 0.5) * height) / 6}" width="${width}" height="${height / 8}" fill="${colour}"/>`)
      .join(''),
  }[kind]
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${shape}</svg>`
}

/** How pictures are stored: with alpha, grey, CMYK, without loss and with, in any size. */
const encodings: readonly (readonly [extension: string, encode: (image: Sharp) => Sharp])[] = [
  ['png', image => image.png()], // with alpha
  ['jpg', image => image.flatten({ background: '#eee' }).jpeg()],
  ['png', image => image.flatten({ background: 'white' }).toColourspace('b-w').png()],
  ['jpg', image => image.flatten({ background: 'white' }).toColourspace('cmyk').jpeg()],
  ['webp', image => image.webp()],
  ['tiff', image => image.flatten({ background: '#ddd' }).tiff()],
]

/** 300 pictures of three classes, one of which is cut short, beside files that are none. Returns the broken one. */
async function writePictures(folder: string): Promise<string> {
  const random = rng(5)
  let broken = ''
  for (const [label, kind] of classes.entries()) {
    mkdirSync(join(folder, kind), { recursive: true })
    for (let i = 0; i < each; i++) {
      const numbers = [...random.fork(label).fork(i).uniformArray(4)]
      const [extension, encode] = encodings[i % encodings.length]
      const bytes = await encode(sharp(Buffer.from(drawing(kind, numbers)))).toBuffer()
      const path = join(folder, kind, `${i}.${extension}`)
      const isBroken = label === 1 && i === 7
      if (isBroken) broken = path
      writeFileSync(path, isBroken ? bytes.subarray(0, bytes.length / 3) : bytes)
    }
  }
  for (const name of ['a.bmp', 'b.bmp', 'notes.txt']) writeFileSync(join(folder, 'discs', name), 'no picture')
  return broken
}

test('300 mixed pictures are read, in their colours; the broken one and what is no picture are said in a line each', () =>
  inFolder(async folder => {
    const broken = await writePictures(folder)
    const { space, channels } = await sharp(join(folder, 'discs', '3.jpg')).metadata()
    assert.equal([space, channels], ['cmyk', 4])
    const said: string[] = []
    const set = await openDataset(folder, 32, { report: line => said.push(line.replace(`${folder}: `, '')) })
    assert.equal([set.length, set.classes], [299, [...classes]])
    assert.is(said.length, 2)
    assert.is(said[0], 'left out: 2 .bmp, 1 .txt')
    assert.ok(said[1].startsWith(`skipped: ${broken}: expected a picture, got one that cannot be read: `), said[1])
    // The middle of a disc has its colour, however it is stored; grey ones have none.
    for (let i = 0; i < encodings.length; i++) {
      const name = `${i}.${encodings[i][0]}`
      const at = [...Array.from({ length: each }, (_, k) => `${k}.${encodings[k % encodings.length][0]}`)]
        .sort()
        .indexOf(name)
      const pixels = await set.pixels(at)
      const [r, g, b] = [0, 1, 2].map(c => pixels[c * 1024 + 16 * 32 + 16])
      const spread = Math.max(r, g, b) - Math.min(r, g, b)
      assert.ok(i === 2 ? spread === 0 : spread > 60, `${name}: ${r}, ${g}, ${b}`)
    }

    const out = join(folder, 'run')
    const words = ['train', 'mdt', '--data', folder, '--size', '32', '--preset', 'S/8', '--batch', '6', '--steps', '2']
    const { code, stdout, stderr } = await run('demask', [...words, '--threads', '1', '--out', out])
    assert.is(code, 0, stderr)
    assert.match(stdout, /on the 299 pictures of \S+ at 32 px/)
    assert.is(stderr.trim().split('\n').length, 2, stderr)
    assert.is(readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n').length, 2)
    assert.ok(existsSync(join(out, 'samples-00000002.png')))
  }))

test.run()
