/**
 * IDX files, as MNIST and its relatives have [MNIST]: a magic number, sizes, and bytes; gzipped or not. Needs Node.
 * Pictures are grey, and become red, green and blue of the same value. Never flipped: digits and letters have a handedness.
 */

import { existsSync, type ReadStream, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { createGunzip } from 'node:zlib'
import { streamFile } from '../io/open-node.ts'
import { reason, UserError } from '../io/user-error.ts'
import type { ImageDataset } from './dataset.ts'
import { numbered, rawDataset } from './raw.ts'

/** The training set in a folder of MNIST, Fashion-MNIST, …, at `size`. Rejects with UserError. */
export async function openMnist(folder: string, size: number): Promise<ImageDataset> {
  const names = ['train-images-idx3-ubyte', 'train-images.idx3-ubyte'].flatMap(name => [name, `${name}.gz`])
  const found = names.map(name => join(folder, name)).find(path => existsSync(path))
  if (found === undefined) throw new UserError(`${folder}: expected ${names[0]} or ${names[1]}, got neither`)
  return { ...(await openIdx(found, size)), name: `mnist:${folder}` }
}

/**
 * The pictures of an IDX file at `size`. Their labels are in the file of the same name with 'labels-idx1' in place of
 * 'images-idx3'; where there is none, all are of one class. Rejects with UserError.
 */
export async function openIdx(path: string, size: number): Promise<ImageDataset> {
  const images = await readIdx(path, 3)
  const [count, height, width] = images.sizes
  if (count * height * width === 0) throw new UserError(`${path}: expected pictures, got [${images.sizes.join(', ')}]`)
  const beside = labelsOf(path)
  const labels = beside === undefined ? new Uint8Array(count) : (await readIdx(beside, 1)).data
  if (labels.length !== count) throw new UserError(`${beside}: expected ${count} labels, got ${labels.length}`)
  const area = height * width
  return rawDataset(
    {
      name: `idx:${path}`,
      classes: beside === undefined ? [basename(path)] : numbered(labels.reduce((a, b) => Math.max(a, b), 0) + 1),
      flips: false,
      labels,
      picture: i => {
        const data = new Uint8Array(3 * area)
        for (let k = 0; k < 3 * area; k++) data[k] = images.data[i * area + Math.floor(k / 3)]
        return { data, width, height }
      },
    },
    size,
  )
}

/** Where the labels of these pictures are, with or without .gz. */
function labelsOf(path: string): string | undefined {
  const name = basename(path).replace('images', 'labels').replace('idx3', 'idx1').replace(/\.gz$/, '')
  if (name === basename(path).replace(/\.gz$/, '')) return undefined
  return [name, `${name}.gz`].map(each => join(dirname(path), each)).find(each => existsSync(each))
}

/** Deflate makes at most this many bytes of one. */
const largestRatio = 1032

/** The bytes of an IDX file with this many sizes. Rejects with UserError. */
async function readIdx(path: string, axes: number): Promise<{ sizes: number[]; data: Uint8Array }> {
  const begin = 4 + 4 * axes
  let head = new Uint8Array(0)
  let sizes: number[] = []
  let data = new Uint8Array(0)
  let filled = 0
  try {
    const zipped = path.endsWith('.gz')
    const source = streamFile(path)
    const largest = statSync(path).size * (zipped ? largestRatio : 1)
    for await (let part of zipped ? unzipped(source) : source) {
      if (head.length < begin) {
        const some = part.subarray(0, begin - head.length)
        head = Buffer.concat([head, some])
        part = part.subarray(some.length)
        if (head.length < begin) continue
        sizes = sizesOf(head, axes, path)
        const wanted = sizes.reduce((product, n) => product * n, 1)
        if (!(begin + wanted <= largest && wanted < 2 ** 31))
          throw new UserError(
            `${path}: expected [${sizes.join(', ')}] bytes, got a file of at most ${largest}: cut short`,
          )
        data = new Uint8Array(wanted)
      }
      if (part.length > data.length - filled)
        throw new UserError(`${path}: expected ${data.length} bytes for [${sizes.join(', ')}], got more`)
      data.set(part, filled)
      filled += part.length
    }
  } catch (error) {
    if (error instanceof UserError) throw error
    throw new UserError(`${path}: expected an IDX file: ${reason(error)}`)
  }
  if (head.length === begin && filled === data.length) return { sizes, data }
  throw new UserError(`${path}: expected ${begin + data.length} bytes, got ${head.length + filled}: it is cut short`)
}

async function* unzipped(source: ReadStream): AsyncGenerator<Uint8Array> {
  const unzip = createGunzip()
  source.once('error', error => unzip.destroy(error))
  try {
    yield* source.pipe(unzip)
  } finally {
    source.destroy()
    unzip.destroy()
  }
}

function sizesOf(head: Uint8Array, axes: number, path: string): number[] {
  const view = new DataView(head.buffer, head.byteOffset, head.length)
  if (view.getUint32(0) !== 0x800 + axes)
    throw new UserError(
      `${path}: expected an IDX file of bytes with ${axes} sizes, got one that begins with ${head.subarray(0, 4).join(' ')}`,
    )
  return Array.from({ length: axes }, (_, i) => view.getUint32(4 + 4 * i))
}
