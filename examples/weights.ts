/**
 * Weights on disk, as sample.ts, inpaint.ts and load-official.ts take them: a run's folder, one of its checkpoints, or a
 * safetensors file. Whose weights they are: recognise.ts.
 */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { SafetensorsFile } from '../core/safetensors-node.ts'
import { latestCheckpoint, type RunState, readState, UserError } from '../diffusion/training/index.ts'
import type { HostState, Module, StateSource } from '../nn/index.ts'
import type { State } from './recognise.ts'
import type { Described } from './train-settings.ts'

/** The file of weights, and what its checkpoint says of the run; null for a file by itself. Throws UserError. */
export function locate(from: string, weights: string): { path: string; run: RunState<Described> | null } {
  const kind = statSync(from, { throwIfNoEntry: false })
  if (kind === undefined) throw new UserError(`--from: no such file or folder: ${from}`)
  if (!kind.isDirectory()) return { path: from, run: null }
  const checkpoint = latestCheckpoint(from)?.path ?? from
  return { path: join(checkpoint, `${weights}.safetensors`), run: readState<RunState<Described>>(checkpoint) }
}

/** The tensors of an open file: each is read when its data are asked for, so that one at a time is on the host. */
export function stateOf(file: SafetensorsFile): State {
  const entries = Array.from(file.header.tensors, ([name, { shape }]): [string, HostState] => [
    name,
    {
      shape,
      get data() {
        return file.read(name).data
      },
    },
  ])
  return new Map(entries)
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
