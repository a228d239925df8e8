/**
 * Pictures and numbers of train-vae.ts beside the loss: pictures and their reconstructions,
 * and the spread of latents. Both look at pictures evenly taken from the set, in their own order. Needs Node.
 */

import { noGrad, scope, tensor } from '../core/index.ts'
import { type ImageDataset, imagesOf, readableFrom } from '../data/index.ts'
import type { AutoencoderKL } from '../models/index.ts'
import { momentsOf, togetherAt } from './latents.ts'
import { writeGrid } from './pictures.ts'

/** Up to `count` pictures of the set in turn, as batches (N, 3, S, S) in [-1, 1]. */
async function* evenly(data: ImageDataset, count: number): AsyncGenerator<Float32Array> {
  const { length, size } = data
  const n = Math.min(count, length)
  const chosen = Array.from({ length: n }, (_, i) => Math.floor((i * length) / n))
  const N = togetherAt(size)
  for (let i = 0; i < chosen.length; i += N) {
    const pictures = await Promise.all(chosen.slice(i, i + N).map(each => readableFrom(data, each)))
    yield imagesOf(
      pictures.map(({ pixels }) => pixels),
      size,
    )
  }
}

/**
 * Writes `count` pictures, each with its reconstruction to the right, as a PNG. The latents are the posterior's means.
 * Returns the signal-to-noise ratio in dB, 10 log₁₀(2² / mean square error); null, and nothing is written, if `stop`
 * returns true. Throws UserError where the file cannot be written.
 */
export async function writeReconstructions(
  path: string,
  model: AutoencoderKL,
  data: ImageDataset,
  count: number,
  stop: () => Promise<boolean>,
): Promise<number | null> {
  const { channels: C, size: S } = data
  const each = C * S * S
  const both = new Float32Array(2 * Math.min(count, data.length) * each)
  let [at, error] = [0, 0]
  for await (const images of evenly(data, count)) {
    if (await stop()) return null
    const x = () => tensor(images, { shape: [images.length / each, C, S, S] })
    const decoded = noGrad(() => scope(() => model.decode(model.encode(x()).mean)))
    const values = await decoded.data()
    decoded.dispose()
    for (let i = 0; i < images.length; i++) error += (images[i] - values[i]) ** 2
    for (let i = 0; i < images.length; i += each, at += 2 * each) {
      both.set(images.subarray(i, i + each), at)
      both.set(values.subarray(i, i + each), at + each)
    }
  }
  const shape = [both.length / each, C, S, S] as const
  await writeGrid(path, both, shape, { columns: 12, magnify: Math.ceil(64 / S) })
  return 10 * Math.log10(4 / (error / (both.length / 2)))
}

/**
 * Factor of latents that makes their variance over pictures 1: from the mean square of samples from up to 256
 * posteriors, less their mean squared. [LDM §G] took one batch of draws.
 */
export async function scalingFactorOf(model: AutoencoderKL, data: ImageDataset): Promise<number> {
  let [n, sum, squares] = [0, 0, 0]
  for await (const images of evenly(data, 256)) {
    const { mean, std } = await momentsOf(model, images, data.size)
    n += mean.length
    for (let i = 0; i < mean.length; i++) {
      sum += mean[i]
      squares += mean[i] ** 2 + std[i] ** 2 // of a draw, on average
    }
  }
  return 1 / Math.sqrt(squares / n - (sum / n) ** 2)
}
