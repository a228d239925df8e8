/**
 * What programs do with latents: encode pictures to them, open a folder of them in place of pictures, and decode what a
 * model has drawn, so that people see pictures. Needs Node. Folders of latents: data/latents.ts.
 */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { noGrad, scope, tensor } from '../core/index.ts'
import {
  type ClassFrom,
  type ImageDataset,
  type LatentDataset,
  type Moments,
  type OpenOptions,
  openDataset,
  openLatents,
  readIndex,
} from '../data/index.ts'
import { sha256Of } from '../io/checksum.ts'
import { UserError } from '../io/user-error.ts'
import type { AutoencoderKL } from '../models/index.ts'
import { writeGrid } from './pictures.ts'
import type { CommonSettings } from './settings.ts'
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

/**
 * What a run is trained on: the latents in a folder, or else pictures. `before` is what a resumed run was trained on. Says
 * how far the checksums are, past 2 s. Throws UserError, also on latents of another autoencoder than before.
 */
export async function openTrainingSet(
  { latents, data, classFrom, size }: Pick<CommonSettings, 'latents' | 'data' | 'classFrom' | 'size'>,
  before?: { readonly latents?: LatentSpace | null },
  options?: OpenOptions,
): Promise<ImageDataset | LatentDataset> {
  if (latents === null) return openDataset(data, size, { ...options, classFrom })
  const total = readIndex(latents)?.shards.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1)
  let said = performance.now()
  const set = await openLatents(latents, bytes => {
    if (performance.now() - said < 2000) return
    said = performance.now()
    console.log(`${latents}: checked ${gigabytes(bytes)} of ${gigabytes(total)} GB`)
  })
  const [had, has] = [before?.latents, set.index.vae]
  if (had != null && (had.sha256 !== has.sha256 || had.scalingFactor !== has.scalingFactor))
    throw new UserError(`${latents}: expected latents of the autoencoder ${had.sha256} as before, got ${has.sha256}`)
  return set
}

/** What a run is trained on, in words. */
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

/** What a model drew, (N, C, S, S), and what it is to be shown as. */
export interface Generated {
  readonly values: Float32Array
  readonly shape: readonly [N: number, C: number, H: number, W: number]
}

/** Pictures of what a model generated; null if `stop` becomes true meanwhile. */
export type Decode = (drawn: Generated, stop?: () => Promise<boolean>) => Promise<Generated | null>

/**
 * How latents become pictures: by the autoencoder that made them, in `where` (a flag's value) or beside them. It is
 * loaded when something is to be decoded, and let go of then. Where it is nowhere, `say` is told, and latents are shown as
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
 * Writes a grid of what a model generated, decoded if it generated latents, in rows of 12; nothing if `stop` becomes true
 * meanwhile. Throws UserError where the file cannot be written.
 */
export async function showGenerated(
  path: string,
  drawn: Generated,
  decode: Decode | null,
  stop?: () => Promise<boolean>,
): Promise<void> {
  const pictures = decode === null ? drawn : await decode(drawn, stop)
  if (pictures === null) return
  const { values, shape } = pictures
  await writeGrid(path, values, shape, { columns: Math.min(12, shape[0]), magnify: Math.ceil(48 / shape[2]) })
}
