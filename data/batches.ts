/**
 * Batches of pictures, or of latents drawn from their posteriors. Batch k is a pure function of (stream, k): a run that is
 * resumed at step k continues with the batch that the unbroken run would have seen. Batches ahead
 * are decoded in the background while the step before computes.
 */

import { aBoolean, aCount, aFiniteNumber, aSize, check, checkOptions, type Kind } from '../core/arguments.ts'
import { aStream, type Rng } from '../core/random.ts'
import { sizeOf } from '../core/shape.ts'
import { aTrainingSet } from './arguments.ts'
import { type ImageDataset, imagesOf } from './dataset.ts'
import type { LatentDataset, Posterior } from './latents.ts'
import type { LatentIndex } from './latents-index.ts'
import { readableFrom } from './unreadable.ts'

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
  /** Pictures (N, 3, H, W) in [-1, 1], or latents (N, C, h, w) with a spread of about 1. */
  readonly images: Float32Array
  /** (N) */
  readonly labels: Int32Array
  /** (N): which pictures these are. */
  readonly indices: Int32Array
}

/** Batches that are being made before they are asked for. */
const ahead = 2

const batchKinds = { batch: aCount, rng: aStream, flip: aBoolean, replacement: aBoolean }
const aRange: Kind = {
  expected: 'the ends of a range, [from, to]',
  accepts: value => Array.isArray(value) && value.length === 2 && value.every(aSize.accepts),
}

/** Part [from, to) of a batch. */
export type BatchRange = readonly [from: number, to: number]

export class Batches {
  /** Seconds that callers of `at` have waited for batches. */
  waited = 0
  /** Seconds of work on batches, once their pictures were read. */
  worked = 0
  readonly #dataset: ImageDataset | LatentDataset
  readonly #options: BatchOptions
  readonly #pending = new Map<number, Promise<Batch>>()
  readonly #epochs = new Map<number, Int32Array>()
  #range: BatchRange

  constructor(dataset: ImageDataset | LatentDataset, options: BatchOptions) {
    check('Batches', 'dataset', dataset, aTrainingSet)
    checkOptions('Batches', options, batchKinds, ['batch', 'rng'])
    this.#dataset = dataset
    this.#options = options
    this.#range = [0, options.batch]
  }

  /**
   * Batch `step`, or only its pictures in `range`, and in the background the ones after it. Rejects with what decoding a
   * picture threw.
   */
  async at(step: number, range: BatchRange = [0, this.#options.batch]): Promise<Batch> {
    check('Batches.at', 'step', step, aSize)
    check('Batches.at', 'range', range, aRange)
    const start = performance.now()
    if (range.join() !== this.#range.join()) this.#pending.clear()
    this.#range = range
    for (const other of this.#pending.keys()) if (other < step || other > step + ahead) this.#pending.delete(other)
    for (let k = step; k <= step + ahead; k++) {
      if (this.#pending.has(k)) continue
      const batch = this.#make(k)
      batch.catch(() => {}) // it is reported to whoever asks for this batch
      this.#pending.set(k, batch)
    }
    try {
      return await this.#pending.get(step)!
    } finally {
      this.waited += (performance.now() - start) / 1000
    }
  }

  /** Returns the share of `seconds` of training that was spent on data, in words. */
  shareOf(seconds: number): string {
    check('Batches.shareOf', 'seconds', seconds, aFiniteNumber)
    const percent = (part: number) => `${((100 * part) / seconds).toFixed(2)} %`
    return `of the time, steps waited for data ${percent(this.waited)}, and batches took ${percent(this.worked)} to make`
  }

  /** Which pictures batch `step` holds, (N). Without replacement, epochs follow each other without a gap. */
  indices(step: number): Int32Array {
    check('Batches.indices', 'step', step, aSize)
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
    const dataset = this.#dataset
    const { batch, rng, flip = dataset.flips } = this.#options
    const [from, to] = this.#range
    const indices = this.indices(step).subarray(from, to)
    const coins = rng.fork('flip').fork(step).uniformArray(batch).subarray(from, to)
    const mirrored = (i: number) => flip && coins[i] < 0.5
    if ('moments' in dataset) {
      const posteriors = await Promise.all(Array.from(indices, (index, i) => dataset.moments(index, mirrored(i))))
      const images = this.#timed(() => {
        const noise = rng
          .fork('posterior')
          .fork(step)
          .normalArray(batch * sizeOf(dataset.index.shape))
        return sampleLatents(posteriors, dataset.index, noise.subarray((from * noise.length) / batch))
      })
      return { images, labels: indices.map(i => dataset.label(i)), indices }
    }
    const read = await Promise.all(
      Array.from(indices, (index, i) => readableFrom(dataset, index, this.#crop(step, from + i))),
    )
    const pictures = read.map(({ pixels }) => pixels)
    return {
      images: this.#timed(() => imagesOf(pictures, dataset.size, mirrored)),
      labels: Int32Array.from(read, ({ index }) => dataset.label(index)),
      indices: Int32Array.from(read, ({ index }) => index),
    }
  }

  /** Reads pictures at place `i` of batch `step` through a random window; undefined for a set without a margin. */
  #crop(step: number, i: number): ((index: number) => Promise<Uint8Array>) | undefined {
    const dataset = this.#dataset
    if (!('window' in dataset) || dataset.window === undefined || !dataset.margin) return undefined
    const [top, left] = this.#options.rng
      .fork('crop')
      .fork(step)
      .fork(i)
      .integersArray(0, dataset.margin + 1, 2)
    return index => dataset.window!(index, top, left)
  }

  #timed(work: () => Float32Array): Float32Array {
    const start = performance.now()
    const images = work()
    this.worked += (performance.now() - start) / 1000
    return images
  }
}

/** (mean + std ⊙ ε) · scale for each of N posteriors, (N, C, h, w): what a model is trained on. [LDM §3.1] */
function sampleLatents(
  posteriors: readonly Posterior[],
  { shape, vae }: LatentIndex,
  noise: Float32Array,
): Float32Array {
  const values = sizeOf(shape)
  const out = noise.slice(0, posteriors.length * values)
  for (const [i, { mean, std }] of posteriors.entries())
    for (let k = 0; k < values; k++) out[i * values + k] = vae.scalingFactor * (mean[k] + std[k] * out[i * values + k])
  return out
}
