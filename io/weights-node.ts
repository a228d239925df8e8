/**
 * Weights on disk, as sample.ts and inpaint.ts take them: a run's folder, one of its checkpoints, a
 * safetensors file, or a checkpoint of PyTorch. Whose weights they are: recognise.ts.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { chooseStateDict, unwrapped } from './pytorch/state-dicts.ts'
import { PyTorchFile } from './pytorch-node.ts'
import type { HostTensor } from './safetensors.ts'
import { SafetensorsFile } from './safetensors-node.ts'
import { latestCheckpoint, type RunState, readState, UserError } from '../training/index.ts'
import type { Module, StateSource } from '../nn/index.ts'
import type { LatentSpace } from '../training/latents.ts'

/** What the checkpoints of all training programs say of their run. */
export interface Trained {
  readonly settings: { readonly preset: string; readonly data: string }
  readonly model: { readonly numHeads: number; readonly decoder?: { readonly numHeads: number } | null }
  /** Their names; MaskDM is trained without. */
  readonly classes?: readonly string[]
  /** null where it was trained on pictures. */
  readonly latents?: LatentSpace | null
}

/** The file of weights, and what its checkpoint says of the run; null for a file by itself. Throws UserError. */
export function locate(from: string, weights: string): { path: string; run: RunState<Trained> | null } {
  const kind = statSync(from, { throwIfNoEntry: false })
  if (kind === undefined) throw new UserError(`--from: no such file or folder: ${from}`)
  if (!kind.isDirectory()) return { path: from, run: null }
  const checkpoint = latestCheckpoint(from)?.path ?? from
  return { path: join(checkpoint, `${weights}.safetensors`), run: readState<RunState<Trained>>(checkpoint) }
}

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

/** Puts a file's weights into a model. Throws UserError, with the path, where not all of them fit. */
export function load(model: Module, state: StateSource, path: string): void {
  try {
    model.loadStateDict(state)
  } catch (error) {
    throw new UserError(`${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** A class by name or number; `classes` are the names that are known. Throws UserError. */
export function labelOf(name: string, numClasses: number, classes: readonly string[]): number {
  if (numClasses === 0) throw new UserError('--class: wanted a model with classes, got one without')
  const label = classes.includes(name) ? classes.indexOf(name) : /^\d+$/.test(name) ? Number(name) : -1
  if (label >= 0 && label < numClasses) return label
  const known = classes.length > 0 ? ` or one of ${classes.join(', ')}` : ''
  throw new UserError(`--class: wanted a number below ${numClasses}${known}, got '${name}'`)
}
