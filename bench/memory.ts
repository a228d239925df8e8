/**
 * What each model needs of memory, in training and in sampling, for latents of 256-pixel pictures (32 px, 4 channels, 1000
 * classes), and so what fits into the 4 GiB that wasm can address. Nothing is computed: the steps run on a backend that
 * only counts bytes (core/backends/shapes.ts), which tests compare with wasm's own count. Training is a step with AdamW
 * and a moving average of the weights; sampling a forward pass with guidance, so on two pictures for one.
 * Run: npm run bench -- memory. Next: checkpoint.ts.
 */

import {
  type Backend,
  backward,
  createShapes,
  defaultBackend,
  mean,
  noGrad,
  type Rng,
  rng,
  scope,
  setDefaultBackend,
  type Tensor,
  zeros,
} from '../core/index.ts'
import { gaussianDiffusion, linearBetas, trainingLoss } from '../diffusion/index.ts'
import {
  DiT,
  ditPreset,
  type MaskedDiffusionTransformer,
  MDT,
  MDTv2,
  maskDiTLoss,
  maskDiTPreset,
  mdtPreset,
  mdtV2Preset,
  type Pictures,
  PreconditionedMaskDiT,
  passLoss,
  sampleMaskDiTInputs,
  sampleMDTInputs,
} from '../models/index.ts'
import { AdamW, constantDecay, Ema, type Init, type Module } from '../nn/index.ts'
import { table } from './table.ts'

/** A model, the losses that its step goes back from, one after the other, and what sampling asks of it. */
interface Family {
  model(preset: string, pictures: Pictures): Module
  losses(model: Module, x0: Tensor, labels: Int32Array, random: Rng): Iterable<() => Tensor>
  sample(model: Module, x: Tensor, t: Int32Array, labels: Int32Array): Tensor
}

const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }
const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
const init: Init = { rng: null }
const stepsFor = (x0: Tensor, random: Rng) => random.integersArray(1, diffusion.steps, x0.shape[0])

/** MDT and MDTv2 have the loss in common. */
const mdt = (model: Family['model']): Family => ({
  model,
  *losses(model, x0, labels, random) {
    const network = model as MaskedDiffusionTransformer
    const t = stepsFor(x0, random)
    const { full, masked } = sampleMDTInputs(network, x0, labels, random)
    for (const pass of [full, masked]) yield () => mean(passLoss(network, diffusion, x0, t, pass).loss)
  },
  sample: (model, x, t, labels) => (model as MaskedDiffusionTransformer).forward(x, t, labels),
})

const families: Readonly<Record<string, Family>> = {
  DiT: {
    model: (preset, pictures) => new DiT(ditPreset(preset, pictures), init),
    *losses(model, x0, labels, random) {
      const network = (x: Tensor, t: Int32Array) => (model as DiT).forward(x, t, labels)
      yield () => mean(trainingLoss(diffusion, network, x0, stepsFor(x0, random), random.normal(x0.shape)).loss)
    },
    sample: (model, x, t, labels) => (model as DiT).forward(x, t, labels),
  },
  MDT: mdt((preset, pictures) => new MDT(mdtPreset(preset, pictures), init)),
  MDTv2: mdt((preset, pictures) => new MDTv2(mdtV2Preset(preset, pictures), init)),
  MaskDiT: {
    model: (preset, pictures) => new PreconditionedMaskDiT(maskDiTPreset(preset, pictures), init),
    *losses(model, x0, labels, random) {
      const net = model as PreconditionedMaskDiT
      yield () => mean(maskDiTLoss(net, x0, sampleMaskDiTInputs(net, x0, labels, 0.5, random)).loss)
    },
    sample: (model, x, t, labels) => (model as PreconditionedMaskDiT).forward(x, Float32Array.from(t), labels),
  },
}

/** Runs `use` with a backend of its own as the default. */
function on<T>(backend: Backend, use: () => T): T {
  const before = defaultBackend()
  setDefaultBackend(backend)
  try {
    return use()
  } finally {
    setDefaultBackend(before)
  }
}

/** Bytes at the most of the second step on N pictures: the first one makes the optimizer's state. */
export function trainingBytes(
  family: string,
  preset: string,
  N: number,
  { backend = createShapes({ fused: true }), pictures = latents }: { backend?: Backend; pictures?: Pictures } = {},
): number {
  return on(backend, () => {
    const { model: make, losses } = families[family]
    const random = rng(1)
    const before = backend.stats().bytes
    const [model, average] = [make(preset, pictures), make(preset, pictures)]
    const ema = new Ema(model, average, { decay: constantDecay(0.9999) })
    const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
    const labels = new Int32Array(N)
    for (let i = 0; i < 2; i++) {
      backend.resetPeak()
      scope(() => {
        const x0 = zeros([N, pictures.inChannels, pictures.inputSize, pictures.inputSize])
        for (const loss of losses(model, x0, labels, random)) backward(scope(loss))
        ema.update(optimizer.step().finite)
        optimizer.zeroGrad()
      })
    }
    const peak = backend.stats().peakBytes - before
    optimizer.dispose()
    for (const module of [model, average]) module.dispose()
    return peak
  })
}

/** Bytes at the most while one picture is drawn with guidance, and the number of parameters. */
export function samplingBytes(family: string, preset: string): { bytes: number; parameters: number } {
  const backend = createShapes({ fused: true })
  return on(backend, () => {
    const { model: make, sample } = families[family]
    const model = make(preset, latents)
    backend.resetPeak()
    noGrad(() =>
      scope(() => {
        const x = zeros([2, latents.inChannels, latents.inputSize, latents.inputSize])
        sample(model, x, new Int32Array(2).fill(500), new Int32Array(2))
      }),
    )
    return { bytes: backend.stats().peakBytes, parameters: model.countParameters().total }
  })
}

/** What can be used of 4 GiB: packed panels, the code's own data and holes between blocks need some. */
const usable = 0.95 * 2 ** 32

/** The largest power of two of pictures whose step fits, at most 256; 0 where not even one does. */
function largestBatch(family: string, preset: string): number {
  let N = 0
  for (let next = 1; next <= 256 && trainingBytes(family, preset, next) <= usable; next *= 2) N = next
  return N
}

const giga = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

export function memory(): void {
  const rows = [['32 × 32 × 4', 'parameters', 'draws with', 'trains with: batch 1', 'batch 16', 'largest batch']]
  for (const family of Object.keys(families))
    for (const preset of ['S/2', 'B/2', 'L/2', 'XL/2']) {
      const { bytes, parameters } = samplingBytes(family, preset)
      const N = largestBatch(family, preset)
      rows.push([
        `${family}-${preset}`,
        `${(parameters / 1e6).toFixed(0)} M`,
        bytes <= usable ? giga(bytes) : `${giga(bytes)}: too much`,
        giga(trainingBytes(family, preset, 1)),
        giga(trainingBytes(family, preset, 16)),
        N === 0 ? 'draws only' : `${N}`,
      ])
    }
  console.log(table(rows))
  console.log(`\nfits: up to ${giga(usable)} of the 4 GiB that wasm can address`)
}
