/**
 * CIFAR-10 and CIFAR-100 in their binary version [CIFAR]: records of a label, or a coarse and a fine one, and 3 planes of
 * 32 × 32 bytes. Needs Node. A folder gives the training set, one file what is in it, test_batch.bin too.
 */

import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { wholeFile, wholeText } from '../io/open-node.ts'
import { reason, UserError } from '../io/user-error.ts'
import type { ImageDataset } from './dataset.ts'
import { numbered, rawDataset } from './raw.ts'

const kinds = {
  cifar10: {
    files: [1, 2, 3, 4, 5].map(i => `data_batch_${i}.bin`),
    within: 'cifar-10-batches-bin',
    labelBytes: 1,
    classes: 10,
    names: 'batches.meta.txt',
  },
  cifar100: {
    files: ['train.bin'],
    within: 'cifar-100-binary',
    labelBytes: 2,
    classes: 100,
    names: 'fine_label_names.txt',
  },
} as const

const side = 32
const area = side * side

/** The pictures of `path`, a folder or a .bin file, at `size`; the fine labels of CIFAR-100. Throws UserError. */
export function openCifar(kind: keyof typeof kinds, path: string, size: number): ImageDataset {
  const { files, within, labelBytes, classes, names } = kinds[kind]
  const isFile = statSync(path, { throwIfNoEntry: false })?.isFile() === true
  const folder = isFile ? dirname(path) : existsSync(join(path, within)) ? join(path, within) : path
  const paths = isFile ? [path] : files.map(file => join(folder, file))
  const record = labelBytes + 3 * area
  const batches = paths.map(each => readBatch(each, record))
  const starts = batches.flatMap(bytes =>
    Array.from({ length: bytes.length / record }, (_, i) => ({ bytes, at: i * record + labelBytes })),
  )
  const labels = starts.map(({ bytes, at }) => bytes[at - 1])
  const wrong = labels.findIndex(label => label >= classes)
  if (wrong >= 0)
    throw new UserError(
      `${path}: picture ${wrong}: expected a label below ${classes}, got ${labels[wrong]}: not of ${kind}`,
    )
  return rawDataset(
    {
      name: `${kind}:${path}`,
      classes: classNames(join(folder, names), classes),
      flips: true,
      labels,
      picture: i => {
        const { bytes, at } = starts[i]
        const data = new Uint8Array(3 * area)
        for (let c = 0; c < 3; c++) for (let k = 0; k < area; k++) data[3 * k + c] = bytes[at + c * area + k]
        return { data, width: side, height: side }
      },
    },
    size,
  )
}

function readBatch(path: string, record: number): Uint8Array {
  let bytes: Uint8Array
  try {
    bytes = wholeFile(path)
  } catch (error) {
    if (error instanceof UserError) throw error
    const python = existsSync(path.replace(/\.bin$/, '')) ? ' (there is the Python version)' : ''
    throw new UserError(`${path}: expected a file of the binary version: ${reason(error)}${python}`)
  }
  if (bytes.length > 0 && bytes.length % record === 0) return bytes
  throw new UserError(
    `${path}: expected records of ${record} bytes, got ${bytes.length} bytes: cut short, or another file`,
  )
}

/** One name a line. Numbers where there is no such file. */
function classNames(path: string, count: number): readonly string[] {
  if (!existsSync(path)) return numbered(count)
  const lines = wholeText(path).split('\n')
  const names = lines.map(line => line.trim()).filter(line => line !== '')
  if (names.length !== count) throw new UserError(`${path}: expected ${count} names, got ${names.length}`)
  return names
}
