/**
 * Latents in programs: encodes pictures, opens a folder of latents in place of pictures, and decodes
 * generated ones, so that people see pictures. Needs Node. Folders of latents: data/latents.ts.
 */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { noGrad, scope, tensor } from '../core/index.ts'
import { type ClassFrom, type ImageDataset, type LatentDataset, type Moments, readIndex } from '../data/index.ts'
import { sha256Of } from '../io/checksum.ts'
import { UserError } from '../io/user-error.ts'
import type { AutoencoderKL } from '../models/index.ts'
import { samplesLayout, writeGrid } from './pictures.ts'
import { loadVae, locateVae } from './vae-weights.ts'

/** Pictures that are encoded or decoded at a time: as many as have the pixels of one of 256 by 256. */
export const togetherAt = (size: number): number => Math.min(Math.max(Math.floor((256 / size) ** 2), 1), 64)

/** images (N, C, S, S) in [-1, 1] → the posterior's means and standard deviations, (N, latents, s, s) each, not scaled. Rejects with UserError if one is not finite. */
export async function momentsOf(model: AutoencoderKL, images: Float32Array, size: number): Promise<Moments> {
  const { inChannels: C = 3 } = model.options
  const [mean, std] = noGrad(() =>
    scope(() => {
      const posterior = model.encode(tensor(images, { shape: [images.length / (C * size * size), C, size, size] }))
      return [posterior.mean, posterior.std()] as const
    }),
  )
  const moments = { mean: await mean.data(), std: await std.data() }
  mean.dispose()
  std.dispose()
  const bad = Object.values(moments).flatMap(values => values.find(value => !Number.isFinite(value)) ?? [])[0]
  if (bad !== undefined)
    throw new UserError(
      `encode: expected finite latents, got ${bad}: the autoencoder's weights are too large or damaged`,
    )
  return moments
}

/** How what a model draws becomes pictures; kept in the checkpoints of a run on latents. */
export interface LatentSpace {
  /** The autoencoder's file, beside the latents. */
  readonly path: string
  readonly sha256: string
  readonly scalingFactor: number
}

/**
 * Returns the settings that follow from --latents, which are of the encoded pictures, and the side of the latents. Throws UserError.
 */
export function picturesOf(given: {
  readonly latents?: string
  readonly data?: string
  readonly classFrom?: ClassFrom
  readonly size?: number
}): { readonly pictures: { latents: string | null; data?: string; size?: number }; readonly inputSize?: number } {
  const { latents } = given
  if (latents === undefined) return { pictures: { latents: null } }
  for (const [flag, name] of [
    ['data', 'data'],
    ['class-from', 'classFrom'],
    ['size', 'size'],
  ] as const)
    if (given[name] !== undefined) throw new UserError(`--${flag}: expected no --latents beside it, got ${given[name]}`)
  const index = readIndex(latents)
  if (index === undefined)
    throw new UserError(`--latents: expected a folder that encode-latents has made, got ${latents}`)
  return { pictures: { latents, data: index.data, size: index.size }, inputSize: index.shape[1] }
}

/** Describes a training set. */
export function contentsOf(data: ImageDataset | LatentDataset): string {
  if (!('index' in data)) return `the ${data.length} pictures of ${data.name} at ${data.size} px`
  const { shape, size } = data.index
  return `latents, ${shape.join(' × ')}, of the ${data.length} pictures of ${data.index.data} at ${size} px`
}

/** The space of a set's latents; null for pictures. */
export function spaceOf(data: ImageDataset | LatentDataset): LatentSpace | null {
  if (!('index' in data)) return null
  const { file, sha256, scalingFactor } = data.index.vae
  return { path: resolve(data.name, file), sha256, scalingFactor }
}

/** Values that a model generated, (N, C, S, S). */
export interface Generated {
  readonly values: Float32Array
  readonly shape: readonly [N: number, C: number, H: number, W: number]
}

/** Pictures of what a model generated; null if `stop` becomes true meanwhile. */
export type Decode = (drawn: Generated, stop?: () => Promise<boolean>) => Promise<Generated | null>

/**
 * How latents become pictures: by the autoencoder that made them, in `where` (a flag's value) or beside them. It is
 * loaded to decode, and freed afterwards. If it is not found, `say` gets a note, and latents are shown as
 * they are, as colours. Null for a model of pictures. Throws UserError on another autoencoder.
 */
export async function decoderOf(
  space: LatentSpace | null | undefined,
  where: string | undefined,
  say: (line: string) => void = console.log,
): Promise<Decode | null> {
  if (space == null) {
    if (where !== undefined) throw new UserError(`--vae: expected on a model of latents only, got ${where}`)
    return null
  }
  if (where === undefined && !existsSync(space.path)) {
    say(`${space.path}: no such file, so samples show latents as colours; --vae says where the autoencoder is now`)
    return async drawn => drawn
  }
  const path = locateVae(where ?? space.path)
  const sha256 = await sha256Of(path)
  if (sha256 !== space.sha256)
    throw new UserError(
      `${path}: expected the autoencoder of these latents, of checksum ${space.sha256}, got ${sha256}`,
    )
  return (drawn, stop) => decoded(loadVae(path).model, space.scalingFactor, drawn, stop)
}

/** Decodes and disposes of the model. Null if `stop` becomes true meanwhile. */
async function decoded(
  model: AutoencoderKL,
  scale: number,
  { values, shape }: Generated,
  stop?: () => Promise<boolean>,
): Promise<Generated | null> {
  const [N, C, h, w] = shape
  const { outChannels = 3 } = model.options
  const [H, W] = [h * model.downsampling, w * model.downsampling]
  const together = togetherAt(H)
  const out = new Float32Array(N * outChannels * H * W)
  for (let i = 0; i < N; i += together) {
    if (await stop?.()) {
      model.dispose()
      return null
    }
    const n = Math.min(together, N - i)
    const latents = values.subarray(i * C * h * w, (i + n) * C * h * w).map(value => value / scale)
    const pictures = noGrad(() => scope(() => model.decode(tensor(latents, { shape: [n, C, h, w] }))))
    out.set(await pictures.data(), i * outChannels * H * W)
    pictures.dispose()
  }
  model.dispose()
  return { values: out, shape: [N, outChannels, H, W] }
}

/**
 * Writes a grid of what a model generated, decoded if it generated latents; nothing if `stop` becomes true meanwhile. Classes
 * are drawn in turn. Throws UserError where the file cannot be written.
 */
export async function showGenerated(
  path: string,
  drawn: Generated,
  { decode, classes = 0 }: { readonly decode: Decode | null; readonly classes?: number },
  stop?: () => Promise<boolean>,
): Promise<void> {
  const pictures = decode === null ? drawn : await decode(drawn, stop)
  if (pictures === null) return
  const { values, shape } = pictures
  await writeGrid(path, values, shape, samplesLayout(shape, classes))
}
