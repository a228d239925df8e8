/**
 * The emoji of npm `emoji-datasource-twitter`, a data set that comes with `npm ci`. Needs Node. The graphics are Twemoji,
 * © Twitter, Inc and other contributors, licensed CC-BY 4.0. They are drawn over white and area-averaged from 64 px. The
 * five plain skin-tone swatches (category 'Component') are left out. Decoded pictures are kept in the user's cache
 * directory, under the checksum of the package's files.
 */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { aCount, check, oneOf } from '../core/arguments.ts'
import { readCached, writeCached } from '../io/cache-node.ts'
import { UserError } from '../io/user-error.ts'
import type { ImageDataset } from './dataset.ts'

/** One picture of emoji.json: where it is on the sheet. */
interface Picture {
  readonly sheet_x: number
  readonly sheet_y: number
  readonly has_img_twitter: boolean
}

interface Emoji extends Picture {
  readonly category: string
  readonly subcategory: string
  readonly skin_variations?: Readonly<Record<string, Picture>>
}

const emojiSets = ['smileys', 'others', 'all'] as const
/** A part of the emoji, by their category. */
export type EmojiSet = (typeof emojiSets)[number]

const pictureSize = 64
/** The sheet's pictures have a border of one transparent pixel each. */
const cell = pictureSize + 2

/**
 * `smileys`: the 169 of category 'Smileys & Emotion', class = subcategory. `all`: 3,781 with skin tones, class =
 * category. `others`: those that are no smileys, class = category. Never flipped: letters, clocks, flags and tilted faces
 * have a handedness. Throws UserError on a size that does not divide 64, or where the package is not installed.
 */
export async function openEmoji(set: EmojiSet, size: number): Promise<ImageDataset> {
  check('openEmoji', 'set', set, oneOf(emojiSets))
  check('openEmoji', 'size', size, aCount)
  if (pictureSize % size !== 0) throw new UserError(`emoji: expected a size that divides ${pictureSize}, got ${size}`)
  const { labels, groups, classes, pixels } = await decodedSet(set, size)
  const each = 3 * size * size
  return {
    name: set === 'all' ? 'emoji' : `emoji:${set}`,
    length: labels.length,
    size,
    channels: 3,
    classes,
    flips: false,
    label: i => labels[i],
    group: i => groups[i],
    pixels: i => pixels.subarray(i * each, (i + 1) * each),
  }
}

/** Pictures of a set: planes one after the other, and of each the class and the emoji without its skin tone. */
interface Decoded {
  readonly labels: readonly number[]
  readonly groups: readonly number[]
  readonly classes: readonly string[]
  readonly pixels: Uint8Array
}

/** Changes with the layout of a cached set and with what is computed. */
const cacheVersion = 2
/** Larger sets are not cached: bytes. */
const largestCached = 2 ** 24

/** The pictures of a set, from the cache where they are there. */
async function decodedSet(set: EmojiSet, size: number): Promise<Decoded> {
  const folder = packageFolder()
  const list = readFileSync(join(folder, 'emoji.json'))
  const sheet = readFileSync(join(folder, 'img/twitter/sheets/64.png'))
  const source = createHash('sha256').update(list).update(sheet).digest('hex')
  const name = `emoji-${cacheVersion}-${set}-${size}-${source.slice(0, 32)}`
  const cached = readCached(name)
  if (cached !== null) return unpacked(cached)
  const decoded = await decode(JSON.parse(list.toString()), sheet, set, size)
  if (decoded.pixels.length <= largestCached) await writeCached(name, packed(decoded))
  return decoded
}

/** The description as JSON, after its length, and the pixels. */
function packed({ labels, groups, classes, pixels }: Decoded): Uint8Array {
  const text = Buffer.from(JSON.stringify({ labels, groups, classes }))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([length, text, pixels])
}

function unpacked(bytes: Uint8Array): Decoded {
  const end = 4 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
  const { labels, groups, classes } = JSON.parse(Buffer.from(bytes.subarray(4, end)).toString())
  return { labels, groups, classes, pixels: bytes.subarray(end) }
}

async function decode(emoji: readonly Emoji[], png: Uint8Array, set: EmojiSet, size: number): Promise<Decoded> {
  const chosen = emoji
    .filter(({ category }) => inSet(set, category))
    .flatMap((each, base) =>
      [each, ...Object.values(each.skin_variations ?? {})]
        .filter(picture => picture.has_img_twitter)
        .map(picture => ({ picture, base, class: set === 'smileys' ? each.subcategory : each.category })),
    )
  const classes = [...new Set(chosen.map(each => each.class))].sort()
  const labels = chosen.map(each => classes.indexOf(each.class))
  const { default: sharp } = await import('sharp')
  const sheet = await sharp(png).ensureAlpha().raw().toBuffer({ resolveWithObject: true })
  const pixels = new Uint8Array(chosen.length * 3 * size * size)
  for (const [i, { picture }] of chosen.entries()) {
    const [top, left] = [picture.sheet_y * cell + 1, picture.sheet_x * cell + 1]
    pixels.set(averageOverWhite(sheet.data, sheet.info.width, top, left, size), i * 3 * size * size)
  }
  return { labels, groups: chosen.map(({ base }) => base), classes, pixels }
}

function inSet(set: EmojiSet, category: string): boolean {
  const isSmiley = category === 'Smileys & Emotion'
  if (set === 'smileys') return isSmiley
  return category !== 'Component' && (set === 'all' || !isSmiley)
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve('emoji-datasource-twitter/package.json'))
  } catch (error) {
    const install = 'npm install emoji-datasource-twitter'
    throw new UserError(`emoji: expected the package emoji-datasource-twitter, got none: ${install}`, { cause: error })
  }
}

/** The 64 px picture at (top, left) of an RGBA sheet, over white, each pixel the mean of a square: (3, size, size). */
export function averageOverWhite(
  rgba: Uint8Array,
  sheetWidth: number,
  top: number,
  left: number,
  size: number,
): Uint8Array {
  const factor = pictureSize / size
  const planes = new Uint8Array(3 * size * size)
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        let sum = 0
        for (let dy = 0; dy < factor; dy++)
          for (let dx = 0; dx < factor; dx++) {
            const at = 4 * ((top + y * factor + dy) * sheetWidth + left + x * factor + dx)
            sum += 255 * 255 + (rgba[at + c] - 255) * rgba[at + 3]
          }
        planes[(c * size + y) * size + x] = Math.round(sum / (255 * factor * factor))
      }
  return planes
}
