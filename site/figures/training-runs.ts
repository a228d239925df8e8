/**
 * Small training runs, good and bad, for the chapter on training: a DiT of 0.2 million parameters on smileys of 8 pixels.
 * record-training.ts writes their losses to docs/tour/figures/training.json; a test repeats their first steps. Needs Node.
 */

import { type Backend, backward, mean, noGrad, ready, rng, scope, type Tensor, tensor } from '../../core/index.ts'
import { type ImageDataset, imagesOf, openEmoji } from '../../data/index.ts'
import { type GaussianDiffusion, gaussianDiffusion, linearBetas, trainingLoss } from '../../diffusion/index.ts'
import { DiT } from '../../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../../nn/index.ts'

/** Settings of a run. */
export interface Variant {
  readonly lr: number
  /** Steps of warm-up; 0 for none. */
  readonly warmUp: number
  /** Takes pictures in the order of the file. */
  readonly inOrder?: boolean
  /** Leaves gradients of earlier steps in place. */
  readonly keepGradients?: boolean
  /** Pictures in [0, 255] in place of [−1, 1]. */
  readonly bytes?: boolean
  /** Trains on this many pictures only. */
  readonly pictures?: number
  /** Step at which the run resumes without the optimizer's moments. */
  readonly forgetAt?: number
}

const good: Variant = { lr: 3e-3, warmUp: 50 }

/** The runs by name. Each differs from `good` in one thing. */
export const variants = {
  good,
  'too high': { ...good, lr: 0.1 },
  'too low': { ...good, lr: 3e-5 },
  'no warm-up': { ...good, lr: 0.02, warmUp: 0 },
  'warm-up': { ...good, lr: 0.02 },
  'in order': { ...good, inOrder: true },
  'gradients kept': { ...good, keepGradients: true },
  bytes: { ...good, bytes: true },
  'few pictures': { ...good, pictures: 16 },
  'moments lost': { ...good, forgetAt: 300 },
} as const satisfies Readonly<Record<string, Variant>>

/** Losses of fixed noise: of pictures that are trained on and of held-out ones, with raw and with averaged weights. */
export interface Measured {
  readonly step: number
  readonly train: number
  readonly heldOut: number
  readonly emaHeldOut: number
}

/** A run so far. */
export interface Curves {
  /** Loss of each step. */
  readonly losses: number[]
  readonly measured: Measured[]
}

const [size, batch, every] = [8, 32, 20]
const options = { inputSize: size, patchSize: 2, inChannels: 3, hiddenSize: 64, depth: 3, numHeads: 4, numClasses: 0 }

/** Trains for `steps` steps. The same variant gives the same numbers, within the last bits of another wasm build. */
export async function train(variant: Variant, steps: number): Promise<Curves> {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const { trainOn, heldOut } = await pictures(variant)
  const d = gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedSmall' })
  const random = rng(0)
  const make = (random: ReturnType<typeof rng> | null) =>
    new DiT({ ...options, learnSigma: false, classDropoutProb: 0 }, { rng: random, backend })
  const model = make(random.fork('weights'))
  const ema = new Ema(model, make(null), { decay: warmUpDecay(0.99) })
  const newOptimizer = () => new AdamW(model.namedParameters(), { lr: variant.lr, weightDecay: 0 })
  let optimizer = newOptimizer()
  const schedule = warmUp(variant.warmUp, constant(variant.lr))
  const curves: Curves = { losses: [], measured: [] }

  for (let step = 0; step < steps; step++) {
    if (step % every === 0) {
      const [train, held, emaHeldOut] = await Promise.all([
        fixedLoss(model, d, trainOn, backend),
        fixedLoss(model, d, heldOut, backend),
        fixedLoss(ema.average, d, heldOut, backend),
      ])
      curves.measured.push({ step, train, heldOut: held, emaHeldOut })
    }
    if (step === variant.forgetAt) optimizer = newOptimizer()
    const stream = random.fork('step').fork(step)
    const at = variant.inOrder
      ? Array.from({ length: batch }, (_, i) => (step * batch + i) % trainOn.length)
      : stream.integersArray(0, trainOn.length, batch)
    const loss = scope(() => {
      const x0 = batchOf(trainOn, at, backend)
      const t = stream.integersArray(0, d.steps, batch)
      const noise = stream.normal(x0.shape, { backend })
      const loss = mean(trainingLoss(d, (x, t) => model.forward(x, t), x0, t, noise).loss)
      backward(loss)
      optimizer.step({ lr: schedule(step + 1) })
      if (!variant.keepGradients) optimizer.zeroGrad()
      ema.update()
      return loss.detach()
    })
    curves.losses.push(await loss.item())
    loss.dispose()
  }
  backend.dispose()
  return curves
}

/** Three of four pictures to train on, the fourth held out. */
async function pictures({ bytes = false, pictures }: Variant) {
  const data: ImageDataset = await openEmoji('smileys', size)
  const all = await Promise.all(Array.from({ length: data.length }, (_, i) => data.pixels(i)))
  const planes = all.map(pixels => (bytes ? Float32Array.from(pixels) : imagesOf([pixels], size)))
  const trainOn = planes.filter((_, i) => i % 4 !== 3)
  return { trainOn: trainOn.slice(0, pictures), heldOut: planes.filter((_, i) => i % 4 === 3) }
}

function batchOf(planes: readonly Float32Array[], at: ArrayLike<number>, backend: Backend): Tensor {
  const values = Float32Array.from(Array.from(at).flatMap(i => [...planes[i]]))
  return tensor(values, { shape: [at.length, 3, size, size], backend })
}

/** Mean loss of up to 40 pictures, each at 4 timesteps, with noise that is the same at every call. */
async function fixedLoss(model: DiT, d: GaussianDiffusion, planes: readonly Float32Array[], backend: Backend) {
  const count = Math.min(40, planes.length)
  const stream = rng(7)
  const loss = noGrad(() =>
    scope(() => {
      const at = Array.from({ length: 4 * count }, (_, i) => i % count)
      const x0 = batchOf(planes, at, backend)
      const t = at.map((_, i) => Math.floor(((i + 0.5) * d.steps) / at.length))
      const noise = stream.normal(x0.shape, { backend })
      return mean(trainingLoss(d, (x, t) => model.forward(x, t), x0, t, noise).loss)
    }),
  )
  const value = await loss.item()
  loss.dispose()
  return value
}
