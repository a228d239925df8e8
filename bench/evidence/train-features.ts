/**
 * Trains the network of evaluation/emoji-features.ts on the categories of emoji, and tests it on a tenth of the base emoji
 * with all their skin tones. Pictures are shifted, made coarse, blurred and noised. A second head predicts how much, so that
 * features tell damaged pictures from clean ones instead of becoming blind to damage; the head is not part of the network.
 * The result is what `demask evaluate` measures with if Inception's weights are not at hand. Run:
 * npx tsx bench/evidence/train-features.ts (--help lists the flags); a run's folder is as that of train-mdt-s.ts, and
 * `demask convert RUN/…/ema.safetensors FILE --strip features.` makes the asset.
 */

import { readFlags, shellLine } from '../../cli/flags.ts'
import { runInChild } from '../../cli/run-in-child.ts'
import {
  add,
  avgPool2d,
  backward,
  conv2d,
  crossEntropy,
  interpolate,
  mean,
  mul,
  pad,
  type Rng,
  ready,
  reshape,
  rng,
  scope,
  slice,
  square,
  sub,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { Batches, holdOut, type ImageDataset, openDataset, toModelRange } from '../../data/index.ts'
import { EmojiFeatures } from '../../evaluation/emoji-features.ts'
import { AdamW, constant, Ema, type Init, Linear, Module, warmUp, warmUpDecay } from '../../nn/index.ts'
import { previousRun, Run, type RunDescribed, resumePoint, writeGrid } from '../../training/index-node.ts'

const command = 'npx tsx bench/evidence/train-features.ts'
const program = 'train-features'
const size = 32

/** A binomial filter of 3 × 3. */
const blurWeights = [1, 2, 1].flatMap(a => [1, 2, 1].map(b => (a * b) / 16))
/** Standard deviation of the strongest noise. */
const strongest = 0.6
/** Kinds of damage that are predicted: noise and blur. */
const damages = 2
/** Weight of the error of predicted damage beside the cross-entropy of the classes. */
const damageWeight = 0.5

/** The network and the head that predicts damage from its pooled features. */
class Trainee extends Module {
  readonly features: EmojiFeatures
  readonly damage: Linear

  constructor(classes: number, init: Init) {
    super()
    this.features = new EmojiFeatures(classes, init)
    this.damage = new Linear(128, damages, init)
  }
}

/** Description of a run in its checkpoints. */
interface Described extends RunDescribed {
  readonly settings: { readonly batch: number; readonly lr: number; readonly seed: number }
  readonly classes: readonly string[]
}

await runInChild(async () => {
  const { out, steps, threads, resume, ...given } = readFlags({
    command,
    about: 'Trains the classifier of emoji whose features measure pictures where Inception is not at hand.',
    flags: {
      steps: { type: 'integer', min: 1, default: 1200, about: 'steps in all, those before a resume among them' },
      batch: { type: 'integer', min: 1, default: 64, about: 'pictures per step' },
      lr: { type: 'number', min: 0, default: 0.002, about: 'learning rate after the warm-up' },
      seed: { type: 'integer', min: 0, default: 0, about: 'the same seed gives the same run' },
      threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
      out: { type: 'text', value: 'DIR', default: 'runs/emoji-features', about: 'the folder of the run' },
      resume: { type: 'switch', about: 'continue from the last checkpoint in DIR' },
    },
    examples: [
      ['', 'the network that comes with demask, in about half an hour on 2 cores'],
      ['--resume --steps 3000', 'continue it'],
    ],
  })
  const { from, release } = resumePoint(out, resume)
  const previous = previousRun<Described>(out, from, { resume, program })
  const settings = previous?.settings ?? given
  const { batch, lr, seed } = settings
  const backend = await ready({ threads })
  const all = await openDataset('emoji', size)
  const { training: seen, heldOut: unseen } = holdOut(all, 0.1)
  const random = rng(seed)
  const classes = all.classes.length
  const model = new Trainee(classes, { rng: random.fork('weights') })
  const ema = new Ema(model, new Trainee(classes, { rng: null }), { decay: warmUpDecay(0.995) })
  const optimizer = new AdamW(model.namedParameters(), { lr, weightDecay: 0.05 })
  const schedule = warmUp(50, constant(lr))
  const batches = new Batches(seen, { batch, rng: random.fork('pictures'), replacement: false })

  /** Loss of pictures x (N, 3, 32, 32), which are altered at random: cross-entropy, and the error of predicted damage. */
  function lossOf(x: Tensor, labels: ArrayLike<number>, rng: Rng): Tensor {
    return scope(() => {
      const { pictures, damage } = altered(x, rng)
      const { logits, pool } = model.features.forward(pictures)
      const error = mean(square(sub(model.damage.forward(pool), damage)))
      return add(crossEntropy(logits, tensor(Int32Array.from(labels), { dtype: 'i32' })), mul(error, damageWeight))
    })
  }

  const described: Described = { program, settings, classes: all.classes }
  const run = new Run(
    {
      folder: out,
      release,
      steps,
      settings: { batch, parts: 1, maxNorm: null, skipNonfinite: 0 },
      rng: random,
      backend,
      data: seen,
      labelled: true,
      from,
      previous,
      described,
      readme: {
        title: `a classifier of emoji on ${seen.length} pictures, tested on ${unseen.length} others`,
        command: shellLine(command, ...process.argv.slice(2)),
        resume: shellLine(command, '--out', out, '--resume', '--steps', String(steps)),
      },
      columns: ({ loss }) => ({ loss }),
      curves: ['loss'],
      /** The unseen pictures that the averaged weights misclassify. */
      async show(path, run) {
        const mistaken = await mistakes(ema.average.features, unseen)
        const right = 1 - mistaken.length / unseen.length
        run.print(`step ${run.step}: ${(100 * right).toFixed(1)} % of ${unseen.length} unseen pictures right`)
        if (mistaken.length === 0) return
        const pixels = Float32Array.from(mistaken.flatMap(bytes => Array.from(bytes, toModelRange)))
        await writeGrid(path, pixels, [mistaken.length, 3, size, size])
      },
    },
    { model, ema, optimizer },
  )
  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      part => {
        const loss = lossOf(part.images, part.labels!, part.rng)
        backward(loss)
        part.report({ loss: loss.detach() })
      },
      losses => {
        const update = optimizer.step({ lr: schedule(step + 1), losses })
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  }
})

/** x (N, C, S, S) under the filter, of white surroundings. */
function blurred(x: Tensor): Tensor {
  const [N, C, S] = x.shape
  const wide = pad(x, [0, 0, 1, 1], [N, C, S + 2, S + 2], 1)
  const filter = tensor(blurWeights, { shape: [1, 1, 3, 3] })
  return reshape(conv2d(reshape(wide, [N * C, 1, S + 2, S + 2]), filter), [N, C, S, S])
}

/**
 * x (N, 3, S, S), moved by up to 2 pixels, sometimes at half or a quarter of its detail; half of the pictures blurred and
 * half of them noised, by different strengths. Returns the strengths as `damage` (N, 2), each of mean about 0.
 */
function altered(x: Tensor, rng: Rng): { readonly pictures: Tensor; readonly damage: Tensor } {
  const [N, C, S] = x.shape
  const [down, right, coarse] = rng.integersArray(0, 5, 3)
  const wide = pad(x, [0, 0, 2, 2], [N, C, S + 4, S + 4], 1) // white, as the background of emoji
  const moved = slice(slice(wide, 2, down, down + S), 3, right, right + S)
  const factor = [1, 1, 1, 2, 4][coarse]
  const seen = factor === 1 ? moved : interpolate(avgPool2d(moved, factor), [S, S], 'bilinear')
  const strengths = rng.uniformArray(2 * N)
  const [noise, blur] = [0, N].map(from => Array.from(strengths.subarray(from, from + N), u => Math.max(0, 2 * u - 1)))
  const perPicture = (values: number[]) => tensor(values, { shape: [N, 1, 1, 1] })
  const soft = add(seen, mul(sub(blurred(blurred(seen)), seen), perPicture(blur)))
  const deviations = noise.map(u => strongest * u ** 2) // light noise is the more frequent
  const grains = tensor(rng.normalArray(x.size), { shape: x.shape })
  const damage = Array.from({ length: N }, (_, n) => [2 * noise[n] - 0.5, 2 * blur[n] - 0.5]).flat()
  return {
    pictures: add(soft, mul(grains, perPicture(deviations))),
    damage: tensor(damage, { shape: [N, damages] }),
  }
}

/** Misclassified pictures of a set. */
async function mistakes(model: EmojiFeatures, set: ImageDataset): Promise<Uint8Array[]> {
  const found: Uint8Array[] = []
  const classes = set.classes.length
  for (let from = 0; from < set.length; from += 64) {
    const pictures = await Promise.all(
      Array.from({ length: Math.min(64, set.length - from) }, (_, k) => set.pixels(from + k)),
    )
    const pixels = Float32Array.from(pictures.flatMap(bytes => Array.from(bytes, toModelRange)))
    const logits = scope(() => model.features(tensor(pixels, { shape: [pictures.length, 3, size, size] })).logits)
    const values = await logits.data()
    logits.dispose()
    pictures.forEach((picture, n) => {
      const row = values.subarray(n * classes, (n + 1) * classes)
      if (row.indexOf(Math.max(...row)) !== set.label(from + n)) found.push(picture)
    })
  }
  return found
}
