/**
 * Workloads that are timed and profiled: training steps of all models, a sampling step and a DiT block, each on pictures of
 * noise, with weights, optimizer and moving average of its own. A workload is a list of parts, so that a profile can tell
 * ops from what runs outside of them (the optimizer's one launch).
 */

import {
  add,
  type Backend,
  backward,
  mean,
  mse,
  mul,
  noGrad,
  profile,
  type Rng,
  rng,
  scope,
  setDefaultBackend,
  square,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { ddimStep, respace } from '../diffusion/index.ts'
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  DiTBlock,
  dit,
  type Family,
  maskDiT,
  maskDM,
  maskdmPreset,
  mdt,
  mdtV2,
  type Pictures,
  type SettingsTable,
  stableDiffusionVae,
  type TransformerOptions,
  timestepDiffusion,
} from '../models/index.ts'
import { AdamW, constantDecay, Ema, type Init, type Module } from '../nn/index.ts'
import { newSettings, type Settings } from '../training/index.ts'

/** The ops whose work is products of matrices: their rate is held against multiply-adds, that of others against memory. */
export const productOps: ReadonlySet<string> = new Set([
  'matmul',
  'linear',
  'linearWeightGrad',
  'conv2d',
  'conv2dInputGrad',
  'conv2dWeightGrad',
  'selfAttention',
  'selfAttentionGrad',
])

/** A piece of a workload; `bytes` are read and written by it where it is a pass over memory that no op stands for. */
export interface Part {
  readonly name: string
  readonly bytes?: number
  run(): void
}

export interface Workload {
  readonly name: string
  readonly parts: readonly Part[]
  /** All parts in one scope, on the backend that it was made for. */
  run(): void
  dispose(): void
}

/** One scalar for each pass of a training step of `model`. */
type Losses<M extends Module> = (model: M, random: Rng) => Iterable<Tensor>

interface TrainingOptions<M extends Module> {
  readonly name: string
  /** Makes a model; called twice where there is a moving average. */
  model(init: Init): M
  readonly losses: Losses<M>
  readonly ema: boolean
}

/** Forward and backward of every pass, AdamW, and the moving average. */
function training<M extends Module>(
  backend: Backend,
  { name, model: make, losses, ema: averaged }: TrainingOptions<M>,
): Workload {
  setDefaultBackend(backend)
  const random = rng(1)
  const model = make({ rng: random.fork('weights'), backend })
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
  const average = averaged ? new Ema(model, make({ rng: null, backend }), { decay: constantDecay(0.9999) }) : null
  const { total } = model.countParameters()
  const passes = () => {
    for (const loss of losses(model, random)) backward(loss)
  }
  const parts: Part[] = [
    { name: 'passes', run: passes },
    // Reads weight, gradient and two moments, writes all but the gradient.
    { name: 'AdamW', bytes: 28 * total, run: () => void optimizer.step() },
    ...(average === null ? [] : [{ name: 'EMA', bytes: 12 * total, run: () => void average.update() }]),
    { name: 'gradients freed', run: () => optimizer.zeroGrad() },
  ]
  return workload(backend, name, parts, () => {
    optimizer.dispose()
    average?.average.dispose()
    model.dispose()
  })
}

function workload(backend: Backend, name: string, parts: readonly Part[], dispose: () => void): Workload {
  const run = () => {
    setDefaultBackend(backend)
    scope(() => {
      for (const part of parts) part.run()
    })
  }
  return { name, parts, run, dispose }
}

/** 16 × 16 pixels or latents in patches of 2: 64 tokens. */
const pixels = { inputSize: 16, inChannels: 3, numClasses: 0 }
const latents = { inputSize: 16, inChannels: 4, numClasses: 0 }

/** W2: a plain pass of DiT-S/2 over 64 tokens, batch 8, towards the noise. */
export function ditStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  return training(backend, {
    name: `DiT-${preset} step${preset === 'S/2' ? ' (W2)' : ''}, ${N} × 64 tokens`,
    model: init => dit.make({ ...dit.options(preset, latents), learnSigma: false }, init),
    *losses(model, random) {
      yield scope(() => {
        const [x, noise] = [random.normal([N, 4, 16, 16]), random.normal([N, 4, 16, 16])]
        const t = random.integersArray(1, 1000, N)
        return mse(model.forward(add(x, mul(noise, 0.5)), t), noise)
      })
    },
    ema: false,
  })
}

/** A training step of a family with its own loss, and the moving average. */
function familyStep<Model extends Module, Options extends TransformerOptions, Own extends SettingsTable>(
  backend: Backend,
  family: Family<Model, Options, Own>,
  { name, N, preset, pictures }: { name: string; N: number; preset: string; pictures: Pictures },
): Workload {
  const { inputSize: S, inChannels: C } = pictures
  const settings = newSettings<Model, Options, Own>(family, { preset, size: S } as Partial<Settings<Own>>)
  return training(backend, {
    name,
    model: init => family.make(family.options(preset, pictures, settings), init),
    *losses(model, random) {
      const part = { images: random.normal([N, C, S, S]), labels: null, rng: random, progress: 0 }
      for (const pass of family.training.passes(model, part, settings)) yield pass().loss
    },
    ema: true,
  })
}

/** Both passes of MDT-S/2 or another preset with 64 tokens, and the moving average: a step of `npm run train`. */
export function mdtStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  const name = `MDT-${preset} step, two passes, EMA, ${N} × 64 tokens`
  return familyStep(backend, mdt, { name, N, preset, pictures: pixels })
}

/** MDTv2: its mask ratio, and with it the number of tokens, is random in each step. */
export function mdtV2Step(backend: Backend, N = 8, preset = 'S/2'): Workload {
  const name = `MDTv2-${preset} step, two passes, EMA, ${N} × 64 tokens`
  return familyStep(backend, mdtV2, { name, N, preset, pictures: pixels })
}

/** MaskDiT-S/2 with the official decoder of 8 × 512, half of 64 tokens removed. */
export function maskditStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  const name = `MaskDiT-${preset} step, ratio 0.5, EMA, ${N} × 64 tokens`
  return familyStep(backend, maskDiT, { name, N, preset, pictures: latents })
}

/** MaskDM's small network on 64-pixel pictures, half of 256 tokens removed in blocks of 4 × 4. */
export function maskdmStep(backend: Backend, N = 2, preset = 'ablation/pretrain/block4/celeba_50p'): Workload {
  const { inputSize, patchSize } = maskdmPreset(preset).network
  const size = preset === 'tiny' ? preset : 'small'
  const name = `MaskDM ${size} step, 50 % of blocks, EMA, ${N} × ${(inputSize / patchSize) ** 2} tokens`
  return familyStep(backend, maskDM, { name, N, preset, pictures: { ...pixels, inputSize } })
}

/** Stable Diffusion's autoencoder on 32-pixel pictures: reconstruction and divergence. */
export function autoencoderStep(backend: Backend, N = 1, options: AutoencoderKLOptions = stableDiffusionVae): Workload {
  const size = 32
  return training(backend, {
    name: `autoencoder step, ${options.blockOutChannels.join('-')} channels, ${N} × ${size}²`,
    model: init => new AutoencoderKL(options, init),
    *losses(model, random) {
      yield scope(() => {
        const x = random.uniform([N, 3, size, size])
        const posterior = model.encode(x)
        const decoded = model.decode(posterior.sample(random.normal(posterior.mean.shape)))
        return add(mse(decoded, x), mul(mean(posterior.kl()), 1e-6))
      })
    },
    ema: false,
  })
}

/** One step of DDIM with MDT-S/2. */
export function samplingStep(backend: Backend, N = 8): Workload {
  setDefaultBackend(backend)
  const random = rng(1)
  const model = mdt.make(mdt.options('S/2', pixels), { rng: random, backend })
  const every = Array.from({ length: 25 }, (_, i) => 40 * i)
  const short = respace(timestepDiffusion(model.options), every)
  const network = (x: Tensor, t: ArrayLike<number>) => model.forward(x, t)
  const run = () =>
    noGrad(() => void ddimStep(short, network, random.normal([N, 3, 16, 16]), new Int32Array(N).fill(12), null))
  return workload(backend, `MDT-S/2 sampling step, ${N} × 64 tokens`, [{ name: 'passes', run }], () => model.dispose())
}

/** One DiT block, 8 × 64 × 384, forward and backward to its weights, tokens and condition. */
export function ditBlock(backend: Backend, N = 8): Workload {
  setDefaultBackend(backend)
  const random = rng(1)
  const block = new DiTBlock({ hiddenSize: 384, numHeads: 6 }, { rng: random, backend })
  const tokens = random.normal([N, 64, 384], { backend }).requireGrad()
  const condition = random.normal([N, 384], { backend }).requireGrad()
  const g = random.normal([N, 64, 384], { backend })
  const leaves = [...block.parameters(), tokens, condition]
  const passes = () => {
    backward(block.forward(tokens, condition), g)
    for (const leaf of leaves) {
      leaf.grad!.dispose()
      leaf.grad = null
    }
  }
  return workload(backend, `DiT block ${N} × 64 × 384, forward + backward`, [{ name: 'passes', run: passes }], () => {
    for (const tensor of [...leaves, g]) tensor.dispose()
  })
}

/** Share of an op's operations that counts: one product of five in attention's gradient computes the forward pass again. */
export function countedShare(op: string): number {
  return op === 'selfAttentionGrad' ? 0.8 : 1
}

/** Operations of the products in one run, as the ops count them, without the second computation of attention. */
export function productFlops({ run }: Workload): number {
  return profile(run)
    .filter(({ op }) => productOps.has(op))
    .reduce((sum, { op, flops }) => sum + countedShare(op) * flops, 0)
}

/** A parameter of `size` elements in 16 tensors, with gradients: what AdamW over 33 M parameters passes over. */
export function adamW(backend: Backend, size: number): Workload {
  setDefaultBackend(backend)
  const parameters = Array.from({ length: 16 }, (_, i) => {
    const p = tensor(new Float32Array(size / 16).fill(0.01), { backend }).requireGrad()
    scope(() => backward(mean(square(p))))
    return [`p${i}`, p] as const
  })
  const optimizer = new AdamW(parameters, { lr: 1e-4 })
  const part = { name: 'AdamW', bytes: 28 * size, run: () => void optimizer.step() }
  return workload(backend, `AdamW, ${(size / 1e6).toFixed(1)} M parameters`, [part], () => {
    optimizer.dispose()
    for (const [, p] of parameters) {
      p.grad!.dispose()
      p.dispose()
    }
  })
}
