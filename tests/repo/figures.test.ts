/**
 * The tour's figures show what the package computes: each is drawn again and compared with its file, numbers and pixels within
 * the last digit. Needs Node.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { pagesWithCode } from '../../site/code.ts'
import { figures, pathOf } from '../../site/figures/index.ts'
import { widest } from '../../site/figures/svg.ts'
import { localLinks, read, root } from './markdown.ts'

const embedded = /data:image\/png;base64,([\w+/=]+)/g
const number = /-?\d+(?:\.\d+)?(?:e-?\d+)?/g

/** Text of a drawing without its numbers, its numbers, and the pixels of its pictures. */
async function partsOf(svg: string) {
  const pictures = [...svg.matchAll(embedded)].map(([, png]) => sharp(Buffer.from(png, 'base64')).raw().toBuffer())
  const drawn = svg.replaceAll(embedded, '')
  return {
    text: drawn.replaceAll(number, '#'),
    numbers: (drawn.match(number) ?? []).map(Number),
    pixels: Buffer.concat(await Promise.all(pictures)),
  }
}

for (const [name, draw] of Object.entries(figures))
  test(`${name}.svg shows what is computed`, async () => {
    const [file, now] = await Promise.all([partsOf(read(pathOf(name))), partsOf(await draw())])
    assert.is(file.text, now.text, 'npm run docs:figures draws it again')
    const far = now.numbers.filter((value, i) => !(Math.abs(value - file.numbers[i]) <= 0.011 + 1e-3 * Math.abs(value)))
    assert.equal(far, [], 'numbers that differ: npm run docs:figures draws them again')
    assert.is(file.pixels.length, now.pixels.length)
    const off = now.pixels.filter((value, i) => Math.abs(value - file.pixels[i]) > 2).length
    assert.is(off, 0, `${off} of ${now.pixels.length} bytes of pictures differ`)
    const width = Number(/ width="([\d.]+)"/.exec(read(pathOf(name)))![1])
    assert.ok(width <= widest, `${width} units wide, at most ${widest}`)
  })

test('every figure of the folder is drawn by the code and shown in a chapter', () => {
  const files = readdirSync(join(root, 'docs/tour/figures')).filter(file => file.endsWith('.svg'))
  assert.equal(
    files.sort(),
    Object.keys(figures)
      .map(name => `${name}.svg`)
      .sort(),
  )
  const shown = new Set(pagesWithCode().flatMap(page => localLinks(read(page))))
  assert.equal(
    files.filter(file => !shown.has(`figures/${file}`)),
    [],
  )
})

test.run()
