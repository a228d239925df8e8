/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Arrays of NumPy on disk, .npz and .npy. Needs Node. ADM's sample and reference batches are such files: arr_0 has
 * pictures (N, H, W, 3) as bytes, arr_1 their labels (N) [ADM]. Arrays are read and written in parts, so that a batch of
 * 50,000 pictures never lies in memory; only one in Fortran's order is, since its rows are scattered. The header of an
 * array is npy.ts; the container, zip-node.ts.
 */

import { closeSync, createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { aString, check, optional, strings } from '../core/arguments.ts'
import { show, sizeOf } from '../core/shape.ts'
import { writeAside } from './aside.ts'
import {
  decodeNpy,
  encodeNpyHeader,
  isNpy,
  largestNpyHeader,
  type NpyHeader,
  npyElementSize,
  orderedNpy,
  parseNpyHeader,
} from './npy.ts'
import { openRegular, readBytes } from './open-node.ts'
import { checkHostTensors, type HostTensor, type SafetensorsDType, SafetensorsError } from './safetensors.ts'
import { decodeElements, encodeElements } from './safetensors-elements.ts'
import { ZipFile } from './zip-node.ts'

/** An array to be written: its elements, or what gives them when it is their turn, in parts that stay as they are. */
export type NpzSource = HostTensor<ArrayLike<number> | (() => AsyncIterable<ArrayLike<number>>)>

/** Bytes of an array that `read` takes into memory: what one typed array holds everywhere. */
const largestArray = 2 ** 31

/** Bytes that are read at a time. */
const chunk = 2 ** 20

/** The bytes of one stored array, header first. */
interface ArrayBytes {
  readonly length: number
  /** True if `at` can read any part. */
  readonly random: boolean
  stream(): AsyncIterable<Uint8Array>
  /** Bytes [begin, end). */
  at(begin: number, end: number): Uint8Array
}

/** An open .npz, or one array alone (.npy) as arr_0, whose headers were read. `close` it, or declare it with `using`. */
export class NpzFile {
  readonly path: string
  /** By name: arr_0, not arr_0.npy. */
  readonly arrays: ReadonlyMap<string, NpyHeader>
  readonly #bytes: ReadonlyMap<string, ArrayBytes>
  readonly #close: () => void
  /** The array in Fortran's order whose rows were asked for last, in C order. */
  #reordered: { readonly name: string; readonly bytes: Uint8Array } | null = null

  private constructor(
    path: string,
    bytes: ReadonlyMap<string, ArrayBytes>,
    arrays: ReadonlyMap<string, NpyHeader>,
    close: () => void,
  ) {
    this.path = path
    this.#bytes = bytes
    this.arrays = arrays
    this.#close = close
  }

  /** Rejects with ZipError or SafetensorsError on a file that is damaged or holds what is no array. */
  static async open(path: string): Promise<NpzFile> {
    check('NpzFile.open', 'path', path, aString)
    const { bytes, close } = (await arrayAlone(path)) ?? (await arraysOfZip(path))
    try {
      const arrays = new Map<string, NpyHeader>()
      for (const [name, array] of bytes)
        arrays.set(name, parseNpyHeader(await firstBytes(array), array.length, `${path}: ${name}`))
      return new NpzFile(path, bytes, arrays, close)
    } catch (error) {
      close()
      throw error
    }
  }

  /** An array in C order, decoded (`decodeElements`). Rejects with ZipError, or SafetensorsError on one of 2 GiB or more. */
  async read(name: string): Promise<HostTensor> {
    const header = this.header(name)
    const where = `${this.path}: ${name}`
    npyElementSize(header, where) // a type that is not read, before its bytes are
    const data = decodeNpy(header, await this.#whole(name), where)
    return { dtype: header.dtype as SafetensorsDType, shape: header.shape, data }
  }

  /** The rows of an array along its first axis, in order, each as little-endian bytes in C order. */
  async *rows(name: string): AsyncGenerator<Uint8Array> {
    const { begin, fortran, bigEndian } = this.header(name)
    const { rows, rowBytes } = this.#rowsOf(name)
    if (rows === 0 || rowBytes === 0) return
    if (fortran || bigEndian) {
      const bytes = await this.#ordered(name)
      for (let at = 0; at < bytes.length; at += rowBytes) yield bytes.slice(at, at + rowBytes)
      return
    }
    let row = new Uint8Array(rowBytes)
    let filled = -begin // the header is skipped as if it were in front of the first row
    for await (const part of this.#bytes.get(name)!.stream())
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

  /** True if `row` can read any row: the array is not compressed, in C order and little-endian. */
  isStored(name: string): boolean {
    const { fortran, bigEndian } = this.header(name)
    return this.#bytes.get(name)!.random && !fortran && !bigEndian
  }

  /** Row `i` of an array that `isStored`, as bytes. The first call reads the whole array once, for its checksum. */
  row(name: string, i: number): Uint8Array {
    const { begin } = this.header(name)
    const { rows, rowBytes } = this.#rowsOf(name)
    if (!(i >= 0 && i < rows))
      throw new SafetensorsError(`${this.path}: ${name}: expected a row below ${rows}, got ${i}`)
    return this.#bytes.get(name)!.at(begin + i * rowBytes, begin + (i + 1) * rowBytes)
  }

  /** The elements of a row's bytes, as `rows` and `row` give them. Throws SafetensorsError. */
  decodeRow(name: string, row: Uint8Array): HostTensor['data'] {
    return decodeElements(this.header(name).dtype, row, `${this.path}: ${name}`)
  }

  /** Header of an array. Throws SafetensorsError if there is none of that name. */
  header(name: string): NpyHeader {
    const header = this.arrays.get(name)
    if (header !== undefined) return header
    throw new SafetensorsError(`${this.path}: expected an array ${name}, got ${[...this.arrays.keys()].join(', ')}`)
  }

  /** Closes the file. */
  close(): void {
    this.#close()
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close()
  }

  #rowsOf(name: string): { rows: number; rowBytes: number } {
    const header = this.header(name)
    const where = `${this.path}: ${name}`
    if (header.shape.length === 0) throw new SafetensorsError(`${where}: expected an array with rows, got a number`)
    return { rows: header.shape[0], rowBytes: sizeOf(header.shape.slice(1)) * npyElementSize(header, where) }
  }

  /** All elements, as they are stored. */
  async #whole(name: string): Promise<Uint8Array> {
    const array = this.#bytes.get(name)!
    const where = `${this.path}: ${name}`
    if (array.length >= largestArray)
      throw new SafetensorsError(`${where}: expected less than 2 GiB at once, got ${array.length} bytes`)
    const parts: Uint8Array[] = []
    for await (const part of array.stream()) parts.push(part)
    return Buffer.concat(parts).subarray(this.header(name).begin)
  }

  async #ordered(name: string): Promise<Uint8Array> {
    if (this.#reordered?.name !== name) {
      const bytes = orderedNpy(this.header(name), await this.#whole(name), `${this.path}: ${name}`)
      this.#reordered = { name, bytes }
    }
    return this.#reordered.bytes
  }
}

type OpenArrays = { readonly bytes: ReadonlyMap<string, ArrayBytes>; readonly close: () => void }

/** The arrays of a container. */
async function arraysOfZip(path: string): Promise<OpenArrays> {
  const zip = await ZipFile.open(path)
  const bytes = new Map<string, ArrayBytes>()
  for (const entry of zip.entries.values()) {
    if (!entry.name.endsWith('.npy')) {
      zip.close()
      throw new SafetensorsError(`${path}: expected arrays (.npy) only, got ${JSON.stringify(entry.name.slice(0, 80))}`)
    }
    bytes.set(entry.name.slice(0, -'.npy'.length), {
      length: entry.size,
      random: !entry.deflated,
      stream: () => zip.stream(entry),
      at: (begin, end) => zip.read(entry, begin, end),
    })
  }
  return { bytes, close: () => zip.close() }
}

/** The array of a .npy file, under the name that numpy.savez gives one without a name; null for another file. */
async function arrayAlone(path: string): Promise<OpenArrays | null> {
  const { descriptor, size } = openRegular(path)
  const at = (begin: number, end: number) => {
    const bytes = readBytes(descriptor, begin, end)
    if (bytes.length === end - begin) return bytes
    throw new SafetensorsError(`${path}: expected ${end - begin} bytes at ${begin}, got ${bytes.length}: it shrank`)
  }
  const close = () => closeSync(descriptor)
  try {
    if (isNpy(at(0, Math.min(size, 8)))) {
      const array: ArrayBytes = {
        length: size,
        random: true,
        async *stream() {
          for (let begin = 0; begin < size; begin += chunk) yield at(begin, Math.min(begin + chunk, size))
        },
        at,
      }
      return { bytes: new Map([['arr_0', array]]), close }
    }
  } catch (error) {
    close()
    throw error
  }
  close()
  return null
}

async function firstBytes(array: ArrayBytes): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const part of array.stream()) {
    parts.push(part)
    length += part.length
    if (length >= largestNpyHeader) break
  }
  return Buffer.concat(parts)
}

/** The arrays of numbers in an .npz: those called `names`, as far as it has them, or all. Rejects as NpzFile does. */
export async function readNpz(path: string, names?: readonly string[]): Promise<Map<string, HostTensor>> {
  check('readNpz', 'path', path, aString)
  check('readNpz', 'names', names, optional(strings))
  using file = await NpzFile.open(path)
  const arrays = new Map<string, HostTensor>()
  for (const [name, { size }] of file.arrays)
    if (names?.includes(name) ?? size !== null) arrays.set(name, await file.read(name))
  return arrays
}

/**
 * Writes an .npz without compression, as numpy.savez does; the same arrays give the same bytes. It appears whole, or not
 * at all. Rejects with SafetensorsError where elements do not fit shape or type, and UserError where the disk refuses.
 */
export async function writeNpz(path: string, arrays: ReadonlyMap<string, NpzSource>): Promise<void> {
  check('writeNpz', 'path', path, aString)
  checkHostTensors('writeNpz', arrays)
  const { ZipFile: ZipWriter } = await import('yazl')
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
      `${where}: expected ${wanted} elements for ${show(shape)}, got ${got > wanted ? 'more' : got}`,
    )
}
