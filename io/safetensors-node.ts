/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Safetensors files on disk. Needs Node. A file is read tensor by tensor at its offset and written tensor by tensor, so
 * neither its size (2 GiB is Node's limit for one buffer) nor the memory of the machine bounds it. The format itself is
 * safetensors.ts.
 */

import { closeSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { aMap, anObject, aString, aTensor, check, either } from '../core/arguments.ts'
import { show, sizeOf } from '../core/shape.ts'
import { Tensor } from '../core/tensor.ts'
import { largestTransfer, openRegular, readBytes } from './open-node.ts'
import {
  checkHostTensors,
  decoded,
  encodeSafetensorsHeader,
  type HostTensor,
  parseSafetensorsHeader,
  type RawTensor,
  type SafetensorsEntry,
  type SafetensorsHeader,
  safetensorsHeaderLength,
} from './safetensors.ts'
import { encodeElements, quote, SafetensorsError, safetensorsDType } from './safetensors-elements.ts'

/** An open file whose header was checked. `close` it, or declare it with `using`. */
export class SafetensorsFile {
  readonly path: string
  readonly header: SafetensorsHeader
  readonly #descriptor: number

  /** Throws SafetensorsError on a header that is wrong, and Node's error on a file that cannot be opened. */
  constructor(path: string) {
    check('SafetensorsFile', 'path', path, aString)
    this.path = path
    const { descriptor, size } = openRegular(path)
    this.#descriptor = descriptor
    try {
      const start = this.#read(0, Math.min(8, size))
      const json = this.#read(8, safetensorsHeaderLength(start, size, path))
      this.header = parseSafetensorsHeader(json, size, path)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** The tensor `name`, read from its place and decoded (`decodeElements`). Throws SafetensorsError. */
  read(name: string): HostTensor {
    const { dtype, shape } = this.#entry(name)
    return decoded(dtype, shape, this.bytes(name), `${this.path}: tensor ${quote(name)}`)
  }

  /** The bytes of the tensor `name`, as they are stored. Throws SafetensorsError. */
  bytes(name: string): Uint8Array {
    const { begin, end } = this.#entry(name)
    return this.#read(begin, end - begin)
  }

  #entry(name: string): SafetensorsEntry {
    const entry = this.header.tensors.get(name)
    if (entry === undefined)
      throw new SafetensorsError(`${this.path}: expected tensor ${quote(name)}, got no such name`)
    return entry
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.#descriptor)
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close()
  }

  #read(position: number, length: number): Uint8Array {
    const bytes = readBytes(this.#descriptor, position, position + length)
    if (bytes.length === length) return bytes
    throw new SafetensorsError(
      `${this.path}: expected ${length} bytes at ${position}, got ${bytes.length}: the file shrank`,
    )
  }
}

/** All tensors and the metadata of a file. Throws as SafetensorsFile does. */
export function readSafetensors(path: string): {
  tensors: Map<string, HostTensor>
  metadata: ReadonlyMap<string, string>
} {
  check('readSafetensors', 'path', path, aString)
  const file = new SafetensorsFile(path)
  try {
    const { tensors, metadata } = file.header
    return { tensors: new Map(Array.from(tensors.keys(), name => [name, file.read(name)])), metadata }
  } finally {
    file.close()
  }
}

/** Elements, or what fetches them when it is their turn, so that one tensor at a time is on the host. */
export type LazyData = ArrayLike<number> | (() => ArrayLike<number> | Promise<ArrayLike<number>>)

const aStorable = either(aTensor, anObject)

/**
 * Tensors, such as a module's state dict, as `writeSafetensors` takes them; each is read when it is its turn. Those that are on
 * the host are left as they are.
 */
export function storable(
  tensors: ReadonlyMap<string, Tensor | HostTensor<LazyData>>,
): Map<string, HostTensor<LazyData>> {
  check('storable', 'tensors', tensors, aMap)
  return new Map(
    Array.from(tensors, ([name, tensor]) => {
      check('storable', `tensor ${quote(name)}`, tensor, aStorable)
      if (!(tensor instanceof Tensor)) return [name, tensor]
      const { shape, dtype } = tensor
      return [name, { dtype: safetensorsDType[dtype], shape, data: () => tensor.data() }]
    }),
  )
}

/**
 * Writes a file and waits until it is on the disk (fsync). An existing file is overwritten; on failure an incomplete one
 * may stay behind. Throws SafetensorsError where data does not fit shape or stored type, and Node's error (ENOSPC, …).
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, HostTensor<LazyData> | RawTensor>,
  metadata?: ReadonlyMap<string, string>,
): Promise<void> {
  check('writeSafetensors', 'path', path, aString)
  checkHostTensors('writeSafetensors', tensors, metadata)
  const header = encodeSafetensorsHeader(tensors, metadata)
  const file = await open(path, 'w')
  try {
    await write(file, header.bytes)
    for (const name of header.order) {
      await write(file, await encoded(tensors.get(name)!, `${path}: tensor ${quote(name)}`))
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function encoded(tensor: HostTensor<LazyData> | RawTensor, where: string): Promise<Uint8Array> {
  if ('bytes' in tensor) {
    const bytes = tensor.bytes()
    if (bytes.length === tensor.size) return bytes
    throw new SafetensorsError(`${where}: expected ${tensor.size} bytes, got ${bytes.length}`)
  }
  const { dtype, shape, data } = tensor
  const elements = typeof data === 'function' ? await data() : data
  if (elements.length === sizeOf(shape)) return encodeElements(dtype, elements, where)
  throw new SafetensorsError(`${where}: expected ${sizeOf(shape)} elements for ${show(shape)}, got ${elements.length}`)
}

async function write(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.length)
    done += (await file.write(bytes, done, Math.min(bytes.length - done, largestTransfer))).bytesWritten
}
