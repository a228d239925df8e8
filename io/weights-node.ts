/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Files of weights: safetensors, or a checkpoint of PyTorch. Needs Node. models/recognise.ts tells which model they are of.
 */

import { existsSync } from 'node:fs'
import { chooseStateDict, unwrapped } from './pytorch/state-dicts.ts'
import { PyTorchFile } from './pytorch-node.ts'
import type { HostTensor } from './safetensors.ts'
import { SafetensorsFile } from './safetensors-node.ts'
import { UserError } from './user-error.ts'

/** An open file of weights. `close` it, or declare it with `using`. */
export interface WeightsFile extends Disposable {
  /**
   * Its tensors by their names, without what wrappers left in front of all of them (`unwrapped`). Each is read when its
   * data are asked for, so that one at a time is on the host.
   */
  readonly state: ReadonlyMap<string, HostTensor>
  /** The keys that lead to this state dict in a checkpoint of PyTorch; '' where it is all of the file. */
  readonly part: string
  readonly metadata: ReadonlyMap<string, string>
  close(): void
}

/** Which of a checkpoint's state dicts: `part` must be there, `weights` is taken if it is, or else the usual one. */
export interface WhichWeights {
  readonly part?: string
  readonly weights?: string
}

/** Whether a file's name is that of a checkpoint of PyTorch. */
export function isPyTorch(path: string): boolean {
  return /\.(pt|pth|ckpt|bin)$/i.test(path)
}

/** Opens a .safetensors or .pt file. Rejects with one line that names the path on a file that is neither, or damaged. */
export async function openWeights(path: string, { part, weights }: WhichWeights = {}): Promise<WeightsFile> {
  if (!existsSync(path)) throw new UserError(`${path}: wanted a file of weights: no such file`)
  if (!isPyTorch(path)) {
    if (part !== undefined) throw new UserError(`--part: wanted a checkpoint of PyTorch (.pt), got ${path}`)
    const file = new SafetensorsFile(path)
    return weightsFile(unwrapped(stateOf(file)), '', file.header.metadata, () => file.close())
  }
  const file = await PyTorchFile.open(path)
  try {
    const preferred = weights !== undefined && file.stateDicts.has(weights) ? weights : undefined
    const chosen = chooseStateDict(file.stateDicts, part ?? preferred, path)
    const stored = [...file.stateDicts.get(chosen)!]
    const tensors = stored.map(([name, at]) => [name, lazy(at, () => file.read(at, name).data)] as const)
    return weightsFile(unwrapped(new Map(tensors)), chosen, new Map(), () => file.close())
  } catch (error) {
    file.close()
    throw error
  }
}

/** The tensors of an open file: each is read when its data are asked for. */
export function stateOf(file: SafetensorsFile): ReadonlyMap<string, HostTensor> {
  return new Map(Array.from(file.header.tensors, ([name, at]) => [name, lazy(at, () => file.read(name).data)]))
}

function lazy({ dtype, shape }: Omit<HostTensor, 'data'>, read: () => HostTensor['data']): HostTensor {
  return {
    dtype,
    shape,
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
