/**
 * The tour's figures show what the package computes: each is drawn again and compared with its file, numbers and pixels within
 * the last digit. Every chapter has two figures
 * or more. Needs Node.
 */

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { pagesWithCode } from '../../site/code.ts'
import { figures, pathOf } from '../../site/figures/index.ts'
import { widest } from '../../site/figures/svg.ts'
import { recorded } from '../../site/figures/training.ts'
import { train, variants } from '../../site/figures/training-runs.ts'
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
    assert.ok(file.text === now.text, 'the drawing differs: npm run docs:figures draws it again')
    const far = now.numbers.filter((value, i) => !(Math.abs(value - file.numbers[i]) <= 0.011 + 1e-3 * Math.abs(value)))
    assert.equal(far, [], 'numbers that differ: npm run docs:figures draws them again')
    assert.is(file.pixels.length, now.pixels.length)
    const off = now.pixels.filter((value, i) => Math.abs(value - file.pixels[i]) > 2).length
    assert.is(off, 0, `${off} of ${now.pixels.length} bytes of pictures differ`)
    const width = Number(/ width="([\d.]+)"/.exec(read(pathOf(name)))![1])
    assert.ok(width <= widest, `${width} units wide, at most ${widest}`)
  })

test('recorded training runs begin as they would today', async () => {
  for (const name of ['good', 'too high', 'gradients kept', 'bytes'] as const) {
    const { losses, measured } = await train(variants[name], 3)
    const before = recorded()[name]
    for (const [i, loss] of losses.entries())
      assert.ok(Math.abs(loss / before.losses[i] - 1) < 2e-3, `${name}, step ${i}: ${loss}, was ${before.losses[i]}`)
    assert.ok(Math.abs(measured[0].heldOut / before.measured[0].heldOut - 1) < 2e-3, `${name}: held out`)
  }
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

test('every chapter has two figures or more, and tested solutions', () => {
  const chapters = pagesWithCode().filter(page => !page.endsWith('index.md'))
  assert.is(chapters.length, 12)
  for (const page of chapters) {
    const pictures = localLinks(read(page)).filter(target => /\.(svg|png)$/.test(target))
    assert.ok(new Set(pictures).size >= 2, `${page}: ${pictures.length} figures`)
    const solutions = page.replace('docs/tour', 'tests/exercises').replace('.md', '.test.ts')
    assert.ok(existsSync(join(root, solutions)), `${solutions} is missing`)
    assert.ok(localLinks(read(page)).includes(`../../${solutions}`), `${page} links to ${solutions}`)
  }
})

test.run()
