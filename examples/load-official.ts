/**
 * Draws with a published checkpoint: a state dict of DiT, MDT (either version), MaskDiT or MaskDM, as safetensors or as
 * PyTorch's own .pt. Which model it is follows from names and shapes (recognise.ts); the weights must all fit, and the
 * sampler is that of the paper.
 * Latents become pictures by way of Stable Diffusion's autoencoder (--vae, in diffusers' safetensors); without it their
 * first three channels stand for red, green and blue. Run: npx tsx examples/load-official.ts --help. Before: sample.ts.
 */

import { concat, noGrad, ready, rng, slice, split, type Tensor, tensor } from '../core/index.ts'
import {
  classifierFreeGuidance,
  ddpmSample,
  gaussianDiffusion,
  heunSample,
  linearBetas,
  type Network,
  respace,
  sigmaSteps,
  spaceTimesteps,
} from '../diffusion/index.ts'
import { main, UserError, writeGrid } from '../diffusion/training/index.ts'
import { AutoencoderKL, stableDiffusionVae } from '../models/autoencoder-kl.ts'
import {
  type DiT,
  type MaskedUViT,
  type MDT,
  type MDTv2,
  maskdmDiffusion,
  maskdmPresets,
  maskdmSample,
  type PreconditionedMaskDiT,
} from '../models/index.ts'
import type { Init, Module } from '../nn/index.ts'
import { readFlags } from './flags.ts'
import { type Recognised, recognise } from './recognise.ts'
import { load, openWeights } from './weights.ts'

/** What a sampler is told. */
interface Wanted {
  readonly shape: readonly [N: number, C: number, H: number, W: number]
  /** null for a model without classes. */
  readonly labels: Int32Array | null
  readonly guidance: number
  readonly power: number | undefined
  readonly steps: number
  readonly seed: number
  readonly onStep: () => void
}

await main(async () => {
  const flags = readFlags({
    command: 'npx tsx examples/load-official.ts',
    about: 'Draws with an official checkpoint of DiT, MDT, MaskDiT or MaskDM: .safetensors or .pt.',
    flags: {
      from: { type: 'text', value: 'FILE', about: 'the state dict (needed)' },
      count: { type: 'integer', min: 1, max: 64, default: 4, about: 'pictures' },
      class: { type: 'integer', min: 0, about: 'number of a class (default a different one for each picture)' },
      guidance: { type: 'number', min: 0, default: 1, about: 'classifier-free guidance: 1 is none' },
      power: { type: 'number', min: 0, about: "MDT's power-cosine guidance, with this power" },
      steps: { type: 'integer', min: 2, max: 1000, about: "the sampler's (default 50; MaskDiT 18)" },
      heads: { type: 'integer', min: 1, about: 'attention heads, for sizes that no preset has' },
      'decoder-heads': { type: 'integer', min: 1, about: "those of MaskDiT's decoder" },
      vae: {
        type: 'text',
        value: 'FILE',
        about: 'the autoencoder of the latents, sd-vae-ft-mse or -ema, to decode them',
      },
      schedule: {
        type: 'text',
        choices: ['cosine', 'linear'],
        about: 'that MaskDM was trained with (default by preset)',
      },
      seed: { type: 'integer', min: 0, default: 0, about: 'the same seed gives the same pictures' },
      out: { type: 'text', value: 'FILE', default: 'official.png', about: 'the grid' },
      threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
    },
    examples: [
      ['--from DiT-XL-2-256x256.pt --class 207 --guidance 4', 'golden retrievers, as latents'],
      ['--from mdt_xl2_v1_ckpt.pt --guidance 3.8 --power 4', "MDT's guidance"],
    ],
  })
  if (flags.from === undefined) throw new UserError('--from: wanted a .safetensors or .pt file, got none')
  using file = await openWeights(flags.from)
  const told = { heads: flags.heads, decoderHeads: flags['decoder-heads'] }
  const found = recognise(file.state, flags.from, told)
  const { inputSize: S, inChannels: C, numClasses, depth, hiddenSize, numHeads, patchSize } = found.options
  const name = found.preset === null ? found.family : `${found.family} ${found.preset}`
  const classes = numClasses > 0 ? `${numClasses} classes` : 'no classes'
  const sizes = `${depth} blocks × ${hiddenSize}, ${numHeads} heads, patch ${patchSize}`
  console.log(`${flags.from}: ${name}: ${sizes}, ${C} × ${S} × ${S}, ${classes}`)
  if (flags.class !== undefined && flags.class >= numClasses)
    throw new UserError(`--class: wanted a number below ${numClasses}, got ${flags.class}`)
  if (flags.guidance !== 1 && (numClasses === 0 || found.family === 'MaskDM'))
    throw new UserError(`--guidance: wanted a model that is guided by classes, got ${name} with ${classes}`)

  await ready({ threads: flags.threads })
  const N = flags.count
  const steps = flags.steps ?? (found.family === 'MaskDiT' ? 18 : 50)
  const spread = (n: number) => Math.floor((n * numClasses) / N)
  let done = 0
  const wanted: Wanted = {
    shape: [N, C, S, S],
    labels: numClasses === 0 ? null : Int32Array.from({ length: N }, (_, n) => flags.class ?? spread(n)),
    guidance: flags.guidance,
    power: flags.power,
    steps,
    seed: flags.seed,
    onStep: () => {
      done++
      if (process.stdout.isTTY) process.stdout.write(`\rstep ${done}/${steps}${done === steps ? '\n' : ''}`)
    },
  }
  const x = draw(found, flags.from, wanted, flags.schedule)
  const latent = C !== 3 && C !== 1
  if (latent && flags.vae !== undefined) {
    const pictures = await decoded(x, flags.vae)
    await writeGrid(flags.out, pictures.dataSync(), pictures.shape as Wanted['shape'])
    console.log(`${flags.out}: ${N} pictures, decoded by ${flags.vae}`)
    return
  }
  const images = await x.data()
  const shown = latent ? falseColour(images, wanted.shape) : images
  await writeGrid(flags.out, shown, wanted.shape, { magnify: Math.ceil(64 / S) })
  const how = 'latents in false colour (channels 1 to 3, each stretched to its own range); --vae decodes them'
  console.log(`${flags.out}: ${N} ${latent ? how : 'pictures'}`)
})

/** Samples of a recognised model by its paper's sampler. Throws UserError. */
function draw(found: Recognised, path: string, wanted: Wanted, schedule?: string): Tensor {
  const by = <M extends Module>(make: (init: Init) => M, sample: (model: M) => Tensor): Tensor => {
    const model = make({ rng: null })
    load(model, found.state, path)
    console.log(`${model.countParameters().total.toLocaleString('en')} parameters, all of them from the file`)
    const x = sample(model)
    model.dispose() // an autoencoder may need the room
    return x
  }
  switch (found.family) {
    case 'MaskDiT':
      return by(found.make, net => sampleMaskDiT(net, wanted))
    case 'MaskDM':
      return by(found.make, model => sampleMaskDM(model, wanted, schedule ?? scheduleOf(found.preset)))
    case 'DiT':
      return by(found.make, model => sampleDiT(model, wanted))
    case 'MDT':
      return by(found.make, model => sampleDiT(model, wanted))
    case 'MDTv2':
      return by(found.make, model => sampleDiT(model, wanted))
  }
}

/** Latents (N, C, h, w) to pictures (N, 3, H, W), one at a time. Throws UserError on weights of another autoencoder. */
async function decoded(latents: Tensor, path: string): Promise<Tensor> {
  const vae = new AutoencoderKL(stableDiffusionVae, { rng: null })
  using file = await openWeights(path)
  load(vae, file.state, path)
  const pictures = noGrad(() => split(latents, latents.shape[0], 0).map(z => vae.pictures(z)))
  return concat(pictures, 0)
}

/** Ancestral sampling, the guided half of a doubled batch [DiT §4]: latents are not clipped, pixels are. */
function sampleDiT(model: DiT | MDT | MDTv2, { shape, labels, guidance, power, steps, seed, onStep }: Wanted): Tensor {
  const { numClasses, learnSigma = true, inChannels } = model.options
  const random = rng(seed)
  const [N] = shape
  const half = random.normal(shape)
  const guided = guidance !== 1 && labels !== null
  const all = guided ? Int32Array.from([...labels, ...labels.map(() => numClasses)]) : labels
  const plain: Network = (x, t) => model.forward(x, t, all)
  const variance = learnSigma ? 'learnedRange' : 'fixedLarge'
  const diffusion = respace(
    gaussianDiffusion({ betas: linearBetas(1000), variance }),
    spaceTimesteps(1000, String(steps)),
  )
  const network = guided ? classifierFreeGuidance(plain, { scale: guidance, power }) : plain
  const xT = guided ? concat([half, half], 0) : half
  const x = ddpmSample(diffusion, network, xT, { noise: random, clip: inChannels === 3, onStep })
  return slice(x, 0, 0, N)
}

/** Heun's method without churn [EDM alg. 2], guided on all channels. */
function sampleMaskDiT(net: PreconditionedMaskDiT, { shape, labels, guidance, steps, seed, onStep }: Wanted): Tensor {
  const sigmas = sigmaSteps(steps)
  const noise = rng(seed).normalArray(shape.reduce((a, b) => a * b))
  const x = tensor(
    noise.map(z => z * sigmas[0]),
    { shape },
  )
  return heunSample(net.denoiser(labels, guidance === 1 ? undefined : guidance), x, sigmas, { onStep })
}

/** DDIM with η = 1, as the official code has it. */
function sampleMaskDM(model: MaskedUViT, { shape, labels, steps, seed, onStep }: Wanted, schedule: string): Tensor {
  const random = rng(seed)
  const network: Network = (x, t) => model.forward(x, t, labels)
  const d = maskdmDiffusion({ schedule: schedule === 'linear' ? 'linear' : 'cosine' })
  const x = maskdmSample(d, network, random.normal(shape), { steps, noise: random, onStep }) // in [0, 1]
  const shown = tensor(
    x.dataSync().map(v => 2 * v - 1),
    { shape },
  )
  x.dispose()
  return shown
}

function scheduleOf(preset: string | null): 'cosine' | 'linear' {
  return preset === null ? 'cosine' : (maskdmPresets[preset]?.schedule ?? 'cosine')
}

/** Every picture's first three channels, each stretched so that ±2 standard deviations become −1 … 1. */
function falseColour(latents: ArrayLike<number>, [N, C, H, W]: Wanted['shape']): Float32Array {
  const out = Float32Array.from(latents)
  for (let plane = 0; plane < N * C; plane++) {
    const values = out.subarray(plane * H * W, (plane + 1) * H * W)
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length) || 1
    for (let i = 0; i < values.length; i++) values[i] = (values[i] - mean) / (2 * deviation)
  }
  return out
}
