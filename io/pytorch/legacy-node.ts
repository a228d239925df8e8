/**
 * The format that torch.save wrote before PyTorch 1.6, and writes without its ZIP container: pickles of a magic number, of a version,
 * of the machine and of what was saved; then a pickle with the keys of the storages; then each storage, as its number of
 * elements and these, little-endian [torch/serialization.py, _legacy_save]. Needs Node.
 */

import { closeSync } from 'node:fs'
import { openRegular, readBytes } from '../open-node.ts'
import type { Saved } from '../pytorch-node.ts'
import { quote } from '../safetensors-elements.ts'
import { largestPickle, PickleCutShort, PickleError, unpickleAt } from './pickle.ts'
import { rebuilder, type Storage } from './rebuild.ts'
import { elementBytes } from './stored-tensor.ts'

const version = 1001
/** Bytes that are read for the pickles at first; twice as many where they do not suffice. */
const atFirst = 2 ** 20

/** Reads the pickles of a file that begins with the magic number, and where its storages are. Throws PickleError. */
export function openLegacy(path: string): Saved {
  const { descriptor, size } = openRegular(path)
  try {
    const { root, keys, storages, end } = readPickles(path, descriptor, size)
    const places = placesOf(path, descriptor, size, end, keys, storages)
    return {
      root,
      bigEndian: false,
      bytes(tensor, where) {
        const place = places.get(tensor.storage)
        if (place === undefined) throw new PickleError(`${where}: expected storage ${quote(tensor.storage)}, got none`)
        return readBytes(descriptor, place + tensor.begin, place + tensor.end)
      },
      close: () => closeSync(descriptor),
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
}

interface Pickles {
  readonly root: unknown
  readonly keys: readonly string[]
  readonly storages: ReadonlyMap<string, Storage>
  /** Where the storages begin. */
  readonly end: number
}

/** The pickles, of which the file does not say how long they are. */
function readPickles(path: string, descriptor: number, size: number): Pickles {
  for (let length = atFirst; ; length *= 2) {
    const all = length >= size || length >= largestPickle
    try {
      return parsePickles(path, readBytes(descriptor, 0, Math.min(length, size, largestPickle)))
    } catch (error) {
      if (all || !(error instanceof PickleCutShort)) throw error
    }
  }
}

function parsePickles(path: string, bytes: Uint8Array): Pickles {
  const storages = new Map<string, Storage>()
  const host = rebuilder(path, storages)
  const values: unknown[] = []
  let at = 0
  for (let i = 0; i < 5; i++) {
    if (bytes.length - at < 2) throw new PickleCutShort(`${path}: expected 5 pickles, got ${i}: it is cut short`)
    const { value, end } = unpickleAt(bytes, at, host, path)
    values.push(value)
    at = end
  }
  const [, written, , root, keys] = values
  if (written !== version)
    throw new PickleError(`${path}: expected version ${version} of the older format of PyTorch, got another`)
  if (!Array.isArray(keys) || !keys.every(key => typeof key === 'string'))
    throw new PickleError(`${path}: expected the keys of its storages, got another value`)
  return { root, keys, storages, end: at }
}

/** Where the elements of every storage begin. Throws PickleError where the file ends before, or counts differ. */
function placesOf(
  path: string,
  descriptor: number,
  size: number,
  begin: number,
  keys: readonly string[],
  storages: ReadonlyMap<string, Storage>,
): ReadonlyMap<string, number> {
  const places = new Map<string, number>()
  let at = begin
  for (const key of keys) {
    const where = `${path}: storage ${quote(key)}`
    const storage = storages.get(key)
    const unit = storage === undefined ? null : storage.dtype === null ? 1 : elementBytes(storage.dtype)
    if (storage === undefined || unit === null) {
      const got = storage === undefined ? 'one that no tensor names' : quote(storage.dtype!)
      throw new PickleError(`${where}: expected a type of elements that is known here, got ${got}`)
    }
    const bytes = storage.length * unit
    if (at + 8 + bytes > size)
      throw new PickleError(
        `${where}: expected ${8 + bytes} bytes, got ${Math.max(size - at, 0)}: the file is cut short`,
      )
    const head = readBytes(descriptor, at, at + 8)
    const count = new DataView(head.buffer).getBigUint64(0, true)
    if (count !== BigInt(storage.length))
      throw new PickleError(`${where}: expected ${storage.length} elements, got ${count}`)
    places.set(key, at + 8)
    at += 8 + bytes
  }
  return places
}
