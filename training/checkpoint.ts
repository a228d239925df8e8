/**
 * Checkpoints on disk. Needs Node. A checkpoint is one folder that appears whole: it is written aside, every file is
 * forced to the disk, and one rename gives it its name; whatever happens meanwhile, the checkpoints that were there stay
 * as they are. What is in `state.json` is the caller's: whatever makes a resumed run the same as an unbroken one.
 */

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { aSize, aString, check, objectWith } from '../core/arguments.ts'
import type { Tensor } from '../core/tensor.ts'
import { wholeText } from '../io/open-node.ts'
import type { HostTensor } from '../io/safetensors.ts'
import { readSafetensors, storable, writeSafetensors } from '../io/safetensors-node.ts'
import { reason, UserError } from '../io/user-error.ts'
import { savedTensors } from './arguments.ts'

/** Sets of tensors in a checkpoint, one file each. */
const parts = ['model', 'ema', 'optimizer'] as const
type Tensors<T> = Readonly<Record<(typeof parts)[number], ReadonlyMap<string, T>>>

/** Tensors under their names, on a backend or on the host. */
export type SavedTensors = ReadonlyMap<string, Tensor | HostTensor<ArrayLike<number>>>

/** State of the loop besides tensors; plain JSON. */
export interface CheckpointState {
  /** Steps done. */
  readonly step: number
}

/** Checkpoints of a run that are kept. */
const kept = 2
const aState = objectWith('a state with its step', { step: aSize })
const named = /^checkpoint-(\d{8,})$/
const unfinished = '.tmp-checkpoint-'

/**
 * Writes the folder `checkpoint-STEP` in `run` and removes all but the last two. Where that step is there already, nothing is written.
 * Throws UserError where the disk is full or refuses; then the checkpoints before are intact. Returns the folder's path.
 */
export async function saveCheckpoint<State extends CheckpointState>(
  run: string,
  tensors: Readonly<Record<(typeof parts)[number], SavedTensors>>,
  state: State,
): Promise<string> {
  check('saveCheckpoint', 'run', run, aString)
  check('saveCheckpoint', 'tensors', tensors, savedTensors)
  check('saveCheckpoint', 'state', state, aState)
  const name = `checkpoint-${String(state.step).padStart(8, '0')}`
  const path = join(run, name)
  const aside = join(run, unfinished + name)
  try {
    mkdirSync(run, { recursive: true })
    removeUnfinished(run)
    if (existsSync(path)) return path
    mkdirSync(aside)
    for (const part of parts) await writeSafetensors(join(aside, `${part}.safetensors`), storable(tensors[part]))
    await writeText(join(aside, 'state.json'), `${JSON.stringify(state, null, 2)}\n`)
    await syncFolder(aside)
    renameSync(aside, path)
    await syncFolder(run)
  } catch (error) {
    if (existsSync(aside)) rmSync(aside, { recursive: true })
    const before = latestCheckpoint(run)
    const last = before === undefined ? 'there is no earlier one' : `the last good one is ${before.path}`
    throw new UserError(`${path}: the checkpoint could not be written: ${reason(error)}; ${last}`, { cause: error })
  }
  for (const { path: old } of checkpoints(run).slice(0, -kept)) discard(run, old)
  return path
}

/** A finished checkpoint of a run. */
export interface Checkpoint {
  readonly path: string
  readonly step: number
}

/** The checkpoint of the most steps in `run`, if there is one. */
export function latestCheckpoint(run: string): Checkpoint | undefined {
  check('latestCheckpoint', 'run', run, aString)
  return checkpoints(run).at(-1)
}

/**
 * Reads a checkpoint. Whether its tensors are those of a model, `loadStateDict` tells. Throws UserError on a part that is
 * missing and on a state.json that is no state of this step, SafetensorsError on a damaged tensor file.
 */
export function loadCheckpoint<State extends CheckpointState>(
  path: string,
): Tensors<HostTensor> & { readonly state: State } {
  check('loadCheckpoint', 'path', path, aString)
  const read = (part: string) => {
    const file = join(path, `${part}.safetensors`)
    if (!existsSync(file)) throw new UserError(`${file}: expected a part of a checkpoint: no such file`)
    return readSafetensors(file).tensors
  }
  return { state: readState<State>(path), model: read('model'), ema: read('ema'), optimizer: read('optimizer') }
}

/** Reads only a checkpoint's state.json. Throws UserError. */
export function readState<State extends CheckpointState>(path: string): State {
  check('readState', 'path', path, aString)
  const file = join(path, 'state.json')
  let state: State
  try {
    state = JSON.parse(wholeText(file))
  } catch (error) {
    if (error instanceof UserError) throw error
    throw new UserError(`${file}: expected the state of a checkpoint: ${reason(error)}`)
  }
  const step = Number(named.exec(path.split(/[\\/]/).at(-1)!)?.[1] ?? state?.step)
  if (!Number.isSafeInteger(step) || state?.step !== step)
    throw new UserError(`${file}: expected a step${Number.isNaN(step) ? '' : ` of ${step}`}, got ${state?.step}`)
  return state
}

/** The preset of the run in a folder; undefined if there is no run. Throws UserError. */
export function presetOfRun(folder: string | undefined): string | undefined {
  const checkpoint = folder === undefined ? undefined : latestCheckpoint(folder)
  if (checkpoint === undefined) return undefined
  return readState<CheckpointState & { readonly settings?: { readonly preset?: string } }>(checkpoint.path).settings
    ?.preset
}

/** The finished checkpoints of a run, from the fewest steps to the most. */
export function checkpoints(run: string): Checkpoint[] {
  if (statSync(run, { throwIfNoEntry: false })?.isDirectory() !== true) return []
  return readdirSync(run)
    .flatMap(name => {
      const step = named.exec(name)?.[1]
      return step === undefined ? [] : { path: join(run, name), step: Number(step) }
    })
    .sort((a, b) => a.step - b.step)
}

/** Removes a checkpoint in a way that never leaves half of it under its name. */
function discard(run: string, path: string): void {
  const aside = join(run, `${unfinished}discarded`)
  renameSync(path, aside)
  rmSync(aside, { recursive: true, force: true })
}

/** Removes remains of a write or a removal that was cut off. */
function removeUnfinished(run: string): void {
  for (const name of readdirSync(run))
    if (name.startsWith(unfinished)) rmSync(join(run, name), { recursive: true, force: true })
}

async function writeText(path: string, text: string): Promise<void> {
  await withFile(await open(path, 'w'), async file => {
    await file.writeFile(text)
    await file.sync()
  })
}

/** Forces the names in a folder to the disk. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return // Windows opens no folders, and keeps names safe by itself
  await withFile(await open(path, 'r'), file => file.sync())
}

async function withFile(file: FileHandle, use: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await use(file)
  } finally {
    await file.close()
  }
}
