/**
 * Batches of pictures. Batch k is a pure function of (stream, k): a run that is resumed at step k goes on with the batch
 * that the unbroken run would have seen, whatever was drawn before. Batches ahead are decoded in the background while
 * the step before computes.
 */

import type { Rng } from '../../core/random.ts'
import { type ImageDataset, toModelRange } from './dataset.ts'

export interface BatchOptions {
  /** Pictures in a batch, N. */
  readonly batch: number
  /** Only its forks are used: it may be drawn from elsewhere. */
  readonly rng: Rng
  /** Mirror every other picture at random. By default what the dataset says of itself. */
  readonly flip?: boolean
  /** Draw each picture independently, instead of each once in an epoch. */
  readonly replacement?: boolean
}

export interface Batch {
  /** (N, 3, H, W) in [-1, 1] */
  readonly images: Float32Array
  /** (N) */
  readonly labels: Int32Array
  /** (N): which pictures these are. */
  readonly indices: Int32Array
}

/** Batches that are being made before they are asked for. */
const ahead = 2

export class Batches {
  readonly #dataset: ImageDataset
  readonly #options: BatchOptions
  readonly #pending = new Map<number, Promise<Batch>>()
  readonly #epochs = new Map<number, Int32Array>()

  constructor(dataset: ImageDataset, options: BatchOptions) {
    this.#dataset = dataset
    this.#options = options
  }

  /** Batch `step`, and in the background the ones after it. Rejects with what decoding a picture threw. */
  at(step: number): Promise<Batch> {
    for (const other of this.#pending.keys()) if (other < step || other > step + ahead) this.#pending.delete(other)
    for (let k = step; k <= step + ahead; k++) {
      if (this.#pending.has(k)) continue
      const batch = this.#make(k)
      batch.catch(() => {}) // it is reported to whoever asks for this batch
      this.#pending.set(k, batch)
    }
    return this.#pending.get(step)!
  }

  /** Which pictures batch `step` holds, (N). Without replacement, epochs follow each other without a gap. */
  indices(step: number): Int32Array {
    const { batch, rng, replacement } = this.#options
    const { length } = this.#dataset
    if (replacement) return rng.fork('picture').fork(step).integersArray(0, length, batch)
    return Int32Array.from({ length: batch }, (_, i) => {
      const drawn = step * batch + i
      return this.#epoch(Math.floor(drawn / length))[drawn % length]
    })
  }

  /** The order of pictures in an epoch; the last few are remembered. */
  #epoch(epoch: number): Int32Array {
    let order = this.#epochs.get(epoch)
    if (order === undefined) {
      order = this.#options.rng.fork('epoch').fork(epoch).permutationArray(this.#dataset.length)
      this.#epochs.set(epoch, order)
      if (this.#epochs.size > 4) this.#epochs.delete(Math.min(...this.#epochs.keys()))
    }
    return order
  }

  async #make(step: number): Promise<Batch> {
    const { batch, rng, flip = this.#dataset.flips } = this.#options
    const { size } = this.#dataset
    const indices = this.indices(step)
    const pictures = await Promise.all(Array.from(indices, i => this.#dataset.pixels(i)))
    const coins = rng.fork('flip').fork(step).uniformArray(batch)
    const images = new Float32Array(batch * 3 * size * size)
    for (let i = 0; i < batch; i++) {
      const mirror = flip && coins[i] < 0.5
      for (let row = 0; row < 3 * size; row++)
        for (let x = 0; x < size; x++) {
          const byte = pictures[i][row * size + (mirror ? size - 1 - x : x)]
          images[(i * 3 * size + row) * size + x] = toModelRange(byte)
        }
    }
    return { images, labels: indices.map(i => this.#dataset.label(i)), indices }
  }
}
