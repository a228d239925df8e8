/**
 * Writes what the playground shows before anyone has computed anything, to docs/public/playground: the smileys as bytes, and
 * the names of their classes. Part of `npm run site:build`. Needs Node. The pictures are Twemoji, CC-BY 4.0. The model beside
 * them, mdt-tiny.safetensors, was made by the commands that docs/playground/index.md has.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openEmoji } from '../../data/emoji.ts'
import { root } from '../regions.ts'
import type { SmileysHeader } from './smileys.ts'

export async function writeSmileys(): Promise<void> {
  const { length, size, classes, label, pixels } = await openEmoji('smileys', 16)
  const pictures = await Promise.all(Array.from({ length }, (_, i) => pixels(i)))
  const header: SmileysHeader = { size, classes, labels: pictures.map((_, i) => label(i)) }
  const folder = join(root, 'docs/public/playground')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'smileys.json'), JSON.stringify(header))
  writeFileSync(join(folder, 'smileys.bin'), Buffer.concat(pictures))
}
