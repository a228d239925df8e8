/**
 * A folder of latents: index.json, which names the pictures and the autoencoder, and shards, safetensors files of the
 * posteriors' means and standard deviations. Needs Node. Written by latents-write.ts, read by latents.ts.
 *
 * A shard has, for its n pictures, `mean` and `std` (n, C, h, w) in f32, not scaled; `mean.mirrored` and `std.mirrored` of
 * their mirror images, where the set has them; `label` (n) and `picture` (n), the place in the set.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { aString, check } from '../core/arguments.ts'
import { sha256Of } from '../io/checksum.ts'
import { wholeText } from '../io/open-node.ts'
import { SafetensorsFile } from '../io/safetensors-node.ts'
import { reason, UserError } from '../io/user-error.ts'

/** The autoencoder that made latents, which alone can make pictures of them. */
export interface Encoder {
  /** A copy of its weights in this folder: the file itself may be trained on, and then fits these latents no more. */
  readonly file: string
  /** Of that file. */
  readonly sha256: string
  /** Where it was copied from. */
  readonly from: string
  /** Factor that models multiply latents by, so that their standard deviation is about 1. */
  readonly scalingFactor: number
}

/** Settings that determine the numbers in the shards. */
export interface LatentSource {
  /** The set of pictures, as people say it after `--data`. */
  readonly data: string
  /** Height and width of its pictures. */
  readonly size: number
  /** Their number. */
  readonly pictures: number
  readonly classes: readonly string[]
  /** True if mirror images were encoded too. */
  readonly mirrored: boolean
  /** (C, h, w) */
  readonly shape: readonly [C: number, h: number, w: number]
  readonly vae: Encoder
  /** Backend and build, which decide the last digits. */
  readonly arithmetic: string
}

/** The readable ones of the pictures [first, end) of the set. */
export interface Shard {
  readonly file: string
  readonly first: number
  readonly end: number
  /** Number of latents. */
  readonly rows: number
  readonly bytes: number
  readonly sha256: string
}

export interface LatentIndex extends LatentSource {
  readonly format: 'demask latents 1'
  /** For people. */
  readonly about: string
  /** True if every picture of the set has been encoded or skipped. */
  readonly complete: boolean
  /** Number of unreadable pictures, which were left out. */
  readonly skipped: number
  /** In the order of the set. */
  readonly shards: readonly Shard[]
}

export const indexFile = 'index.json'

export const about =
  'Latents of pictures: means and standard deviations of what the encoder of `vae` makes of them, in safetensors shards. ' +
  'A model sees (mean + std * noise) * scalingFactor. Tensors of a shard: mean, std [rows, C, h, w]; mean.mirrored, ' +
  'std.mirrored, of the mirror images; label [rows], a place in `classes`; picture [rows], a place in `data`. ' +
  '`vae.file` decodes them. `sha256` is that of a file. Made by demask encode-latents; train with --latents and this folder.'

/** The index of a folder; undefined where there is none. Throws UserError on one that cannot be read or is of something else. */
export function readIndex(folder: string): LatentIndex | undefined {
  check('readIndex', 'folder', folder, aString)
  const path = join(folder, indexFile)
  if (!existsSync(path)) return undefined
  let index: LatentIndex
  try {
    index = JSON.parse(wholeText(path))
  } catch (error) {
    if (error instanceof UserError) throw error
    throw new UserError(`${path}: expected the index of a folder of latents: ${reason(error)}`)
  }
  if (index?.format !== 'demask latents 1')
    throw new UserError(`${path}: expected format 'demask latents 1', got ${JSON.stringify(index?.format ?? null)}`)
  const named = /^[\w-]+\.safetensors$/ // in this folder
  const whole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0
  const sound =
    index.shape?.length === 3 &&
    index.shape.every(whole) &&
    Array.isArray(index.classes) &&
    Array.isArray(index.shards) &&
    index.shards.every(shard => named.test(shard?.file) && [shard.first, shard.end, shard.rows].every(whole)) &&
    named.test(index.vae?.file) &&
    index.vae.scalingFactor > 0
  if (!sound) throw new UserError(`${path}: expected shape, classes, vae and shards of latents, got others: damaged`)
  return index
}

/** Checks length, header and checksum of a shard. Throws UserError or SafetensorsError, in one line with its path. */
export async function checkShard(folder: string, index: LatentSource, shard: Shard): Promise<void> {
  const path = join(folder, shard.file)
  if (!existsSync(path)) throw new UserError(`${path}: expected a shard of latents: no such file`)
  openShard(folder, index, shard).close()
  const sha256 = await sha256Of(path)
  if (sha256 !== shard.sha256)
    throw new UserError(
      `${path}: expected the checksum ${shard.sha256} of ${indexFile}, got ${sha256}: damaged or replaced`,
    )
}

/** An open shard, whose tensors are those that the index promises. Throws UserError or SafetensorsError. */
export function openShard(folder: string, { shape, mirrored }: LatentSource, { file, rows }: Shard): SafetensorsFile {
  const path = join(folder, file)
  const opened = new SafetensorsFile(path)
  const moments = ['mean', 'std', ...(mirrored ? ['mean.mirrored', 'std.mirrored'] : [])]
  for (const [name, wanted] of [
    ...moments.map(name => [name, `F32 [${[rows, ...shape].join(', ')}]`]),
    ...['label', 'picture'].map(name => [name, `I32 [${rows}]`]),
  ]) {
    const entry = opened.header.tensors.get(name)
    const got = entry === undefined ? 'none' : `${entry.dtype} [${entry.shape.join(', ')}]`
    if (got === wanted) continue
    opened.close()
    throw new UserError(`${path}: expected '${name}' of ${wanted}, got ${got}`)
  }
  return opened
}
