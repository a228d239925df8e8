/**
 * How each family of models draws: its network, its noise and the samplers that fit, as loops over steps. Every picture has
 * a seed of its own, whose noise is the same whatever others are drawn beside it. Used by samples.ts and sample.ts.
 * The samplers are diffusion/samplers.ts and edm-samplers.ts.
 */

import { concat, mul, rng, scope, slice, type Tensor, tensor } from '../core/index.ts'
import {
  classifierFreeGuidance,
  type Denoiser,
  ddimSteps,
  ddpmSteps,
  dpmSolverSteps,
  eulerSteps,
  fromNoise,
  type GaussianDiffusion,
  gaussianDiffusion,
  heunSteps,
  linearBetas,
  logSnrTimesteps,
  maskdmTimesteps,
  type Network,
  respace,
  sigmaSteps,
  spaceTimesteps,
  timestepDenoiser,
  timestepSigmas,
} from '../diffusion/index.ts'
import {
  type DiT,
  type MaskedUViT,
  type MDT,
  type MDTv2,
  maskdmDiffusion,
  maskdmSteps,
  type PreconditionedMaskDiT,
} from './index.ts'

/** DDIM without noise; ancestral sampling; and over noise levels Heun, Euler and DPM-Solver++(2M). */
export const samplerNames = ['ddim', 'ddpm', 'heun', 'euler', 'dpm-solver'] as const
export type SamplerName = (typeof samplerNames)[number]

/** Which pictures, and how. */
export interface Request {
  /** One per picture. */
  readonly seeds: readonly number[]
  /** One per picture; null for a model without classes. */
  readonly labels: readonly number[] | null
  readonly sampler: SamplerName
  readonly steps: number
  /** Classifier-free guidance: 1 is none. With a power, the scale follows MDT's power-cosine. */
  readonly guidance?: { readonly scale: number; readonly power?: number }
  /** Whether x_0 is kept in [-1, 1], where pictures are. Latents have no such bounds. */
  readonly clip: boolean
}

/** A loop over steps, which gives x after each; the last one's is what was drawn, (N, C, S, S). */
export type Drawing = Generator<{ readonly x: Tensor }, void>

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

/** The diffusion that DiT and MDT were trained with. */
export function timestepDiffusion({ learnSigma = true }: DiT['options']): GaussianDiffusion {
  return gaussianDiffusion({ betas: linearBetas(1000), variance: learnSigma ? 'learnedRange' : 'fixedLarge' })
}

/** Evenly spread timesteps, rising. A single one is the last: x_T is noise. The official code takes the first. */
function evenTimesteps(T: number, steps: number): ArrayLike<number> {
  return steps === 1 ? [T - 1] : spaceTimesteps(T, String(steps))
}

/** DiT and MDT, by any sampler. Throws RangeError on steps that do not fit. */
export function* timestepDrawing(
  model: DiT | MDT | MDTv2,
  d: GaussianDiffusion,
  { seeds, labels, sampler, steps, guidance, clip }: Request,
): Drawing {
  const { inputSize: S, inChannels: C, numClasses } = model.options
  const plain: Network = (x, t) => model.forward(x, t, labels)
  const network =
    guidance && labels ? withGuidance(model, [...labels, ...labels.map(() => numClasses)], guidance) : plain
  const noise = noiseOf(seeds, [C, S, S])
  if (sampler === 'ddim' || sampler === 'ddpm') {
    using xT = noise()
    const few = respace(d, evenTimesteps(d.steps, steps))
    yield* (sampler === 'ddim' ? ddimSteps : ddpmSteps)(few, network, xT, { clip, noise })
  } else {
    const kept = sampler === 'dpm-solver' ? logSnrTimesteps(d, steps) : evenTimesteps(d.steps, steps)
    yield* overLevels(respace(d, kept), network, noise, sampler, clip)
  }
}

/** MaskDM: ancestral sampling is what its authors draw with, DDIM with η = 1. Throws RangeError. */
export function* maskdmDrawing(
  model: MaskedUViT,
  schedule: 'cosine' | 'linear',
  { seeds, labels, sampler, steps }: Omit<Request, 'guidance' | 'clip'>,
): Drawing {
  const { inputSize: S, inChannels: C } = model.options
  const network: Network = (x, t) => model.forward(x, t, labels)
  const noise = noiseOf(seeds, [C, S, S])
  const d = maskdmDiffusion({ schedule })
  if (sampler === 'ddim' || sampler === 'ddpm') {
    using xT = noise()
    yield* maskdmSteps(d, network, xT, { steps, eta: sampler === 'ddim' ? 0 : 1, noise })
  } else {
    const kept = sampler === 'dpm-solver' ? logSnrTimesteps(d, steps) : maskdmTimesteps(d.steps, steps)
    yield* overLevels(respace(d, kept), network, noise, sampler, true)
  }
}

/** MaskDiT, over noise levels from 80 down; guided on all channels. [EDM alg. 2] Throws RangeError. */
export function* maskditDrawing(
  net: PreconditionedMaskDiT,
  { seeds, labels, sampler, steps, guidance }: Omit<Request, 'sampler' | 'clip'> & { readonly sampler: LevelSampler },
): Drawing {
  const { inputSize: S, inChannels: C } = net.model.options
  const levels = sigmaSteps(steps)
  using x0 = scope(() => mul(noiseOf(seeds, [C, S, S])(), levels[0]))
  yield* solvers[sampler](net.denoiser(labels, guidance?.scale), x0, levels)
}

const solvers = {
  heun: heunSteps,
  euler: eulerSteps,
  'dpm-solver': dpmSolverSteps,
} satisfies Record<string, (denoiser: Denoiser, x: Tensor, levels: Float64Array) => Drawing>

export type LevelSampler = keyof typeof solvers
export const levelSamplers = Object.keys(solvers) as readonly LevelSampler[]

/** A network of timesteps as a denoiser of the levels that its timesteps are. */
function* overLevels(
  few: GaussianDiffusion,
  network: Network,
  noise: () => Tensor,
  sampler: LevelSampler,
  clip: boolean,
): Drawing {
  using x0 = scope(() => fromNoise(few, noise()))
  yield* solvers[sampler](timestepDenoiser(few, network, { clip }), x0, timestepSigmas(few))
}

/** The guided network on a plain batch: doubled for the model, and the first half of what comes back. */
function withGuidance(
  model: DiT | MDT | MDTv2,
  both: readonly number[],
  guidance: { readonly scale: number; readonly power?: number },
): Network {
  const doubled = classifierFreeGuidance((x, t) => model.forward(x, t, both), guidance)
  return (x, t) => slice(doubled(concat([x, x], 0), Int32Array.from([...t, ...t])), 0, 0, x.shape[0])
}

/** Runs a loop to its end: what was drawn, or null where `stop`, which is asked after every step, said so. */
export async function drawn(drawing: Drawing, stop?: () => Promise<boolean>): Promise<Float32Array | null> {
  let last: Tensor | null = null
  try {
    for (const { x } of drawing) {
      last?.dispose()
      last = null
      if (await stop?.()) return null
      last = x.alias()
    }
    return last === null ? null : ((await last.data()) as Float32Array)
  } finally {
    last?.dispose()
  }
}
