/**
 * Fuzzed data sets: a ZIP of pictures, and a folder whose names, links and depth a file describes, so that changes of that
 * file are changes of the folder. Needs Node. Used by targets.ts.
 */

import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { classSources, type ImageDataset, openDataset } from '../../data/index.ts'
import { zipOf } from '../io/zip.ts'
import type { Target } from './targets.ts'

/** Reads the pictures of a set, eight at most. */
export async function look(data: ImageDataset): Promise<void> {
  for (let i = 0; i < Math.min(data.length, 8); i++) {
    data.label(i)
    await data.pixels(i)
  }
}

const quiet = { report: () => {} }

const png = (grey: number) =>
  sharp(new Uint8Array(12).fill(grey), { raw: { width: 2, height: 2, channels: 3 } })
    .png()
    .toBuffer()

/** A folder, one entry a line: its kind, its path, and for a link its target. */
const plan = `picture cat/2020/a_1.png
picture cat/2020/b_2.jpeg
picture dog/a_1.png
picture dog/.hidden/a_3.png
picture __MACOSX/._1.png
picture caf\xe9/caf\xe9_4.gif
picture dog/b_2.webp
text dog/notes.txt
text cat/a_5.png
empty dog/b_6.tif
link dog/loop .
link cat/up ../dog
link eel cat/2020
link dog/a_7.png nowhere
folder fox
`

/** Entries of a plan are a few, and short: the folder is made anew for every case. */
const [mostEntries, mostParts, longestPart] = [32, 6, 200]

/** Makes the folder that a plan describes. Nothing is written outside of it, and no link leads out. */
function grow(folder: string, bytes: Buffer, picture: Uint8Array): void {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  const pathOf = (parts: readonly string[]) => Buffer.from(parts.join('/'), 'latin1')
  for (const line of bytes.toString('latin1').split('\n').slice(0, mostEntries)) {
    const [kind, path = '', target = ''] = line.split(' ')
    const parts = partsOf(path)
    if (parts.length === 0) continue
    const up = parts.length > 1 && target.startsWith('../') ? ['..'] : []
    try {
      mkdirSync(pathOf([folder, ...parts.slice(0, -1)]), { recursive: true })
      const at = pathOf([folder, ...parts])
      if (kind === 'link') symlinkSync(pathOf(['.', ...up, ...partsOf(target)]), at)
      else if (kind === 'folder') mkdirSync(at)
      else writeFileSync(at, kind === 'picture' ? picture : kind === 'empty' ? '' : 'no picture')
    } catch {
      // A file is where a folder should be, or the file system refuses the name.
    }
  }
}

/** Names in a path, without those that lead elsewhere. */
function partsOf(path: string): string[] {
  const usable = (part: string) => !/^\.{0,2}$|\0/.test(part) && part.length <= longestPart
  return path.split('/').filter(usable).slice(0, mostParts)
}

export const dataTargets: readonly Target[] = [
  {
    name: 'zip',
    async seed(folder) {
      const names = ['00000/img00000000.png', '00000/img00000001.png', '00001/img00000002.png']
      const pictures = await Promise.all(names.map(async (name, i) => ({ name, data: await png(50 * i) })))
      const labels = JSON.stringify({ labels: names.map((name, i) => [name, i]) })
      const json = { name: 'dataset.json', data: Buffer.from(labels) }
      writeFileSync(join(folder, 'labelled.zip'), zipOf([...pictures, json]))
      writeFileSync(join(folder, 'plain.zip'), zipOf(pictures))
    },
    read: async (_, file) => look(await openDataset(`zip:${file}`, 4, quiet)),
  },
  {
    name: 'folder',
    async seed(folder) {
      writeFileSync(join(folder, 'plan'), plan, 'latin1')
    },
    async read(folder, file) {
      const tree = join(folder, 'tree')
      grow(tree, readFileSync(file), await png(7))
      const errors: unknown[] = []
      for (const classFrom of classSources)
        await openDataset(tree, 4, { ...quiet, classFrom })
          .then(look)
          .catch((error: unknown) => errors.push(error))
      if (errors.length > 0) throw errors[0]
    },
  },
]
