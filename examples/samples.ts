/**
 * Pictures from noise: what training programs show at intervals and sample.ts makes. Every picture has a seed of its own,
 * which gives the same picture whatever others are drawn beside it.
 */

import { concat, rng, slice, type Tensor, tensor } from '../core/index.ts'
import {
  classifierFreeGuidance,
  ddimSteps,
  ddpmSteps,
  type GaussianDiffusion,
  type Network,
  respace,
  spaceTimesteps,
} from '../diffusion/index.ts'
import type { MDT } from '../models/index.ts'
import { type Decode, showDrawn } from './latents.ts'

export interface SampleOptions {
  /** One per picture. */
  readonly seeds: readonly number[]
  /** One per picture; null for a model without classes. */
  readonly labels: readonly number[] | null
  readonly sampler?: 'ddim' | 'ddpm'
  /** Steps of the sampler. Default 25. */
  readonly steps?: number
  /** Classifier-free guidance: 1 is none. With a power, the scale follows MDT's power-cosine. */
  readonly guidance?: { readonly scale: number; readonly power?: number }
  /** Whether x_0 is clipped to [-1, 1], where pictures are. Default; latents have no such bounds. */
  readonly clip?: boolean
  /** Asked after every step; the pictures are given up where it says so. */
  readonly stop?: () => Promise<boolean>
}

/** Standard normal noise (N, …shape), new at every call, from one stream per seed. */
export function noiseOf(seeds: readonly number[], shape: readonly number[]): () => Tensor {
  const size = shape.reduce((product, n) => product * n, 1)
  const streams = seeds.map(seed => rng(seed))
  return () => {
    const values = new Float32Array(seeds.length * size)
    streams.forEach((stream, n) => {
      values.set(stream.normalArray(size), n * size)
    })
    return tensor(values, { shape: [seeds.length, ...shape] })
  }
}

/** Pictures (N, C, S, S) in about [-1, 1], or null where `stop` said so. Throws RangeError on steps that do not fit. */
export async function drawSamples(
  model: MDT,
  diffusion: GaussianDiffusion,
  { seeds, labels, sampler = 'ddim', steps = 25, guidance, clip = true, stop }: SampleOptions,
): Promise<Float32Array | null> {
  const { inputSize: S, inChannels: C, numClasses } = model.options
  const noise = noiseOf(seeds, [C, S, S])
  const plain: Network = (x, t) => model.forward(x, t, labels)
  const network =
    guidance && labels ? withGuidance(model, [...labels, ...labels.map(() => numClasses)], guidance) : plain

  const few = respace(diffusion, spaceTimesteps(diffusion.steps, String(steps)))
  const xT = noise()
  try {
    for (const { x, step } of (sampler === 'ddim' ? ddimSteps : ddpmSteps)(few, network, xT, { clip, noise })) {
      if (await stop?.()) return null
      if (step === few.steps - 1) return (await x.data()) as Float32Array
    }
  } finally {
    xT.dispose()
  }
  return null
}

/**
 * A grid of pictures of seeds 0, 1, …, of all classes in turn, by 25 steps of DDIM, decoded where they are latents: what training shows. Nothing is
 * written where `stop` says so. Throws UserError where the file cannot be written.
 */
export async function writeSamples(
  path: string,
  model: MDT,
  diffusion: GaussianDiffusion,
  count: number,
  stop: () => Promise<boolean>,
  decode: Decode | null = null,
): Promise<void> {
  const { inputSize: S, inChannels: C, numClasses } = model.options
  const seeds = Array.from({ length: count }, (_, i) => i)
  const labels = numClasses > 0 ? seeds.map(i => i % numClasses) : null
  const values = await drawSamples(model, diffusion, { seeds, labels, clip: decode === null, stop })
  if (values !== null) await showDrawn(path, { values, shape: [count, C, S, S] }, decode)
}

/** The guided network on a plain batch: doubled for the model, and the first half of what comes back. */
function withGuidance(model: MDT, both: readonly number[], guidance: { scale: number; power?: number }): Network {
  const doubled = classifierFreeGuidance((x, t) => model.forward(x, t, both), guidance)
  return (x, t) => slice(doubled(concat([x, x], 0), Int32Array.from([...t, ...t])), 0, 0, x.shape[0])
}
