/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Files of weights: safetensors, a checkpoint of PyTorch, either in shards, or a folder of diffusers with one of these. Needs
 * Node. What a file is follows from its bytes (format-node.ts). models/recognise.ts tells which model they are of.
 */

import { existsSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { aString, check, checkOptions } from '../core/arguments.ts'
import type { TypedArray } from '../core/dtype.ts'
import { weightsFormat } from './format-node.ts'
import { firstBytes } from './open-node.ts'
import { chooseStateDict, unwrapped, type WhichDict } from './pytorch/state-dicts.ts'
import { PyTorchFile } from './pytorch-node.ts'
import type { RawTensor } from './safetensors.ts'
import { SafetensorsFile } from './safetensors-node.ts'
import { readShardIndex, type ShardIndex } from './shards-node.ts'
import { UserError } from './user-error.ts'

/** A tensor in a file: elements and bytes are read when they are asked for, so that one tensor at a time is on the host. */
export interface FileTensor extends RawTensor {
  /** The elements, decoded (`decodeElements`). Throws where no tensor here can hold them. */
  readonly data: TypedArray
}

/** An open file of weights. `close` it, or declare it with `using`. */
export interface WeightsFile extends Disposable {
  /** Its tensors by their names, without what wrappers left in them (`unwrapped`). */
  readonly state: ReadonlyMap<string, FileTensor>
  /** The keys that lead to this state dict in a checkpoint of PyTorch; '' where it is all of the file. */
  readonly part: string
  /** `config` has the text of the config.json beside a file of diffusers. */
  readonly metadata: ReadonlyMap<string, string>
  /** Closes the file. */
  close(): void
}

/** True if a file is a checkpoint of PyTorch, by its bytes. Throws as `openRegular`. */
export function isPyTorch(path: string): boolean {
  return ['zip', 'legacy'].includes(weightsFormat(path).format)
}

/** Opens a file of weights, or the one in a folder. Rejects with one line that names the path on one that is none, or damaged. */
export async function openWeights(path: string, which: WhichDict = {}): Promise<WeightsFile> {
  check('openWeights', 'path', path, aString)
  checkOptions('openWeights', which, { part: aString, weights: aString })
  const kind = statSync(path, { throwIfNoEntry: false })
  if (kind === undefined) throw new UserError(`${path}: expected a file of weights: no such file`)
  const at = kind.isDirectory() ? weightsIn(path) : path
  if (at === null) throw new UserError(`${path}: expected weights, as ${names[0]}, got a folder without`)
  const file = await openFile(at, which)
  const config = configBeside(at)
  if (config === undefined) return file
  return { ...file, metadata: new Map([...file.metadata, ['config', config]]) }
}

/** Files of weights in the folders of diffusers and transformers. */
const names = ['diffusion_pytorch_model', 'model', 'pytorch_model'].flatMap(name =>
  ['safetensors', 'safetensors.index.json', 'bin', 'bin.index.json'].map(ending => `${name}.${ending}`),
)

/** The file of weights in a folder of diffusers, or in its network's sub-folder; null where there is none. */
export function weightsIn(folder: string): string | null {
  const places = ['', 'transformer', 'unet'].flatMap(part => names.map(name => join(folder, part, name)))
  return places.find(place => existsSync(place)) ?? null
}

/** The config.json that lies beside a file under a name of diffusers. */
export function configBeside(path: string): string | undefined {
  const config = join(dirname(path), 'config.json')
  if (!basename(path).startsWith('diffusion_pytorch_model') || !existsSync(config)) return undefined
  return new TextDecoder().decode(firstBytes(config, 2 ** 20))
}

async function openFile(path: string, which: WhichDict): Promise<WeightsFile> {
  const { format, what } = weightsFormat(path)
  if (format === 'zip' || format === 'legacy') return openPyTorch(path, which)
  if (which.part !== undefined) throw new UserError(`--part: expected a checkpoint of PyTorch (.pt), got ${path}`)
  if (format === 'index') return openShards(readShardIndex(path))
  // A damaged file of its name gets safetensors' own message.
  if (format !== 'safetensors' && (what !== 'another file' || !path.endsWith('.safetensors')))
    throw new UserError(`${path}: expected weights as safetensors or a checkpoint of PyTorch, got ${what}`)
  const file = new SafetensorsFile(path)
  return weightsFile(unwrapped(stateOf(file)), '', file.header.metadata, () => file.close())
}

async function openPyTorch(path: string, which: WhichDict): Promise<WeightsFile> {
  const file = await PyTorchFile.open(path)
  try {
    const chosen = chooseStateDict(file.stateDicts, which, path)
    const tensors = Array.from(file.stateDicts.get(chosen)!, ([name, at]) => {
      const { dtype, shape, byteLength: size } = at
      const bytes = () => file.bytes(at, name)
      return [name, fileTensor({ dtype, shape, size, bytes }, () => file.read(at, name).data)] as const
    })
    return weightsFile(unwrapped(new Map(tensors)), chosen, new Map(), () => file.close())
  } catch (error) {
    file.close()
    throw error
  }
}

/** Weights in several files. Each is opened once, and must hold the tensors that the index says. */
async function openShards({ path, shards }: ShardIndex): Promise<WeightsFile> {
  const open: WeightsFile[] = []
  const close = () => {
    for (const file of open) file.close()
  }
  try {
    const state = new Map<string, FileTensor>()
    for (const [shard, tensors] of shards) {
      if (!existsSync(shard)) throw new UserError(`${path}: expected ${basename(shard)} beside it, got no such file`)
      if (weightsFormat(shard).format === 'index')
        throw new UserError(`${path}: expected shards of weights, got an index: ${shard}`)
      const file = await openFile(shard, {})
      open.push(file)
      for (const name of tensors) {
        const [short] = unwrapped(new Map([[name, null]])).keys()
        const tensor = file.state.get(name) ?? file.state.get(short)
        if (tensor === undefined)
          throw new UserError(`${path}: expected tensor '${name}' in ${basename(shard)}, got no such name`)
        state.set(name, tensor)
      }
    }
    return weightsFile(unwrapped(state), '', new Map(), close)
  } catch (error) {
    close()
    throw error
  }
}

/** The tensors of an open file. */
export function stateOf(file: SafetensorsFile): ReadonlyMap<string, FileTensor> {
  return new Map(
    Array.from(file.header.tensors, ([name, { dtype, shape, begin, end }]) => {
      const raw = { dtype, shape, size: end - begin, bytes: () => file.bytes(name) }
      return [name, fileTensor(raw, () => file.read(name).data)]
    }),
  )
}

function fileTensor(raw: RawTensor, read: () => TypedArray): FileTensor {
  return {
    ...raw,
    get data() {
      return read()
    },
  }
}

function weightsFile(
  state: WeightsFile['state'],
  part: string,
  metadata: WeightsFile['metadata'],
  close: () => void,
): WeightsFile {
  return { state, part, metadata, close, [Symbol.dispose]: close }
}
