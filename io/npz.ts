/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Arrays of NumPy on disk, .npz and .npy. Needs Node. ADM's sample and reference batches are such files: arr_0 has
 * pictures (N, H, W, 3) as bytes, arr_1 their labels (N) [ADM]. Arrays are read and written in parts, so that a batch of
 * 50,000 pictures never lies in memory. The header of an array is npy.ts; the container, io/zip-node.ts.
 */

import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ZipFile as ZipWriter } from 'yazl'
import { show, sizeOf } from '../core/shape.ts'
import { writeAside } from './aside.ts'
import { encodeNpyHeader, largestNpyHeader, type NpyHeader, parseNpyHeader } from './npy.ts'
import { type HostTensor, SafetensorsError, safetensorsBytes } from './safetensors.ts'
import { decodeElements, encodeElements } from './safetensors-elements.ts'
import { type ZipEntry, ZipFile } from './zip-node.ts'

/** An array to be written: its elements, or what gives them when it is their turn, in parts that stay as they are. */
export type NpzSource = HostTensor<ArrayLike<number> | (() => AsyncIterable<ArrayLike<number>>)>

/** Bytes of an array that `read` takes into memory: what one typed array holds everywhere. */
const largestArray = 2 ** 31

/** An open .npz whose headers were read. `close` it, or declare it with `using`. */
export class NpzFile {
  readonly path: string
  /** By name: arr_0, not arr_0.npy. */
  readonly arrays: ReadonlyMap<string, NpyHeader>
  readonly #zip: ZipFile
  readonly #entries: ReadonlyMap<string, ZipEntry>

  private constructor(zip: ZipFile, entries: ReadonlyMap<string, ZipEntry>, arrays: ReadonlyMap<string, NpyHeader>) {
    this.path = zip.path
    this.#zip = zip
    this.#entries = entries
    this.arrays = arrays
  }

  /** Rejects with ZipError or SafetensorsError on a file that is damaged or holds what is no array of numbers. */
  static async open(path: string): Promise<NpzFile> {
    const zip = await ZipFile.open(path)
    try {
      const entries = new Map<string, ZipEntry>()
      const arrays = new Map<string, NpyHeader>()
      for (const entry of zip.entries.values()) {
        if (!entry.name.endsWith('.npy'))
          throw new SafetensorsError(
            `${path}: wanted arrays (.npy) only, got ${JSON.stringify(entry.name.slice(0, 80))}`,
          )
        const name = entry.name.slice(0, -'.npy'.length)
        entries.set(name, entry)
        arrays.set(name, parseNpyHeader(await firstBytes(zip, entry), entry.size, `${path}: ${name}`))
      }
      return new NpzFile(zip, entries, arrays)
    } catch (error) {
      zip.close()
      throw error
    }
  }

  /** An array, decoded (`decodeElements`). Rejects with ZipError, or SafetensorsError on one of 2 GiB or more. */
  async read(name: string): Promise<HostTensor> {
    const { dtype, shape, begin } = this.header(name)
    const { size } = this.#entries.get(name)!
    const where = `${this.path}: ${name}`
    if (size >= largestArray) throw new SafetensorsError(`${where}: wanted less than 2 GiB at once, got ${size} bytes`)
    const parts: Uint8Array[] = []
    for await (const part of this.#zip.stream(this.#entries.get(name)!)) parts.push(part)
    const bytes = Buffer.concat(parts).subarray(begin)
    return { dtype, shape, data: decodeElements(dtype, bytes, where) }
  }

  /** The rows of an array along its first axis, in order, each as the bytes that it is stored as. */
  async *rows(name: string): AsyncGenerator<Uint8Array> {
    const { begin } = this.header(name)
    const { rows, rowBytes } = this.#rowsOf(name)
    if (rows === 0 || rowBytes === 0) return
    let row = new Uint8Array(rowBytes)
    let filled = -begin // the header is skipped as if it were in front of the first row
    for await (const part of this.#zip.stream(this.#entries.get(name)!))
      for (let at = 0; at < part.length; ) {
        const some = Math.min(part.length - at, filled < 0 ? -filled : rowBytes - filled)
        if (filled >= 0) row.set(part.subarray(at, at + some), filled)
        at += some
        filled += some
        if (filled < rowBytes) continue
        yield row
        row = new Uint8Array(rowBytes)
        filled = 0
      }
  }

  /** Whether `row` can reach into an array: not where it is compressed. */
  isStored(name: string): boolean {
    this.header(name)
    return !this.#entries.get(name)!.deflated
  }

  /** Row `i` of an array that `isStored`, as bytes. The first call goes through the array once, for its checksum. */
  row(name: string, i: number): Uint8Array {
    const { begin } = this.header(name)
    const { rows, rowBytes } = this.#rowsOf(name)
    if (!(i >= 0 && i < rows)) throw new SafetensorsError(`${this.path}: ${name}: wanted a row below ${rows}, got ${i}`)
    return this.#zip.read(this.#entries.get(name)!, begin + i * rowBytes, begin + (i + 1) * rowBytes)
  }

  /** What is known of an array. Throws SafetensorsError where there is none of that name. */
  header(name: string): NpyHeader {
    const header = this.arrays.get(name)
    if (header !== undefined) return header
    throw new SafetensorsError(`${this.path}: wanted an array ${name}, got ${[...this.arrays.keys()].join(', ')}`)
  }

  close(): void {
    this.#zip.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #rowsOf(name: string): { rows: number; rowBytes: number } {
    const { dtype, shape } = this.header(name)
    if (shape.length === 0) throw new SafetensorsError(`${this.path}: ${name}: wanted an array with rows, got a number`)
    return { rows: shape[0], rowBytes: sizeOf(shape.slice(1)) * safetensorsBytes[dtype] }
  }
}

async function firstBytes(zip: ZipFile, entry: ZipEntry): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const part of zip.stream(entry)) {
    parts.push(part)
    length += part.length
    if (length >= largestNpyHeader) break
  }
  return Buffer.concat(parts)
}

/** All arrays of an .npz. Rejects as NpzFile does. */
export async function readNpz(path: string): Promise<Map<string, HostTensor>> {
  using file = await NpzFile.open(path)
  const arrays = new Map<string, HostTensor>()
  for (const name of file.arrays.keys()) arrays.set(name, await file.read(name))
  return arrays
}

/**
 * Writes an .npz without compression, as numpy.savez does; the same arrays give the same bytes. It appears whole, or not
 * at all. Rejects with SafetensorsError where elements do not fit shape or type, and UserError where the disk refuses.
 */
export async function writeNpz(path: string, arrays: ReadonlyMap<string, NpzSource>): Promise<void> {
  await writeAside(path, async aside => {
    const zip = new ZipWriter()
    const failed = new Promise<never>((_, reject) => zip.on('error', reject))
    for (const [name, source] of arrays) {
      const parts = Readable.from(encoded(`${path}: ${name}`, source), { objectMode: false })
      parts.on('error', error => zip.emit('error', error))
      zip.addReadStream(parts, `${name}.npy`, { compress: false, mtime: new Date(1980, 0, 1) })
    }
    zip.end()
    await Promise.race([pipeline(zip.outputStream, createWriteStream(aside)), failed])
  })
}

/** The bytes of an array in parts of at most a megabyte, so that writing keeps up. */
async function* encoded(where: string, { dtype, shape, data }: NpzSource): AsyncGenerator<Uint8Array> {
  yield encodeNpyHeader(dtype, shape)
  const wanted = sizeOf(shape)
  let got = 0
  for await (const elements of typeof data === 'function' ? data() : [data]) {
    got += elements.length
    if (got > wanted) break
    const bytes = encodeElements(dtype, elements, where)
    for (let at = 0; at < bytes.length; at += 2 ** 20) yield bytes.subarray(at, at + 2 ** 20)
  }
  if (got !== wanted)
    throw new SafetensorsError(
      `${where}: wanted ${wanted} elements for ${show(shape)}, got ${got > wanted ? 'more' : got}`,
    )
}
