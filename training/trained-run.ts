/** The weights of a run, for programs that use a trained model. Needs Node. */

import { existsSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Tensor } from '../core/index.ts'
import type { ClassFrom } from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import { openWeights, type WeightsFile, weightsIn } from '../io/weights-node.ts'
import type { State, Told } from '../models/index.ts'
import type { HostState, Module, StateSource } from '../nn/index.ts'
import { latestCheckpoint, readState } from './checkpoint.ts'
import type { LatentSpace } from './latents.ts'
import type { RunState } from './resume.ts'

/** Description of a run in the checkpoints of all training programs, and in part in a file that was made of one. */
export interface Trained {
  /** `data` is absent in a file. */
  readonly settings: { readonly preset: string; readonly data?: string; readonly classFrom?: ClassFrom }
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

/** The checkpoint in a folder: the latest one of a run, or the folder itself; null where there is none. */
export function checkpointIn(folder: string): string | null {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return null
  return latestCheckpoint(folder)?.path ?? (existsSync(join(folder, 'state.json')) ? folder : null)
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
  const checkpoint = checkpointIn(from)
  if (checkpoint === null) {
    if (!kind.isDirectory() || weightsIn(from) !== null) return { path: from, run: null }
    throw new UserError(`${flag}: expected a run, a checkpoint or a folder of weights, got ${from} without any of them`)
  }
  return { path: join(checkpoint, `${weights}.safetensors`), run: readState<RunState<Trained>>(checkpoint) }
}

/** A file of weights, opened. */
export interface TrainedFile extends WeightsFile {
  readonly path: string
  /** The run that they come from, as far as it is known; null where nothing is. */
  readonly run: Trained | null
  /** Facts for `recognise` that names and shapes leave open. */
  readonly told: Told
}

/**
 * Opens the weights of a run, a checkpoint or a file. The caller closes the file. Rejects with UserError, with the flag that named
 * them, on what holds no weights.
 */
export async function openTrained(
  from: string,
  { weights, part }: { readonly weights: 'ema' | 'model'; readonly part?: string },
  flag = '--from',
): Promise<TrainedFile> {
  const { path, run } = locate(from, weights, flag)
  const file = await openWeights(path, { weights, part })
  try {
    const known = run ?? describedIn(file.metadata, path)
    return { ...file, path, run: known, told: toldOf(known, file.metadata) }
  } catch (error) {
    file.close()
    throw error
  }
}

/** Facts for `recognise` about the model of a run, and those in the metadata of a file of its weights. */
export function toldOf(run: Trained | null, metadata: ReadonlyMap<string, string>): Told {
  const config = metadata.get('config')
  if (run === null) return { config }
  const { numHeads: heads, numClasses: classes, decoder, ablation } = run.model
  return { config, preset: run.settings.preset, heads, classes, decoderHeads: decoder?.numHeads, ablation }
}

/** Key of the metadata of a safetensors file that was made of a run: what a program must know of it, as JSON. */
const key = 'demask'

/** Metadata of a file with the weights of a run. Paths of data stay out; an autoencoder has the name of its file. */
export function metadataOf({ settings: { preset }, model, classes, latents }: Trained): ReadonlyMap<string, string> {
  const { numHeads, numClasses, decoder, ablation } = model
  const space = latents && { ...latents, path: basename(latents.path) }
  const sizes = { numHeads, numClasses, ...(decoder && { decoder: { numHeads: decoder.numHeads } }), ablation }
  return new Map([[key, JSON.stringify({ settings: { preset }, model: sizes, classes, latents: space })]])
}

/** Returns the description of a run in the metadata of a file; null if there is none. Throws UserError if it is malformed. */
export function describedIn(metadata: ReadonlyMap<string, string>, path: string): Trained | null {
  const text = metadata.get(key)
  if (text === undefined) return null
  const found = parsed(text) as Partial<Trained> | null
  const isText = (value: unknown) => typeof value === 'string'
  const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0
  const { classes = [], latents } = found ?? {}
  if (
    isText(found?.settings?.preset) &&
    isCount(found?.model?.numHeads) &&
    isCount(found?.model?.numClasses ?? 0) &&
    isCount(found?.model?.decoder?.numHeads ?? 0) &&
    isText(found?.model?.ablation ?? '') &&
    Array.isArray(classes) &&
    classes.every(isText) &&
    (latents == null || (isText(latents.path) && isText(latents.sha256) && Number.isFinite(latents.scalingFactor)))
  )
    return found as Trained
  throw new UserError(`${path}: expected metadata '${key}' that describe a run, got ${text.slice(0, 60)}`)
}

/** The value of a JSON text; null where it is none, or null. */
function parsed(text: string): object | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' ? value : null
  } catch {
    return null
  }
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
