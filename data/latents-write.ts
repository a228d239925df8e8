/**
 * Encodes a set of pictures into a folder of latents, shard by shard. Needs Node. However it ends, the shards that have
 * their names are complete and listed in index.json: the next call checks their checksums and encodes the rest. Batches
 * always hold the same pictures, so interruptions do not change the bits.
 * The format is latents-index.ts; the encoder comes in as a function, since models are no business of this folder.
 */

import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  aBoolean,
  aCount,
  aFiniteNumber,
  aFunction,
  aString,
  check,
  checkOptions,
  type Kind,
  listOf,
  objectWith,
  strings,
} from '../core/arguments.ts'
import { sizeOf } from '../core/shape.ts'
import { alone, type World } from '../distributed/world.ts'
import { writeAside } from '../io/aside.ts'
import { sha256Of } from '../io/checksum.ts'
import { replaceFile } from '../io/replace.ts'
import type { HostTensor } from '../io/safetensors.ts'
import { writeSafetensors } from '../io/safetensors-node.ts'
import { errorLine, UserError } from '../io/user-error.ts'
import { aPictureSet, aWorld } from './arguments.ts'
import { type ImageDataset, imagesOf } from './dataset.ts'
import {
  about,
  checkShard,
  type Encoder,
  indexFile,
  type LatentIndex,
  type LatentSource,
  readIndex,
  type Shard,
} from './latents-index.ts'
import { leaveOut } from './unreadable.ts'

/** Means and standard deviations of a batch, (N, C, h, w) each, not scaled. */
export interface Moments {
  readonly mean: ArrayLike<number>
  readonly std: ArrayLike<number>
}

/** Options of writing a folder of latents. */
export interface EncodeOptions {
  /** images (N, 3, S, S) in [-1, 1], N at most `together`. */
  readonly encode: (images: Float32Array) => Promise<Moments>
  /** Pictures that are encoded at a time. */
  readonly together: number
  /** A shard is finished before it would be larger. Default 16 MiB: what a kill loses at most. */
  readonly shardBytes?: number
  /** Asked after every batch; what has been encoded is kept. */
  readonly stop?: () => Promise<boolean>
  /** Told which shards are damaged and made again, and where others were made with other arithmetic. */
  readonly say?: (line: string) => void
  /** Told how many pictures of the set are done, at first those of an earlier call. */
  readonly done?: (pictures: number) => void
  /** Ranks that encode shards in turn; rank 0 writes the index. Default: this process alone. */
  readonly world?: World
}

const sourceKinds: { readonly [K in keyof LatentSource]: Kind } = {
  data: aString,
  size: aCount,
  pictures: aCount,
  classes: strings,
  mirrored: aBoolean,
  shape: listOf(3),
  vae: objectWith('an encoder', { file: aString, sha256: aString, from: aString, scalingFactor: aFiniteNumber }),
  arithmetic: aString,
}
const aSource = objectWith('a description of the pictures and their encoder', sourceKinds)

const encodeKinds: { readonly [K in keyof EncodeOptions]-?: Kind } = {
  encode: aFunction,
  together: aCount,
  shardBytes: aCount,
  stop: aFunction,
  say: aFunction,
  done: aFunction,
  world: aWorld,
}

/**
 * Writes the latents of `data` to `folder`, or what is missing of them. The index that is returned is complete unless
 * `stop` said so. A picture that cannot be read is left out, as `readableFrom` does, or on a strict set an error. Throws
 * UserError where the folder holds latents of something else, and where the disk refuses: the shards before are intact.
 */
export async function writeLatents(
  folder: string,
  data: ImageDataset,
  source: LatentSource,
  options: EncodeOptions,
): Promise<LatentIndex> {
  check('writeLatents', 'folder', folder, aString)
  check('writeLatents', 'data', data, aPictureSet)
  check('writeLatents', 'source', source, aSource)
  checkOptions('writeLatents', options, encodeKinds, ['encode', 'together'])
  const { together, shardBytes = 2 ** 24, say = () => {}, world = alone } = options
  const batchBytes = together * sizeOf(source.shape) * (source.mirrored ? 16 : 8)
  const perShard = together * Math.max(1, Math.floor(shardBytes / batchBytes))

  const begun = await world.onFirst(async alive => {
    mkdirSync(folder, { recursive: true })
    for (const name of readdirSync(folder)) if (name.startsWith('.tmp-')) rmSync(join(folder, name), { force: true })
    const index = await begin(folder, source, say, alive)
    await copyEncoder(folder, source.vae)
    return index
  })
  let index = world.agreed(begun)!
  let pictures = 0 // encoded or left out
  const skippedAtOnce = data.skipped?.count ?? 0
  const add = (shard: Shard) => {
    pictures += shard.end - shard.first
    const shards = [...index.shards, shard].sort((a, b) => a.first - b.first)
    const skipped = shards.reduce((n, { first, end, rows }) => n + end - first - rows, skippedAtOnce)
    index = { ...index, complete: pictures === data.length, skipped, shards }
    if (world.first) replaceFile(join(folder, indexFile), `${JSON.stringify(index, null, 2)}\n`)
  }
  for (const { first, end } of index.shards) pictures += end - first
  options.done?.(pictures)

  const todo = missing(index.shards, data.length).flatMap(range => cut(range, perShard))
  for (let round = 0; round < todo.length; round += world.size) {
    const own = todo[round + world.rank] // absent on some ranks in the last round
    const done = (at: number) => options.done?.(pictures + at - own[0])
    const made = own === undefined ? null : await writeShard(folder, data, source, own, { ...options, done })
    const all = Array.from({ length: world.size }, (_, rank) => world.agreed(made, rank)).filter(each => each !== null)
    for (const { shard } of all) add(shard)
    if (all.some(({ stopped }) => stopped)) break
  }
  return index
}

type Range = readonly [first: number, end: number]

/** Cuts a range of pictures into those of shards. */
function cut([first, end]: Range, perShard: number): Range[] {
  return Array.from({ length: Math.ceil((end - first) / perShard) }, (_, i) => {
    const start = first + i * perShard
    return [start, Math.min(start + perShard, end)] as const
  })
}

/** Encodes a range, or as much of it as `stop` allows, and writes it as a shard. */
async function writeShard(
  folder: string,
  data: ImageDataset,
  source: LatentSource,
  range: Range,
  options: EncodeOptions,
): Promise<{ readonly shard: Shard; readonly stopped: boolean }> {
  const [first] = range
  const { tensors, count, end, stopped } = await encodeRows(data, source, range, options)
  const file = `latents-${String(first).padStart(8, '0')}.safetensors`
  const path = join(folder, file)
  let sha256 = ''
  await writeAside(path, async aside => {
    await writeSafetensors(aside, tensors)
    sha256 = await sha256Of(aside) // of what the disk gives back
  })
  return { shard: { file, first, end, rows: count, bytes: statSync(path).size, sha256 }, stopped }
}

/** The index so far, without the shards that are missing or damaged. */
async function begin(
  folder: string,
  source: LatentSource,
  say: (line: string) => void,
  alive: () => void,
): Promise<LatentIndex> {
  const before = readIndex(folder)
  if (before === undefined)
    return { format: 'demask latents 1', about, complete: false, ...source, skipped: 0, shards: [] }
  const { arithmetic, ...decisive } = source
  for (const name of Object.keys(decisive) as (keyof typeof decisive)[]) {
    const shown = (of: typeof decisive) => JSON.stringify(name === 'vae' ? of.vae.sha256 : of[name])
    if (shown(before) !== shown(source))
      throw new UserError(
        `${folder}: there are latents already, of ${name} ${shown(before)}, got ${shown(source)}: --out chooses another folder`,
      )
  }
  if (before.arithmetic !== arithmetic)
    say(`${folder}: what is there was made on ${before.arithmetic}: expect other last digits`)
  const shards: Shard[] = []
  for (const shard of before.shards)
    try {
      alive()
      await checkShard(folder, before, shard)
      shards.push(shard)
    } catch (error) {
      say(`${errorLine(error).replace(/^error: /, '')}; it is made again`)
    }
  return {
    ...before,
    ...decisive,
    complete: shards.reduce((n, { first, end }) => n + end - first, 0) === source.pictures,
    shards,
  }
}

/** Puts the autoencoder's file beside the shards, unless it is there. Throws UserError. */
async function copyEncoder(folder: string, { file, from, sha256 }: Encoder): Promise<void> {
  const path = join(folder, file)
  if (existsSync(path) && (await sha256Of(path)) === sha256) return
  await writeAside(path, aside => copyFile(from, aside))
}

/** The ranges of pictures that are in no shard. */
function missing(shards: readonly Shard[], length: number): (readonly [start: number, end: number])[] {
  const starts = [0, ...shards.map(({ end }) => end)]
  const ends = [...shards.map(({ first }) => first), length]
  return starts.map((start, i) => [start, ends[i]] as const).filter(([start, end]) => start < end)
}

interface Rows {
  readonly tensors: ReadonlyMap<string, HostTensor<ArrayLike<number>>>
  readonly count: number
  readonly end: number
  readonly stopped: boolean
}

/** The latents of the pictures [first, end), or of as many as `stop` allows. */
async function encodeRows(
  data: ImageDataset,
  { mirrored, shape }: LatentSource,
  [first, end]: readonly [number, number],
  { encode, together, stop, done }: EncodeOptions,
): Promise<Rows> {
  const values = sizeOf(shape)
  const ways = mirrored ? ['', '.mirrored'] : ['']
  const room = () => new Float32Array((end - first) * values)
  const moments = new Map(ways.flatMap(way => [`mean${way}`, `std${way}`]).map(name => [name, room()]))
  const picture: number[] = []
  let [at, stopped] = [first, false]
  while (at < end && !stopped) {
    const batch = Array.from({ length: Math.min(together, end - at) }, (_, i) => at + i)
    const pixels: Uint8Array[] = []
    const row = picture.length
    for (const [k, read] of (await Promise.allSettled(batch.map(async i => data.pixels(i)))).entries())
      if (read.status === 'fulfilled') {
        pixels.push(read.value)
        picture.push(batch[k])
      } else leaveOut(data, read.reason)
    for (const way of pixels.length > 0 ? ways : []) {
      const { mean, std } = await encode(imagesOf(pixels, data.size, () => way !== ''))
      moments.get(`mean${way}`)!.set(mean, row * values)
      moments.get(`std${way}`)!.set(std, row * values)
    }
    at += batch.length
    done?.(at)
    stopped = (await stop?.()) ?? false
  }
  const n = picture.length
  const i32 = (numbers: readonly number[]) => ({ dtype: 'I32', shape: [n], data: Int32Array.from(numbers) }) as const
  const tensors = new Map<string, HostTensor<ArrayLike<number>>>([
    ['label', i32(picture.map(i => data.label(i)))],
    ['picture', i32(picture)],
  ])
  for (const [name, all] of moments)
    tensors.set(name, { dtype: 'F32', shape: [n, ...shape], data: all.subarray(0, n * values) })
  return { tensors, count: n, end: at, stopped }
}
