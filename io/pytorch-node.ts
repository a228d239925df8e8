/// <reference lib="esnext.disposable" preserve="true" />
/**
 * PyTorch's checkpoints on disk: .pt and .pth files as torch.save writes them since version 1.6, ZIP containers with one
 * pickle and the bytes of every storage. Needs Node. Nothing of the pickle is executed (pytorch/pickle.ts); a tensor is
 * read at its place when it is asked for, so that no more than one is in memory. What .pt files held before is recognised,
 * and refused with the line of Python that converts it.
 */

import { closeSync, openSync, readSync } from 'node:fs'
import { PickleError, unpickle } from './pytorch/pickle.ts'
import { rebuilder } from './pytorch/rebuild.ts'
import { type StateDict, stateDicts } from './pytorch/state-dicts.ts'
import type { StoredTensor } from './pytorch/stored-tensor.ts'
import type { HostTensor } from './safetensors.ts'
import { quote } from './safetensors-elements.ts'
import { type ZipEntry, ZipFile } from './zip-node.ts'

/** An open checkpoint whose pickle was read. `close` it, or declare it with `using`. */
export class PyTorchFile {
  readonly path: string
  /** What was saved: dicts are Maps, lists and tuples arrays, tensors StoredTensors, other objects Inert. */
  readonly root: unknown
  /** The dicts with tensors in it (`stateDicts`). */
  readonly stateDicts: ReadonlyMap<string, StateDict>
  readonly #zip: ZipFile
  readonly #folder: string
  readonly #bigEndian: boolean

  private constructor(zip: ZipFile, folder: string, root: unknown, bigEndian: boolean) {
    this.path = zip.path
    this.#zip = zip
    this.#folder = folder
    this.root = root
    this.stateDicts = stateDicts(root)
    this.#bigEndian = bigEndian
  }

  /** Rejects with ZipError or PickleError on a file that is none, is damaged, or asks for what is not run here. */
  static async open(path: string): Promise<PyTorchFile> {
    refuseOther(path)
    const zip = await ZipFile.open(path)
    try {
      const pickles = [...zip.entries.keys()].filter(name => /^[^/]+\/data\.pkl$/.test(name))
      if (pickles.length !== 1)
        throw new PickleError(`${path}: wanted a checkpoint of torch.save, got a ZIP with ${pickles.length} data.pkl`)
      const folder = pickles[0].slice(0, -'data.pkl'.length)
      if (zip.entries.has(`${folder}constants.pkl`))
        throw new PickleError(`${path}: wanted a checkpoint of torch.save, got a TorchScript program`)
      const order = textOf(zip, zip.entries.get(`${folder}byteorder`)) ?? 'little'
      if (order !== 'little' && order !== 'big')
        throw new PickleError(`${path}: byteorder: wanted little or big, got ${quote(order)}`)
      const pickle = zip.read(zip.entries.get(pickles[0])!)
      return new PyTorchFile(zip, folder, unpickle(pickle, rebuilder(path), path), order === 'big')
    } catch (error) {
      zip.close()
      throw error
    }
  }

  /** A tensor of this file, read from its place and decoded; `name` is what messages call it. */
  read(tensor: StoredTensor, name: string): HostTensor {
    const where = `${this.path}: tensor ${quote(name)}`
    const entry = this.#zip.entries.get(`${this.#folder}data/${tensor.storage}`)
    if (entry === undefined) throw new PickleError(`${where}: wanted storage ${quote(tensor.storage)}, got none`)
    if (entry.size !== tensor.storageBytes)
      throw new PickleError(`${where}: wanted a storage of ${tensor.storageBytes} bytes, got ${entry.size}`)
    const bytes = this.#zip.read(entry, tensor.begin, tensor.end)
    const { dtype, shape } = tensor
    return { dtype, shape, data: tensor.elements(bytes, this.#bigEndian, where) }
  }

  close(): void {
    this.#zip.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** The text of a short entry. */
function textOf(zip: ZipFile, entry: ZipEntry | undefined): string | undefined {
  return entry === undefined
    ? undefined
    : new TextDecoder('latin1').decode(zip.read(entry, 0, Math.min(entry.size, 16)))
}

/** How a file begins that was written before version 1.6: a pickle of a certain number. */
const legacy = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]

/** Throws PickleError on a file that is no ZIP container, with what it is and how to convert it. */
function refuseOther(path: string): void {
  const start = new Uint8Array(legacy.length)
  const descriptor = openSync(path, 'r')
  try {
    readSync(descriptor, start, 0, start.length, 0)
  } finally {
    closeSync(descriptor)
  }
  if (start[0] === 0x50 && start[1] === 0x4b) return // PK
  const old = legacy.every((byte, i) => byte === start[i])
  const what = old ? 'one in the older format' : start[0] === 0x80 ? 'a pickle of another program' : 'another file'
  const how = old ? "; in Python, torch.save(torch.load(FILE, weights_only=True), 'new.pt') converts it" : ''
  throw new PickleError(`${path}: wanted a checkpoint of PyTorch 1.6 or newer, got ${what}${how}`)
}
