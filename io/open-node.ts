/** Opens and reads files without waiting: a pipe or a device is refused, not read. Needs Node. */

import { closeSync, constants, createReadStream, fstatSync, openSync, type ReadStream, readSync } from 'node:fs'
import { UserError } from './user-error.ts'

/** A descriptor of a regular file, and its size in bytes. Throws UserError on another kind, and Node's error. */
export function openRegular(path: string): { readonly descriptor: number; readonly size: number } {
  const descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)) // else a pipe waits for its writer
  const stat = fstatSync(descriptor)
  if (stat.isFile()) return { descriptor, size: stat.size }
  closeSync(descriptor)
  throw new UserError(`${path}: expected a file, got a folder or a device`)
}

/** Node refuses to move 2 GiB or more at once. */
export const largestTransfer = 2 ** 30

/** Bytes [begin, end) of an open file, fewer where it ends before. */
export function readBytes(descriptor: number, begin: number, end: number): Uint8Array {
  const bytes = new Uint8Array(end - begin)
  let done = 0
  while (done < bytes.length) {
    const part = Math.min(bytes.length - done, largestTransfer)
    const got = readSync(descriptor, bytes, done, part, begin + done)
    if (got === 0) return bytes.subarray(0, done)
    done += got
  }
  return bytes
}

/** The first bytes of a file, at most `length`. Throws as `openRegular`. */
export function firstBytes(path: string, length: number): Uint8Array {
  const { descriptor, size } = openRegular(path)
  try {
    return readBytes(descriptor, 0, Math.min(length, size))
  } finally {
    closeSync(descriptor)
  }
}

/** All bytes of a file. Throws as `openRegular`. */
export function wholeFile(path: string): Uint8Array {
  return firstBytes(path, Number.MAX_SAFE_INTEGER)
}

/** A file's text, which is UTF-8. Throws as `openRegular`. */
export function wholeText(path: string): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(wholeFile(path))
}

/** The bytes of a file in order, 1 MiB or less at a time. Throws as `openRegular`. */
export function streamFile(path: string): ReadStream {
  const { descriptor } = openRegular(path)
  return createReadStream('', { fd: descriptor, start: 0, highWaterMark: 2 ** 20 })
}
