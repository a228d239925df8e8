/**
 * Inputs of `demask evaluate`: pictures from anywhere, as batches that a network takes, or statistics of a file; and
 * the networks whose features it compares them by. Needs Node.
 */

import { existsSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type ClassFrom,
  type ImageDataset,
  imagesOf,
  isList,
  leaveOut,
  npzPixels,
  type OpenOptions,
  openDataset,
  openFolderAtCommonSize,
  planesOf,
  toModelRange,
} from '../data/index.ts'
import type { World } from '../distributed/index.ts'
import { EmojiFeatures } from '../evaluation/emoji-features.ts'
import { readStatistics, type StoredStatistics } from '../evaluation/feature-statistics.ts'
import { InceptionV3 } from '../evaluation/inception.ts'
import type { FeatureNetwork } from '../evaluation/index.ts'
import { NpzFile } from '../io/npz.ts'
import { UserError } from '../io/user-error.ts'
import { openWeights } from '../io/weights-node.ts'
import { load } from '../training/trained-run.ts'

/** Which of several processes takes every `size`-th batch. */
export type Turn = Pick<World, 'rank' | 'size'>

/** Pictures in order. */
export interface Pictures extends Disposable {
  readonly name: string
  readonly length: number
  readonly height: number
  readonly width: number
  /**
   * Every `turn.size`-th batch of the pictures [from, to), from number `turn.rank` on: those of the `batch` pictures that can
   * be read, as what networks see, (N, 3, H, W) in [−1, 1].
   */
  batches(from: number, to: number, batch: number, turn: Turn): AsyncGenerator<Float32Array, void>
}

/** A word of the command line: pictures to be measured, or what was measured before. */
export type Source = { readonly pictures: Pictures } | { readonly stored: StoredStatistics; readonly name: string }

/**
 * An .npz or .npy with arr_0 (ADM's batches; what statistics lie beside it is not used) or with mu and sigma, a .safetensors of
 * statistics, a folder of pictures, or what `openDataset` knows; pictures of a folder at `size`, which without it is their
 * most common shorter side. Rejects with one line that names `spec`.
 */
export async function openSource(spec: string, size: number | undefined, classFrom?: ClassFrom): Promise<Source> {
  if (spec.endsWith('.safetensors')) return { stored: await readStatistics(present(spec)), name: spec }
  if (!/\.np[yz]$/.test(spec)) return { pictures: await openPictures(spec, size, classFrom) }
  const file = await NpzFile.open(present(spec))
  if (file.arrays.has('arr_0')) {
    // ADM's reference batches have both.
    if (file.arrays.has('mu'))
      console.error(
        `${spec}: its pictures are measured; its statistics (mu, sigma), of another network or set, are not used`,
      )
    return { pictures: await batchOf(file) }
  }
  file.close()
  return { stored: await readStatistics(spec), name: spec }
}

/** True if there is a folder at `path`. */
export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

function present(path: string): string {
  if (existsSync(path)) return path
  throw new UserError(`${path}: expected a file of pictures or statistics: no such file`)
}

async function openPictures(
  spec: string,
  size: number | undefined,
  classFrom: ClassFrom | undefined,
): Promise<Pictures> {
  if (spec.endsWith('.zip') && size === undefined)
    throw new UserError(`--size: expected with a ZIP of pictures, got none: ${spec}`)
  const set = await (size === undefined && (isFolder(spec) || isList(spec))
    ? openAtCommonSize(spec, { classFrom })
    : openDataset(spec, size ?? 32, { classFrom }))
  return {
    name: spec,
    length: set.length,
    height: set.size,
    width: set.size,
    async *batches(from, to, batch, { rank, size }) {
      for (let first = from + rank * batch; first < to; first += size * batch) {
        const indices = Array.from({ length: Math.min(batch, to - first) }, (_, k) => first + k)
        const pixels: Uint8Array[] = []
        for (const read of await Promise.allSettled(indices.map(async i => set.pixels(i))))
          if (read.status === 'fulfilled') pixels.push(read.value)
          else leaveOut(set, read.reason)
        yield imagesOf(pixels, set.size)
      }
    },
    [Symbol.dispose]() {},
  }
}

/** Opens a folder's pictures at their most common size. Says so where others differ. */
async function openAtCommonSize(folder: string, options: OpenOptions): Promise<ImageDataset> {
  const { set, sides } = await openFolderAtCommonSize(folder, options)
  const [least, largest] = sides
  if (least < largest)
    console.error(
      `${folder}: pictures of ${least} to ${largest} px are measured at ${set.size} px, the most common size; --size chooses another`,
    )
  return set
}

/** Pictures of an ADM batch: arr_0 in any layout that `npzPixels` reads. Closes the file where it rejects. [ADM] */
async function batchOf(file: NpzFile): Promise<Pictures> {
  const { count, height, width, rgb } = await npzPixels(file).catch((error: unknown) => {
    file.close()
    throw error
  })
  return {
    name: file.path,
    length: count,
    height,
    width,
    async *batches(from, to, batch, { rank, size }) {
      let pictures: Uint8Array[] = []
      let i = 0
      for await (const row of file.rows('arr_0')) {
        const at = i++ - from
        if (at < 0) continue
        const isOwn = Math.floor(at / batch) % size === rank
        if (isOwn) pictures.push(planesOf(rgb(row), 3))
        if ((at + 1) % batch > 0 && i < to) continue
        if (isOwn) yield Float32Array.from(Buffer.concat(pictures), toModelRange)
        if (i >= to) return
        pictures = []
      }
    },
    [Symbol.dispose]: () => file.close(),
  }
}

/** A network, and the names of its metrics, which differ between networks so that they are not confused. */
export interface Measure {
  readonly network: FeatureNetwork
  /** Kept in files of statistics: what was made with another network is refused. */
  readonly features: string
  readonly title: string
  readonly names: Readonly<Record<'distance' | 'spatial' | 'score' | 'precision' | 'recall', string>>
  /** Widths of `pool` and `spatial`. */
  readonly widths: readonly [pool: number, spatial: number]
}

/** Inception v3 with weights of a file, .pth or .safetensors. Rejects with one line that names it. */
export async function inception(path: string): Promise<Measure> {
  using file = await openWeights(path)
  const network = new InceptionV3({ rng: null })
  load(network, file.state, path)
  return {
    network,
    features: 'inception',
    title: `Inception v3 (${basename(path)})`,
    names: {
      distance: 'FID',
      spatial: 'sFID',
      score: 'Inception score',
      precision: 'precision',
      recall: 'recall',
    },
    widths: [2048, 2023],
  }
}

/** The classifier of emoji that comes with demask. */
export async function emoji(): Promise<Measure> {
  const places = ['../assets/', '../../assets/'].map(up =>
    fileURLToPath(new URL(`${up}emoji-features.safetensors`, import.meta.url)),
  )
  const path = places.find(place => existsSync(place))
  if (path === undefined) throw new UserError(`${places[0]}: expected the weights that come with demask: no such file`)
  using file = await openWeights(path)
  const [classes] = file.state.get('fc.weight')?.shape ?? [0]
  const network = new EmojiFeatures(classes, { rng: null }, [16, 32])
  load(network, file.state, path)
  return {
    network,
    features: 'emoji-2', // 'emoji' are those of version 0.1
    title: 'emoji features, which are not those of FID (--inception FILE for FID)',
    names: {
      distance: 'Fréchet distance of emoji features (not FID)',
      spatial: 'spatial Fréchet distance of emoji features (not sFID)',
      score: 'score of emoji classes (not Inception score)',
      precision: 'precision by emoji features',
      recall: 'recall by emoji features',
    },
    widths: [128, 448],
  }
}
