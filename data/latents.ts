/**
 * A folder of latents as a training set. Needs Node. Pictures are read one by one from their places in the shards, so of
 * a set of any size no more than a window is in memory, and a batch may come from all over it. What a model sees is drawn
 * anew each time from the posterior, as MaskDiT does. [MaskDiT] The format is latents-index.ts. Before: dataset.ts.
 */

import { closeSync, read } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { aFunction, aString, check } from '../core/arguments.ts'
import { sizeOf } from '../core/shape.ts'
import { openRegular } from '../io/open-node.ts'
import { reason, UserError } from '../io/user-error.ts'
import type { TrainingSet } from './dataset.ts'
import { checkShard, indexFile, type LatentIndex, openShard, readIndex, type Shard } from './latents-index.ts'

/** The posterior of a picture, (C, h, w) each, not scaled; not to be written to. */
export interface Posterior {
  readonly mean: Float32Array
  readonly std: Float32Array
}

/** `size` and `channels` are those of latents. */
export interface LatentDataset extends TrainingSet {
  readonly index: LatentIndex
  /** Of picture `i` or its mirror image. At once where it is in memory. Rejects with UserError where the disk fails. */
  moments(i: number, mirrored: boolean): Posterior | Promise<Posterior>
  /** Closes the file. */
  close(): void
}

/** Posteriors are kept until they take this many bytes; later ones are read again whenever they are drawn. */
const windowBytes = 2 ** 28
/** Shards that are open at a time. */
const mostOpen = 64

/**
 * The latents in a folder that encode-latents has finished. Every shard's checksum is compared with the index, and `done`
 * told the bytes that are checked. Throws UserError or SafetensorsError, with the file in question, where something is
 * missing, cut short, damaged or not finished.
 */
export async function openLatents(folder: string, done: (bytes: number) => void = () => {}): Promise<LatentDataset> {
  check('openLatents', 'folder', folder, aString)
  check('openLatents', 'done', done, aFunction)
  const index = readIndex(folder)
  if (index === undefined) throw new UserError(`${folder}: expected a folder of latents, got none: no ${indexFile}`)
  const { shards, classes, mirrored, shape } = index
  if (!index.complete) {
    const pictures = shards.reduce((n, { first, end }) => n + end - first, 0)
    throw new UserError(
      `${folder}: expected all latents of ${index.pictures} pictures, got ${pictures}: the same encode-latents goes on with it`,
    )
  }
  let bytes = 0
  for (const shard of shards) {
    await checkShard(folder, index, shard)
    bytes += shard.bytes
    done(bytes)
  }
  const files = shards.map(shard => new ShardFile(folder, index, shard))
  const rows = files.flatMap(file => Array.from(file.labels, (label, row) => ({ file, row, label })))
  if (rows.length === 0) throw new UserError(`${folder}: expected latents of one picture at least, got none`)
  const odd = rows.find(({ label }) => label < 0 || label >= classes.length)
  if (odd) throw new UserError(`${odd.file.path}: expected labels below ${classes.length}, got ${odd.label}`)

  const [C, h, w] = shape
  if (h !== w) throw new UserError(`${folder}: expected square latents, got ${h} by ${w}`)
  const values = sizeOf(shape)
  const window = new Map<number, Posterior>()
  const keep = Math.floor(windowBytes / (8 * values))
  const opened = new Set<ShardFile>()
  return {
    name: folder,
    length: rows.length,
    size: h,
    channels: C,
    classes,
    flips: mirrored,
    index,
    label: i => rows[i].label,
    moments(i, mirror) {
      const key = mirror ? rows.length + i : i
      const known = window.get(key)
      if (known !== undefined) return known
      const { file, row } = rows[i]
      makeRoom(opened, file)
      return file.moments(row, values, mirror).then(posterior => {
        if (window.size < keep) window.set(key, posterior)
        return posterior
      })
    },
    close() {
      for (const file of opened) file.close()
    },
  }
}

/** Closes a file that is not being read from, where as many are open as may be. */
function makeRoom(opened: Set<ShardFile>, wanted: ShardFile): void {
  const idle = opened.size < mostOpen || opened.has(wanted) ? undefined : [...opened].find(file => !file.busy)
  if (idle !== undefined) {
    idle.close()
    opened.delete(idle)
  }
  opened.add(wanted)
}

const readAt = promisify(read)

/** Where a shard's tensors are, and the open file while it is in use. */
class ShardFile {
  readonly path: string
  readonly labels: ArrayLike<number>
  readonly #begins: ReadonlyMap<string, number>
  #descriptor: number | null = null
  #reading = 0

  constructor(folder: string, index: LatentIndex, shard: Shard) {
    const file = openShard(folder, index, shard)
    try {
      this.path = join(folder, shard.file)
      this.labels = file.read('label').data
      this.#begins = new Map(Array.from(file.header.tensors, ([name, { begin }]) => [name, begin]))
    } finally {
      file.close()
    }
  }

  get busy(): boolean {
    return this.#reading > 0
  }

  /** Mean and standard deviation in `row`, of `values` numbers each. Rejects with UserError. */
  async moments(row: number, values: number, mirrored: boolean): Promise<Posterior> {
    const way = mirrored ? '.mirrored' : ''
    this.#reading++
    try {
      this.#descriptor ??= openRegular(this.path).descriptor
      const [mean, std] = await Promise.all(['mean', 'std'].map(name => this.#row(name + way, row, values)))
      return { mean, std }
    } catch (error) {
      throw error instanceof UserError
        ? error
        : new UserError(`${this.path}: could not be read: ${reason(error)}`, { cause: error })
    } finally {
      this.#reading--
    }
  }

  async #row(name: string, row: number, values: number): Promise<Float32Array> {
    const out = new Float32Array(values)
    const position = this.#begins.get(name)! + 4 * values * row
    const { bytesRead } = await readAt(this.#descriptor!, new Uint8Array(out.buffer), 0, 4 * values, position)
    if (bytesRead !== 4 * values)
      throw new UserError(
        `${this.path}: expected ${4 * values} bytes at ${position}, got ${bytesRead}: the file shrank`,
      )
    return out
  }

  /** Closes the file. */
  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor)
    this.#descriptor = null
  }
}
