/**
 * What is timed and profiled: training steps of all models, a sampling step and a DiT block, each on pictures of
 * noise, with weights, optimizer and moving average of its own. A workload is a list of parts, so that a profile can tell
 * ops from what runs outside of them (the optimizer's one launch). Next: full.ts, profile.ts.
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
import { ddimStep, gaussianDiffusion, linearBetas, respace } from '../diffusion/index.ts'
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  DiT,
  DiTBlock,
  ditPreset,
  type MaskedDiffusionTransformer,
  MaskedUViT,
  MDT,
  MDTv2,
  maskDiTLoss,
  maskDiTPreset,
  maskdmDiffusion,
  maskdmPreset,
  maskedDenoisingScoreMatching,
  mdtPreset,
  mdtV2Preset,
  PreconditionedMaskDiT,
  passLoss,
  sampleMaskDiTInputs,
  sampleMaskDMInputs,
  sampleMDTInputs,
  stableDiffusionVae,
} from '../models/index.ts'
import { AdamW, constantDecay, Ema, type Init, type Module } from '../nn/index.ts'

/** The ops whose work is products of matrices: their rate is held against multiply-adds, that of others against memory. */
export const productOps: ReadonlySet<string> = new Set(['matmul', 'linear', 'selfAttention', 'selfAttentionGrad'])

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

const steps = 1000
const diffusion = gaussianDiffusion({ betas: linearBetas(steps) })
const maskdmSteps = maskdmDiffusion()
const timesteps = (random: Rng, N: number) => random.integersArray(1, steps, N)

/** 16 × 16 pixels or latents in patches of 2: 64 tokens. */
const pictures = { inputSize: 16, inChannels: 3, numClasses: 0 }
const latents = { inputSize: 16, inChannels: 4, numClasses: 0 }

/** W2: a plain pass of DiT-S/2 over 64 tokens, batch 8, towards the noise. */
export function ditStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  return training(backend, {
    name: `DiT-${preset} step${preset === 'S/2' ? ' (W2)' : ''}, ${N} × 64 tokens`,
    model: init => new DiT({ ...ditPreset(preset, latents), learnSigma: false }, init),
    *losses(model, random) {
      yield scope(() => {
        const [x, noise] = [random.normal([N, 4, 16, 16]), random.normal([N, 4, 16, 16])]
        return mse(model.forward(add(x, mul(noise, 0.5)), timesteps(random, N)), noise)
      })
    },
    ema: false,
  })
}

/** Both passes of an MDT with 64 tokens, and the moving average: a step of `npm run train`. */
function twoPasses(backend: Backend, N: number, name: string, model: (init: Init) => MaskedDiffusionTransformer) {
  return training(backend, {
    name: `${name} step, two passes, EMA, ${N} × 64 tokens`,
    model,
    *losses(model, random) {
      const x0 = random.uniform([N, 3, 16, 16])
      const t = timesteps(random, N)
      const { full, masked } = sampleMDTInputs(model, x0, null, random)
      for (const pass of [full, masked]) yield scope(() => mean(passLoss(model, diffusion, x0, t, pass).loss))
    },
    ema: true,
  })
}

/** MDT-S/2 or another preset. */
export function mdtStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  return twoPasses(backend, N, `MDT-${preset}`, init => new MDT(mdtPreset(preset, pictures), init))
}

/** MDTv2: its mask ratio, and with it the number of tokens, is drawn for each step. */
export function mdtV2Step(backend: Backend, N = 8, preset = 'S/2'): Workload {
  return twoPasses(backend, N, `MDTv2-${preset}`, init => new MDTv2(mdtV2Preset(preset, pictures), init))
}

/** MaskDiT-S/2 with the official decoder of 8 × 512, half of 64 tokens removed. */
export function maskditStep(backend: Backend, N = 8, preset = 'S/2'): Workload {
  return training(backend, {
    name: `MaskDiT-${preset} step, ratio 0.5, EMA, ${N} × 64 tokens`,
    model: init => new PreconditionedMaskDiT(maskDiTPreset(preset, latents), init),
    *losses(model, random) {
      const x0 = random.normal([N, 4, 16, 16])
      const draws = sampleMaskDiTInputs(model, x0, null, 0.5, random)
      yield scope(() => mean(maskDiTLoss(model, x0, draws).loss))
    },
    ema: true,
  })
}

/** MaskDM's small network on 64-pixel pictures, half of 256 tokens removed in blocks of 4 × 4. */
export function maskdmStep(backend: Backend, N = 2, preset = 'ablation/pretrain/block4/celeba_50p'): Workload {
  const { network, masking } = maskdmPreset(preset)
  const { inputSize, patchSize, inChannels } = network
  return training(backend, {
    name: `MaskDM ${preset === 'tiny' ? preset : 'small'} step, 50 % of blocks, EMA, ${N} × ${(inputSize / patchSize) ** 2} tokens`,
    model: init => new MaskedUViT(network, init),
    *losses(model, random) {
      const x0 = random.uniform([N, inChannels, inputSize, inputSize])
      const draws = sampleMaskDMInputs(model, x0, masking, random)
      yield scope(() => mean(maskedDenoisingScoreMatching(model, maskdmSteps, x0, timesteps(random, N), draws)))
    },
    ema: true,
  })
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
  const model = new MDT(mdtPreset('S/2', { inputSize: 16, inChannels: 3, numClasses: 0 }), { rng: random, backend })
  const short = respace(
    diffusion,
    Array.from({ length: 25 }, (_, i) => 40 * i),
  )
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

/**
 * Operations of the products in one run, as the ops count them, but for the second computation of attention in its
 * gradient: one product of five.
 */
export function productFlops({ run }: Workload): number {
  return profile(run)
    .filter(({ op }) => productOps.has(op))
    .reduce((sum, { op, flops }) => sum + (op === 'selfAttentionGrad' ? 0.8 : 1) * flops, 0)
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
