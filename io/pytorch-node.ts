/// <reference lib="esnext.disposable" preserve="true" />
/**
 * PyTorch's checkpoints on disk. Needs Node. Since version 1.6, torch.save writes ZIP containers with one pickle and the
 * bytes of every storage; before, a file of pickles with the storages behind them (pytorch/legacy-node.ts). Nothing of a
 * pickle is executed (pytorch/pickle.ts); a tensor is read at its place when it is asked for, so that no more than one is in
 * memory.
 */

import { aString, check } from '../core/arguments.ts'
import { weightsFormat } from './format-node.ts'
import { openLegacy } from './pytorch/legacy-node.ts'
import { PickleError, unpickle } from './pytorch/pickle.ts'
import { rebuilder } from './pytorch/rebuild.ts'
import { type StateDict, stateDicts } from './pytorch/state-dicts.ts'
import type { StoredTensor } from './pytorch/stored-tensor.ts'
import { decoded, type HostTensor } from './safetensors.ts'
import { quote } from './safetensors-elements.ts'
import { type ZipEntry, ZipFile } from './zip-node.ts'

/** The content of a file beside the pickle, and the values that the pickle describes. */
export interface Saved {
  /** The saved value: dicts are Maps, lists and tuples arrays, tensors StoredTensors, other objects Inert. */
  readonly root: unknown
  readonly bigEndian: boolean
  /** Bytes [tensor.begin, tensor.end) of a tensor's storage. Throws where the file has them not. */
  bytes(tensor: StoredTensor, where: string): Uint8Array
  /** Closes the file. */
  close(): void
}

/** An open checkpoint whose pickle was read. `close` it, or declare it with `using`. */
export class PyTorchFile {
  readonly path: string
  readonly root: unknown
  /** The dicts with tensors in it (`stateDicts`). */
  readonly stateDicts: ReadonlyMap<string, StateDict>
  readonly #saved: Saved

  private constructor(path: string, saved: Saved) {
    this.path = path
    this.#saved = saved
    this.root = saved.root
    this.stateDicts = stateDicts(saved.root)
  }

  /** Rejects with ZipError or PickleError on a file that is none, is damaged, or asks for what runs code. */
  static async open(path: string): Promise<PyTorchFile> {
    check('PyTorchFile.open', 'path', path, aString)
    const { format, what } = weightsFormat(path)
    if (format === 'zip') return new PyTorchFile(path, await openZip(path))
    if (format === 'legacy') return new PyTorchFile(path, openLegacy(path))
    throw new PickleError(`${path}: expected a checkpoint of PyTorch, got ${what}`)
  }

  /** A tensor of this file, read from its place and decoded; `name` is what messages call it. */
  read(tensor: StoredTensor, name: string): HostTensor {
    const where = `${this.path}: tensor ${quote(name)}`
    return decoded(tensor.dtype, tensor.shape, this.bytes(tensor, name), where)
  }

  /** A tensor's bytes, little-endian and in C order, read from its place. */
  bytes(tensor: StoredTensor, name: string): Uint8Array {
    const where = `${this.path}: tensor ${quote(name)}`
    tensor.checkReadable(where)
    return tensor.ordered(this.#saved.bytes(tensor, where), this.#saved.bigEndian, where)
  }

  /** Closes the file. */
  close(): void {
    this.#saved.close()
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close()
  }
}

async function openZip(path: string): Promise<Saved> {
  const zip = await ZipFile.open(path)
  try {
    const pickles = [...zip.entries.keys()].filter(name => /^[^/]+\/data\.pkl$/.test(name))
    if (pickles.length !== 1)
      throw new PickleError(`${path}: expected a checkpoint of torch.save, got ${contents(zip, pickles)}`)
    const folder = pickles[0].slice(0, -'data.pkl'.length)
    if (zip.entries.has(`${folder}constants.pkl`))
      throw new PickleError(`${path}: expected a checkpoint of torch.save, got a TorchScript program`)
    const order = textOf(zip, zip.entries.get(`${folder}byteorder`)) ?? 'little'
    if (order !== 'little' && order !== 'big')
      throw new PickleError(`${path}: byteorder: expected little or big, got ${quote(order)}`)
    const root = unpickle(zip.read(zip.entries.get(pickles[0])!), rebuilder(path), path)
    return {
      root,
      bigEndian: order === 'big',
      bytes({ storage, storageBytes, begin, end }, where) {
        const entry = zip.entries.get(`${folder}data/${storage}`)
        if (entry === undefined) throw new PickleError(`${where}: expected storage ${quote(storage)}, got none`)
        if (entry.size !== storageBytes)
          throw new PickleError(`${where}: expected a storage of ${storageBytes} bytes, got ${entry.size}`)
        return zip.read(entry, begin, end)
      },
      close: () => zip.close(),
    }
  } catch (error) {
    zip.close()
    throw error
  }
}

function contents(zip: ZipFile, pickles: readonly string[]): string {
  const names = [...zip.entries.keys()]
  if (names.length > 0 && names.every(name => name.endsWith('.npy'))) return 'arrays of NumPy (.npz)'
  return `a ZIP with ${pickles.length} data.pkl`
}

/** The text of a short entry. */
function textOf(zip: ZipFile, entry: ZipEntry | undefined): string | undefined {
  return entry === undefined
    ? undefined
    : new TextDecoder('latin1').decode(zip.read(entry, 0, Math.min(entry.size, 16)))
}
