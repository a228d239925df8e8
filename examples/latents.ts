/**
 * What programs do with latents: encode pictures to them, open a folder of them in place of pictures, and decode what a
 * model has drawn, so that people see pictures. Needs Node. Folders of latents: diffusion/data/latents.ts.
 */

import { existsSync } from 'node:fs'
import { noGrad, scope, tensor } from '../core/index.ts'
import {
  type Encoder,
  type ImageDataset,
  type LatentDataset,
  type Moments,
  openDataset,
  openLatents,
  readIndex,
  sha256Of,
} from '../diffusion/data/index.ts'
import { UserError, writeGrid } from '../diffusion/training/index.ts'
import type { AutoencoderKL } from '../models/index.ts'
import { loadVae, locateVae } from './vae-weights.ts'

/** Pictures that are encoded or decoded at a time: as many as have the pixels of one of 256 by 256. */
export const togetherAt = (size: number): number => Math.min(Math.max(Math.floor((256 / size) ** 2), 1), 64)

/** images (N, C, S, S) in [-1, 1] → the posterior's means and standard deviations, (N, latents, s, s) each, not scaled. */
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
  return moments
}

/** How what a model draws becomes pictures; kept in the checkpoints of a run on latents. */
export interface LatentSpace {
  readonly vae: Encoder
}

/**
 * What a run is trained on: the latents in a folder, or else pictures. `before` is what a resumed run was trained on. Says
 * how far the checksums are, past 2 s. Throws UserError, also on latents of another autoencoder than before.
 */
export async function openTrainingSet(
  { latents, data, size }: { readonly latents: string | null; readonly data: string; readonly size: number },
  before?: { readonly latents?: LatentSpace | null },
): Promise<ImageDataset | LatentDataset> {
  if (latents === null) return openDataset(data, size)
  const total = readIndex(latents)?.shards.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1)
  let said = performance.now()
  const set = await openLatents(latents, bytes => {
    if (performance.now() - said < 2000) return
    said = performance.now()
    console.log(`${latents}: checked ${gigabytes(bytes)} of ${gigabytes(total)} GB`)
  })
  const [had, has] = [before?.latents?.vae, set.index.vae]
  if (had != null && (had.sha256 !== has.sha256 || had.scalingFactor !== has.scalingFactor))
    throw new UserError(`${latents}: wanted latents of the autoencoder ${had.sha256} as before, got ${has.sha256}`)
  return set
}

/** The space of a set's latents; null for pictures. */
export function spaceOf(data: ImageDataset | LatentDataset): LatentSpace | null {
  return 'index' in data ? { vae: data.index.vae } : null
}

/** What a model drew, (N, C, S, S), and what it is to be shown as. */
export interface Drawn {
  readonly values: Float32Array
  readonly shape: readonly [N: number, C: number, H: number, W: number]
}

/** Pictures of what a model drew. */
export type Decode = (drawn: Drawn) => Promise<Drawn>

/**
 * How latents become pictures: by the autoencoder that made them, in `where` (a flag's value) or where it was then. Null,
 * and `say` is told, where it is nowhere. It is loaded when something is to be decoded, and let go of then. Throws
 * UserError on another autoencoder.
 */
export async function decoderOf(
  space: LatentSpace,
  where: string | undefined,
  say: (line: string) => void,
): Promise<Decode | null> {
  const { vae } = space
  if (where === undefined && !existsSync(vae.path)) {
    say(`${vae.path}: no such file, so samples show latents as colours; --vae says where the autoencoder is now`)
    return null
  }
  const path = locateVae(where ?? vae.path)
  const sha256 = await sha256Of(path)
  if (sha256 !== vae.sha256)
    throw new UserError(`${path}: wanted the autoencoder of these latents, of checksum ${vae.sha256}, got ${sha256}`)
  return drawn => decoded(loadVae(path).model, vae.scalingFactor, drawn)
}

/** Decodes and disposes of the model. */
async function decoded(model: AutoencoderKL, scale: number, { values, shape }: Drawn): Promise<Drawn> {
  const [N, C, h, w] = shape
  const { outChannels = 3 } = model.options
  const [H, W] = [h * model.downsampling, w * model.downsampling]
  const together = togetherAt(H)
  const out = new Float32Array(N * outChannels * H * W)
  for (let i = 0; i < N; i += together) {
    const n = Math.min(together, N - i)
    const latents = values.subarray(i * C * h * w, (i + n) * C * h * w).map(value => value / scale)
    const pictures = noGrad(() => scope(() => model.decode(tensor(latents, { shape: [n, C, h, w] }))))
    out.set(await pictures.data(), i * outChannels * H * W)
    pictures.dispose()
  }
  model.dispose()
  return { values: out, shape: [N, outChannels, H, W] }
}

/** Writes a grid of what a model drew, decoded where it drew latents. Throws UserError where the file cannot be written. */
export async function showDrawn(path: string, drawn: Drawn, decode: Decode | null): Promise<void> {
  const { values, shape } = decode === null ? drawn : await decode(drawn)
  await writeGrid(path, values, shape, { columns: Math.min(12, shape[0]), magnify: Math.ceil(48 / shape[2]) })
}
