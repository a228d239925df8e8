/** The weights of a run, for programs that use a trained model. Needs Node. */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Tensor } from '../core/index.ts'
import type { ClassFrom } from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import { weightsIn } from '../io/weights-node.ts'
import type { State } from '../models/index.ts'
import type { HostState, Module, StateSource } from '../nn/index.ts'
import { latestCheckpoint, readState } from './checkpoint.ts'
import type { LatentSpace } from './latents.ts'
import type { RunState } from './resume.ts'

/** Description of a run in the checkpoints of all training programs. */
export interface Trained {
  readonly settings: { readonly preset: string; readonly data: string; readonly classFrom?: ClassFrom }
  readonly model: {
    readonly numHeads: number
    readonly numClasses?: number
    readonly decoder?: { readonly numHeads: number } | null
    readonly ablation?: string
  }
  /** Their names; MaskDM is trained without. */
  readonly classes?: readonly string[]
  /** null where it was trained on pictures. */
  readonly latents?: LatentSpace | null
}

/**
 * The file of weights, and what its checkpoint says of the run; null for a file by itself. Throws UserError, with the flag
 * that named it.
 */
export function locate(
  from: string,
  weights: string,
  flag = '--from',
): { path: string; run: RunState<Trained> | null } {
  const kind = statSync(from, { throwIfNoEntry: false })
  if (kind === undefined) throw new UserError(`${flag}: no such file or folder: ${from}`)
  const latest = kind.isDirectory() ? latestCheckpoint(from) : undefined
  const isRun = latest !== undefined || existsSync(join(from, 'state.json'))
  if (!kind.isDirectory() || (!isRun && weightsIn(from) !== null)) return { path: from, run: null }
  if (!isRun)
    throw new UserError(`${flag}: expected a run, a checkpoint or a folder of weights, got ${from} without any of them`)
  const checkpoint = latest?.path ?? from
  return { path: join(checkpoint, `${weights}.safetensors`), run: readState<RunState<Trained>>(checkpoint) }
}

/**
 * Puts a file's weights into a model. Throws UserError, with the path, where not all of them fit, or one is NaN or infinite: a
 * model with it gives nothing but NaN.
 */
export function load(model: Module, state: StateSource, path: string): void {
  try {
    model.loadStateDict(
      new Map(Array.from(state, ([name, tensor]) => [name, tensor instanceof Tensor ? tensor : finite(name, tensor)])),
    )
  } catch (error) {
    throw new UserError(`${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** The same tensors. Their data, when they are read, throw RangeError if a value is not finite. */
export function finiteWeights(state: State): State {
  return new Map(Array.from(state, ([name, tensor]) => [name, finite(name, tensor)]))
}

function finite(name: string, tensor: HostState): HostState {
  let checked = false
  return {
    shape: tensor.shape,
    get data() {
      const { data } = tensor
      for (let i = 0; i < data.length && !checked; i++)
        if (!Number.isFinite(data[i]))
          throw new RangeError(`${name}: element ${i}: expected finite weights, got ${data[i]}: the training diverged`)
      checked = true
      return data
    },
  }
}
