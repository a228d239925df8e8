/// <reference lib="esnext.disposable" preserve="true" />
/**
 * ZIP containers, as PyTorch and NumPy use them, read by offset. Needs Node. yauzl reads the directory, with ZIP64, and
 * refuses names that lead out of the archive; what is here is what it leaves to its caller: entries must not overlap or
 * share a name, an entry's bytes are read at their place and never all at once, and checksums are checked. A container
 * comes from anywhere, so no size is believed that the file's length does not justify.
 */

import { closeSync } from 'node:fs'
import { Readable } from 'node:stream'
import { crc32, createInflateRaw } from 'node:zlib'
import type { Entry } from 'yauzl'
import { aString, check } from '../core/arguments.ts'
import { openRegular, readBytes } from './open-node.ts'

/** A container that is not what it should be, on one line. */
export class ZipError extends Error {
  override name = 'ZipError'
}

/** A file in a zip archive. */
export interface ZipEntry {
  readonly name: string
  /** Where its bytes begin in the file, and how many there are. */
  readonly begin: number
  readonly stored: number
  /** Bytes once inflated; `stored` where it is not compressed. */
  readonly size: number
  readonly deflated: boolean
  readonly crc32: number
}

/** Bytes that are read at a time when an entry is gone through. */
const chunk = 2 ** 20
/** Deflate makes at most this many bytes of one. */
const largestRatio = 1032

/** An open container whose directory was checked. `close` it, or declare it with `using`. */
export class ZipFile {
  readonly path: string
  readonly entries: ReadonlyMap<string, ZipEntry>
  readonly #descriptor: number
  readonly #checked = new Set<ZipEntry>()

  private constructor(path: string, descriptor: number, entries: ReadonlyMap<string, ZipEntry>) {
    this.path = path
    this.#descriptor = descriptor
    this.entries = entries
  }

  /** Rejects with ZipError on a directory that is wrong, and Node's error on a file that cannot be opened. */
  static async open(path: string): Promise<ZipFile> {
    check('ZipFile.open', 'path', path, aString)
    const { descriptor, size } = openRegular(path)
    try {
      return new ZipFile(path, descriptor, await readDirectory(path, descriptor, size))
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
  }

  /** Bytes [begin, end) of an entry that is not compressed; its checksum is checked when it is first read. */
  read(entry: ZipEntry, begin = 0, end = entry.size): Uint8Array {
    this.#mustBeStored(entry)
    if (begin < 0 || end > entry.size || begin > end)
      throw new ZipError(`${this.#where(entry)}: expected bytes ${begin} to ${end}, got ${entry.size}`)
    const whole = begin === 0 && end === entry.size
    if (!whole && !this.#checked.has(entry)) this.#check(entry)
    const bytes = this.#at(entry.begin + begin, end - begin)
    if (whole && !this.#checked.has(entry)) this.#compare(entry, crc32(bytes))
    return bytes
  }

  /** The bytes of an entry, inflated, in order and in parts. Rejects with ZipError where size or checksum are not met. */
  async *stream(entry: ZipEntry): AsyncGenerator<Uint8Array> {
    let size = 0
    let sum = 0
    try {
      for await (const part of entry.deflated ? inflate(this.#chunks(entry)) : this.#chunks(entry)) {
        size += part.length
        if (size > entry.size) break
        sum = crc32(part, sum)
        yield part
      }
    } catch (error) {
      if (error instanceof ZipError || !/^Z_/.test((error as NodeJS.ErrnoException).code ?? '')) throw error
      throw new ZipError(`${this.#where(entry)}: expected deflated bytes: ${(error as Error).message}`)
    }
    if (size !== entry.size)
      throw new ZipError(
        `${this.#where(entry)}: expected ${entry.size} bytes, got ${size > entry.size ? 'more' : size}`,
      )
    this.#compare(entry, sum)
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.#descriptor)
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close()
  }

  #where(entry: ZipEntry): string {
    return `${this.path}: ${printable(entry.name)}`
  }

  #mustBeStored(entry: ZipEntry): void {
    if (entry.deflated)
      throw new ZipError(`${this.#where(entry)}: expected an entry without compression, got a deflated one`)
  }

  *#chunks(entry: ZipEntry): Generator<Uint8Array> {
    for (let at = 0; at < entry.stored; at += chunk)
      yield this.#at(entry.begin + at, Math.min(chunk, entry.stored - at))
  }

  #check(entry: ZipEntry): void {
    let sum = 0
    for (const part of this.#chunks(entry)) sum = crc32(part, sum)
    this.#compare(entry, sum)
  }

  #compare(entry: ZipEntry, sum: number): void {
    const hex = (n: number) => n.toString(16).padStart(8, '0')
    if (sum !== entry.crc32)
      throw new ZipError(`${this.#where(entry)}: expected checksum ${hex(entry.crc32)}, got ${hex(sum)}: it is damaged`)
    this.#checked.add(entry)
  }

  #at(position: number, length: number): Uint8Array {
    const bytes = readBytes(this.#descriptor, position, position + length)
    if (bytes.length === length) return bytes
    throw new ZipError(`${this.path}: expected ${length} bytes at ${position}, got ${bytes.length}: it shrank`)
  }
}

async function* inflate(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = Readable.from(chunks, { objectMode: false })
  const inflater = createInflateRaw()
  source.once('error', error => inflater.destroy(error))
  try {
    yield* source.pipe(inflater)
  } finally {
    source.destroy()
    inflater.destroy()
  }
}

async function readDirectory(path: string, descriptor: number, fileSize: number): Promise<Map<string, ZipEntry>> {
  const entries = new Map<string, ZipEntry>()
  const places: { readonly begin: number; readonly end: number; readonly name: string }[] = []
  try {
    const { openDirectory } = await import('./zip-directory-node.ts') // loads yauzl
    const zip = await openDirectory(descriptor, fileSize)
    for await (const entry of zip.eachEntry()) {
      checkEntry(path, entry, fileSize)
      if (entries.has(entry.fileName)) throw new ZipError(`${path}: ${printable(entry.fileName)}: two entries have it`)
      const { fileDataStart: begin } = await zip.readLocalFileHeaderPromise(entry, { minimal: true })
      const { fileName: name, compressedSize: stored, uncompressedSize: size, compressionMethod } = entry
      entries.set(name, { name, begin, stored, size, deflated: compressionMethod === 8, crc32: entry.crc32 })
      places.push({ begin: entry.relativeOffsetOfLocalHeader, end: begin + stored, name })
    }
  } catch (error) {
    if (error instanceof ZipError || (error as NodeJS.ErrnoException).syscall !== undefined) throw error
    throw new ZipError(
      `${path}: expected a ZIP container, got one that is damaged: ${printable((error as Error).message)}`,
    )
  }
  places.sort((a, b) => a.begin - b.begin)
  for (let i = 1; i < places.length; i++)
    if (places[i].begin < places[i - 1].end)
      throw new ZipError(`${path}: ${printable(places[i].name)} and ${printable(places[i - 1].name)} overlap`)
  return entries
}

function checkEntry(path: string, entry: Entry, fileSize: number): void {
  const where = `${path}: ${printable(entry.fileName)}`
  const { compressionMethod: method, compressedSize, uncompressedSize } = entry
  if (entry.isEncrypted()) throw new ZipError(`${where}: it is encrypted`)
  if (method !== 0 && method !== 8) throw new ZipError(`${where}: expected compression 0 or 8, got ${method}`)
  if (compressedSize > fileSize || uncompressedSize > largestRatio * compressedSize)
    throw new ZipError(`${where}: it claims ${uncompressedSize} bytes of ${compressedSize} in a file of ${fileSize}`)
}

/** A name or message from a file on one line, and not too long. */
function printable(text: string): string {
  return JSON.stringify(text).slice(1, -1).slice(0, 160)
}
