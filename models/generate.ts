/**
 * Generation as the families share it: noise of one seed per picture, and samplers over timesteps and noise levels, as
 * loops over steps. A picture's noise is that of its seed, so the pictures generated beside it do not change it. The
 * records of the families call these; the samplers are diffusion/samplers.ts and edm-samplers.ts.
 */

import { aBoolean, aFunction, anObject, check, iterableOf, numbers, optional } from '../core/arguments.ts'
import { concat, mul, rng, scope, slice, type Tensor, tensor } from '../core/index.ts'
import { checkSizes } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
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
  type Network,
  respace,
  sigmaSteps,
  spaceTimesteps,
  timestepDenoiser,
  timestepSigmas,
} from '../diffusion/index.ts'
import type { TransformerOptions } from './dit.ts'
import type { Generation, GenerationRequest, SamplerName } from './family.ts'

/** Returns a source of standard normal noise (N, …shape), fresh at every call, from one random stream per seed. */
export function seedNoise(seeds: readonly number[], shape: readonly number[]): () => Tensor {
  check('seedNoise', 'seeds', seeds, numbers)
  const wrong = seeds.find(seed => !(Number.isSafeInteger(seed) && seed >= 0))
  if (wrong !== undefined)
    throw atCaller(new RangeError(`seedNoise: seeds: expected integers in [0, 2^53), got ${wrong}`))
  check('seedNoise', 'shape', shape, numbers)
  checkSizes('seedNoise', shape)
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

// ---- DiT and MDT, over timesteps ------------------------------------------------------------------------------------

const learned = gaussianDiffusion({ betas: linearBetas(1000) })
const fixed = gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedLarge' })

/** Returns the diffusion of DiT and MDT: 1000 timesteps, linear schedule. */
export function timestepDiffusion(options: Pick<TransformerOptions, 'learnSigma'>): GaussianDiffusion {
  check('timestepDiffusion', 'options', options, anObject)
  const { learnSigma = true } = options
  check('timestepDiffusion', 'learnSigma', learnSigma, aBoolean)
  return learnSigma ? learned : fixed
}

/** A DiT or MDT. */
export interface TimestepModel {
  readonly options: TransformerOptions
  forward(x: Tensor, t: ArrayLike<number>, y?: ArrayLike<number> | null): Tensor
}

/** Leading channels that classifier-free guidance of DiT and MDT changes. */
export const guidedChannels = 3

/** Evenly spread timesteps, rising. A single one is the last: x_T is noise. The official code takes the first. */
function evenTimesteps(T: number, steps: number): ArrayLike<number> {
  return steps === 1 ? [T - 1] : spaceTimesteps(T, String(steps))
}

/** Generates pictures with a DiT or MDT, by any sampler. Throws RangeError on steps that do not fit. */
export function* generateOverTimesteps(
  model: TimestepModel,
  { seeds, labels, sampler, steps, guidance, clip }: GenerationRequest,
): Generation {
  const d = timestepDiffusion(model.options)
  const { inputSize: S, inChannels: C } = model.options
  const network =
    guidance && labels
      ? guidedNetwork(model, labels, guidance)
      : (x: Tensor, t: Int32Array) => model.forward(x, t, labels)
  const noise = seedNoise(seeds, [C, S, S])
  if (sampler === 'ddim' || sampler === 'ddpm') {
    using xT = noise()
    const few = respace(d, evenTimesteps(d.steps, steps))
    yield* (sampler === 'ddim' ? ddimSteps : ddpmSteps)(few, network, xT, { clip, noise })
  } else {
    const kept = sampler === 'dpm-solver' ? logSnrTimesteps(d, steps) : evenTimesteps(d.steps, steps)
    yield* generateOverLevels(respace(d, kept), network, noise, sampler, clip)
  }
}

/** Returns the guided network on a plain batch: doubles it for the model, and takes the first half of the result. */
function guidedNetwork(
  model: TimestepModel,
  labels: readonly number[],
  guidance: NonNullable<GenerationRequest['guidance']>,
): Network {
  const both = [...labels, ...labels.map(() => model.options.numClasses)]
  const network: Network = (x, t) => model.forward(x, t, both)
  const doubled = classifierFreeGuidance(network, { ...guidance, channels: guidedChannels })
  return (x, t) => slice(doubled(concat([x, x], 0), Int32Array.from([...t, ...t])), 0, 0, x.shape[0])
}

// ---- over noise levels ----------------------------------------------------------------------------------------------

const solvers = {
  heun: heunSteps,
  euler: eulerSteps,
  'dpm-solver': dpmSolverSteps,
} satisfies Record<string, (denoiser: Denoiser, x: Tensor, levels: Float64Array) => Generation>

/** Samplers over noise levels. */
export type LevelSampler = keyof typeof solvers
export const levelSamplers = Object.keys(solvers) as readonly LevelSampler[]

/** Generates with a network of timesteps, over the noise levels of all timesteps of d. */
export function* generateOverLevels(
  d: GaussianDiffusion,
  network: Network,
  noise: () => Tensor,
  sampler: LevelSampler,
  clip: boolean,
): Generation {
  using x0 = scope(() => fromNoise(d, noise()))
  yield* solvers[sampler](timestepDenoiser(d, network, { clip }), x0, timestepSigmas(d))
}

/** Generates with a denoiser over EDM's levels, from 80 down. [EDM alg. 2] Throws RangeError on a sampler of timesteps. */
export function* generateByDenoiser(
  denoiser: Denoiser,
  noise: () => Tensor,
  sampler: SamplerName,
  steps: number,
): Generation {
  if (sampler === 'ddim' || sampler === 'ddpm')
    throw atCaller(new RangeError(`generate: expected one of ${levelSamplers.join(', ')}, got ${sampler}`))
  const levels = sigmaSteps(steps)
  using x0 = scope(() => mul(noise(), levels[0]))
  yield* solvers[sampler](denoiser, x0, levels)
}

/** Runs a generation to its end and reads the pictures; null if `stop`, asked after every step, ended it. */
export async function readGenerated(
  generation: Generation,
  stop?: () => Promise<boolean>,
): Promise<Float32Array | null> {
  check('readGenerated', 'generation', generation, iterableOf('steps'))
  check('readGenerated', 'stop', stop, optional(aFunction))
  let last: Tensor | null = null
  try {
    for (const { x } of generation) {
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
