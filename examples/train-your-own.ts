/**
 * Trains a model of one's own with demask's run loop: a small convolutional denoiser, of which demask has no record. All imports
 * are what the package exports. Run: node --import tsx examples/train-your-own.ts [FOLDER [STEPS]]. Ctrl-C saves, and the same
 * command continues.
 */

import {
  add,
  backward,
  concat,
  mean,
  mul,
  noGrad,
  ready,
  rng,
  scope,
  silu,
  square,
  sub,
  tensor,
} from '../core/index.ts'
import { Batches, openDataset } from '../data/index.ts'
import { Activation, AdamW, Conv2d, Ema, type Init, Sequential, warmUpDecay } from '../nn/index.ts'
import { startRun, writeGrid } from '../training/index-node.ts'

/** Noisy pictures (N, 3, H, W) → their noise (N, 3, H, W). */
class Denoiser extends Sequential {
  constructor(width: number, init: Init) {
    const conv = (from: number, to: number) => new Conv2d(from, to, 3, init, { padding: 1 })
    const activation = new Activation(silu)
    super([conv(3, width), activation, conv(width, width), activation, conv(width, 3)])
  }
}

const [folder = 'runs/train-your-own', steps = 1000] = process.argv.slice(2)
const settings = { batch: 32, width: 32, noise: 0.5, lr: 2e-3, seed: 0 } // kept in run.json
await ready()
const random = rng(settings.seed)
const data = await openDataset('emoji:smileys', 16)
const batches = new Batches(data, { batch: settings.batch, rng: random.fork('pictures') })
const model = new Denoiser(settings.width, { rng: random.fork('weights') })
const ema = new Ema(model, new Denoiser(settings.width, { rng: null }), { decay: warmUpDecay(0.99) })
const optimizer = new AdamW(model.namedParameters(), { lr: settings.lr })

/** Writes noisy pictures and, below them, what the averaged weights make of them. */
async function show(path: string) {
  const { images } = await batches.at(0)
  const denoise = () => {
    const clean = tensor(images, { shape: [32, 3, 16, 16] })
    const x = add(clean, mul(random.fork('shown').normal(clean.shape), settings.noise))
    return concat([x, sub(x, ema.average.forward(x))], 0) // (64, 3, 16, 16)
  }
  using pictures = noGrad(() => scope(denoise))
  await writeGrid(path, await pictures.data(), [64, 3, 16, 16], { columns: 16, magnify: 3 })
}

const own = { folder, steps: Number(steps), title: 'a denoiser of smileys', settings, rng: random, data, show }
const run = startRun(own, { model, ema, optimizer })
for await (const step of run.steps())
  await run.commit(
    step,
    batches,
    ({ images, rng, report }) => {
      const noise = mul(rng.normal(images.shape), settings.noise)
      const loss = scope(() => mean(square(sub(model.forward(add(images, noise)), noise))))
      backward(loss)
      report({ loss: loss.detach() })
    },
    losses => {
      const update = optimizer.step({ losses }) // nothing if a loss is not finite
      ema.update(update.finite)
      optimizer.zeroGrad()
      return update
    },
  )
