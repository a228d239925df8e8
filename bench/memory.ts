/**
 * Memory that each model needs, in training and in sampling, for latents of 256-pixel pictures (32 px, 4 channels, 1000
 * classes), and so which ones fit into the 4 GiB that wasm can address. Nothing is computed: the steps run on a backend that
 * only counts bytes (core/backends/shapes.ts), which tests compare with wasm's own count. Training is a step with AdamW
 * and a moving average of the weights; sampling generates a picture with guidance, so passes are on two pictures for one.
 * Run: npm run bench -- memory. Next: checkpoint.ts.
 */

import { createShapes } from '../core/backends/shapes.ts'
import { type Backend, backward, defaultBackend, rng, scope, setDefaultBackend, zeros } from '../core/index.ts'
import { type Family, families, type Pictures } from '../models/index.ts'
import { AdamW, constantDecay, Ema, type Init } from '../nn/index.ts'
import { newSettings } from '../training/index.ts'
import { table } from './table.ts'

const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }
const init: Init = { rng: null }

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

/** Bytes at the peak of the second step on N pictures: the first one makes the optimizer's state. */
export function trainingBytes(
  family: Family,
  preset: string,
  N: number,
  { backend = createShapes({ fused: true }), pictures = latents }: { backend?: Backend; pictures?: Pictures } = {},
): number {
  return on(backend, () => {
    const { training } = family
    const random = rng(1)
    const before = backend.stats().bytes
    const settings = newSettings(family, { preset, size: pictures.inputSize })
    const options = family.options(preset, pictures, settings)
    const [model, average] = [family.make(options, init), family.make(options, init)]
    const ema = new Ema(model, average, { decay: constantDecay(0.9999) })
    const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
    const labels = new Int32Array(N)
    for (let i = 0; i < 2; i++) {
      backend.resetPeak()
      scope(() => {
        const images = zeros([N, pictures.inChannels, pictures.inputSize, pictures.inputSize])
        const part = { images, labels, rng: random, progress: 0 }
        for (const pass of training.passes(model, part, settings)) backward(pass().loss)
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

/** Bytes at the peak while one picture is generated with guidance, and the number of parameters. */
export function samplingBytes(family: Family, preset: string): { bytes: number; parameters: number } {
  const backend = createShapes({ fused: true })
  return on(backend, () => {
    const { defaults, generate } = family.generation
    const model = family.make(family.options(preset, latents), init)
    backend.resetPeak()
    const request = {
      seeds: [0],
      labels: [0],
      sampler: defaults.sampler,
      steps: 2,
      guidance: { scale: 4 },
      clip: false,
    }
    for (const _ of generate(model, request));
    return { bytes: backend.stats().peakBytes, parameters: model.countParameters().total }
  })
}

/** Usable part of 4 GiB: packed panels, the code's own data and holes between blocks take the rest. */
const usable = 0.95 * 2 ** 32

/** The largest power of two of pictures whose step fits, at most 256; 0 where not even one does. */
function largestBatch(family: Family, preset: string): number {
  let N = 0
  for (let next = 1; next <= 256 && trainingBytes(family, preset, next) <= usable; next *= 2) N = next
  return N
}

const giga = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

export function memory(): void {
  const rows = [['32 × 32 × 4', 'parameters', 'draws with', 'trains with: batch 1', 'batch 16', 'largest batch']]
  for (const family of families.filter(({ presets }) => presets.includes('XL/2')))
    for (const preset of ['S/2', 'B/2', 'L/2', 'XL/2']) {
      const { bytes, parameters } = samplingBytes(family, preset)
      const N = largestBatch(family, preset)
      rows.push([
        `${family.name}-${preset}`,
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
