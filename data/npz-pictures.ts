/**
 * Pictures in NumPy's .npz, as ADM's sample and reference batches have them: arr_0 (npz-pixels.ts) and, where there
 * are labels, arr_1 (N) [ADM]. Needs Node. Of a file without compression a picture is read when it is asked for; a
 * compressed one is gone through once, and its pictures are kept at the size that is wanted. Never flipped: of what is in
 * such a file nothing is known. The file itself: npz.ts.
 */

import { existsSync } from 'node:fs'
import { NpzFile } from '../io/npz.ts'
import { UserError } from '../io/user-error.ts'
import { type ImageDataset, planesOf } from './dataset.ts'
import { npzPixels, pictures } from './npz-pixels.ts'
import { numbered, rawDataset } from './raw.ts'
import { centerCrop } from './resize.ts'
import type { OpenOptions } from './unreadable.ts'

const classes = 'arr_1'
/** Classes that a label may tell of: 0 to one less. */
const mostClasses = 2 ** 16
/** Bytes of pictures of a compressed file that are kept in memory at most. */
const mostBytes = 2 ** 31

/** The set in an .npz or .npy, at `size`. Rejects with UserError, and with one line on a damaged file as NpzFile does. */
export async function openNpz(path: string, size: number, { report }: OpenOptions = {}): Promise<ImageDataset> {
  if (!existsSync(path)) throw new UserError(`${path}: expected an .npz file: no such file`)
  const file = await NpzFile.open(path)
  const { count, height, width, rgb } = await npzPixels(file, report)
  const { labels, known } = await labelsOf(file, count)
  const about = { name: `npz:${path}`, classes: known, flips: false, labels }
  const pixels = (row: Uint8Array) => ({ data: rgb(row), width, height })
  const set = rawDataset({ ...about, picture: i => pixels(file.row(pictures, i)) }, size)
  if (file.isStored(pictures)) return set
  const area = 3 * size * size
  if (count * area > mostBytes)
    throw new UserError(
      `${path}: ${count} pictures of ${size} px take more than 2 GiB: expected a file without compression`,
    )
  const kept: Uint8Array[] = []
  for await (const row of file.rows(pictures)) kept.push(planesOf(centerCrop(pixels(row), size).data, 3))
  file.close()
  return { ...set, pixels: i => kept[i] }
}

async function labelsOf(file: NpzFile, count: number): Promise<{ labels: ArrayLike<number>; known: string[] }> {
  if (!file.arrays.has(classes)) return { labels: new Uint8Array(count), known: ['pictures'] }
  const { shape } = file.header(classes)
  const where = `${file.path}: ${classes}`
  if (shape.length !== 1 || shape[0] !== count)
    throw new UserError(`${where}: expected [${count}] labels, got [${shape.join(', ')}]`)
  const labels = (await file.read(classes)).data
  const wrong = labels.findIndex(label => !(Number.isInteger(label) && label >= 0 && label < mostClasses))
  if (wrong >= 0) throw new UserError(`${where}: expected labels from 0 to ${mostClasses - 1}, got ${labels[wrong]}`)
  let last = 0
  for (const label of labels) last = Math.max(last, label)
  return { labels, known: numbered(last + 1) }
}
