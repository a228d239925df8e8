/** The weights of a run, for programs that use a trained model. Needs Node. */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../io/user-error.ts'
import type { Module, StateSource } from '../nn/index.ts'
import { latestCheckpoint, readState } from './checkpoint.ts'
import type { LatentSpace } from './latents.ts'
import type { RunState } from './run.ts'

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

/** Puts a file's weights into a model. Throws UserError, with the path, where not all of them fit. */
export function load(model: Module, state: StateSource, path: string): void {
  try {
    model.loadStateDict(state)
  } catch (error) {
    throw new UserError(`${path}: ${(error as Error).message}`, { cause: error })
  }
}
