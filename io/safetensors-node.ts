/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Safetensors files on disk. Needs Node. A file is read tensor by tensor at its offset and written tensor by tensor, so
 * neither its size (2 GiB is Node's limit for one buffer) nor the memory of the machine bounds it. The format itself is
 * safetensors.ts.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { show, sizeOf } from '../core/shape.ts'
import type { Tensor } from '../core/tensor.ts'
import {
  encodeSafetensorsHeader,
  type HostTensor,
  parseSafetensorsHeader,
  type SafetensorsHeader,
  safetensorsHeaderLength,
} from './safetensors.ts'
import { decodeElements, encodeElements, quote, SafetensorsError, safetensorsDType } from './safetensors-elements.ts'

/** Node refuses to move 2 GiB or more at once. */
const largestTransfer = 2 ** 30

/** An open file whose header was checked. `close` it, or declare it with `using`. */
export class SafetensorsFile {
  readonly path: string
  readonly header: SafetensorsHeader
  readonly #descriptor: number

  /** Throws SafetensorsError on a header that is wrong, and Node's error on a file that cannot be opened. */
  constructor(path: string) {
    this.path = path
    this.#descriptor = openSync(path, 'r')
    try {
      const stat = fstatSync(this.#descriptor)
      if (!stat.isFile()) throw new SafetensorsError(`${path}: wanted a file, got a folder or a device`)
      const { size } = stat
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
    const entry = this.header.tensors.get(name)
    if (entry === undefined) throw new SafetensorsError(`${this.path}: wanted tensor ${quote(name)}, got no such name`)
    const { dtype, shape, begin, end } = entry
    const bytes = this.#read(begin, end - begin)
    return { dtype, shape, data: decodeElements(dtype, bytes, `${this.path}: tensor ${quote(name)}`) }
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #read(position: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    let done = 0
    while (done < length) {
      const part = Math.min(length - done, largestTransfer)
      const got = readSync(this.#descriptor, bytes, done, part, position + done)
      if (got === 0)
        throw new SafetensorsError(`${this.path}: wanted ${length} bytes at ${position}, got ${done}: the file shrank`)
      done += got
    }
    return bytes
  }
}

/** All tensors and the metadata of a file. Throws as SafetensorsFile does. */
export function readSafetensors(path: string): {
  tensors: Map<string, HostTensor>
  metadata: ReadonlyMap<string, string>
} {
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

/** Tensors, such as a module's state dict, as `writeSafetensors` takes them; each is read when it is its turn. */
export function storable(tensors: ReadonlyMap<string, Tensor>): Map<string, HostTensor<LazyData>> {
  return new Map(
    Array.from(tensors, ([name, tensor]) => {
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
  tensors: ReadonlyMap<string, HostTensor<LazyData>>,
  metadata?: ReadonlyMap<string, string>,
): Promise<void> {
  const header = encodeSafetensorsHeader(tensors, metadata)
  const file = await open(path, 'w')
  try {
    await write(file, header.bytes)
    for (const name of header.order) {
      const { dtype, shape, data } = tensors.get(name)!
      const elements = typeof data === 'function' ? await data() : data
      const where = `${path}: tensor ${quote(name)}`
      if (elements.length !== sizeOf(shape))
        throw new SafetensorsError(
          `${where}: wanted ${sizeOf(shape)} elements for ${show(shape)}, got ${elements.length}`,
        )
      await write(file, encodeElements(dtype, elements, where))
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function write(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.length)
    done += (await file.write(bytes, done, Math.min(bytes.length - done, largestTransfer))).bytesWritten
}
