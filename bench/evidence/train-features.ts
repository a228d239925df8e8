/**
 * Trains the small classifier of evaluation/emoji-features.ts on the categories of emoji, every tenth of which it never sees
 * and is tested on. Pictures are shifted, made coarse or noisy at random, so that features learn what is drawn, and at
 * sizes that small models are trained at. The result is what `demask evaluate` measures with where Inception's weights
 * are not at hand. Run: npx tsx bench/evidence/train-features.ts (--help lists the flags); a run's folder is as that of
 * train-mdt-s.ts. Next: cli/evaluate.ts.
 */

import { readFlags, shellLine } from '../../cli/flags.ts'
import { runInChild } from '../../cli/run-in-child.ts'
import {
  add,
  avgPool2d,
  backward,
  interpolate,
  logSoftmax,
  mean,
  mul,
  neg,
  pad,
  type Rng,
  ready,
  rng,
  scope,
  slice,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { Batches, type ImageDataset, openDataset, toModelRange } from '../../data/index.ts'
import { EmojiFeatures } from '../../evaluation/emoji-features.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../../nn/index.ts'
import { previousRun, Run, type RunDescribed, resumePoint, writeGrid } from '../../training/index-node.ts'
import { misclassified } from './misclassified.ts'

const command = 'npx tsx bench/evidence/train-features.ts'
const program = 'train-features'
const size = 32

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
      ['--steps 863', 'the network that comes with demask, in a quarter of an hour on 2 cores'],
      ['--resume --steps 3000', 'continue it'],
    ],
  })
  const { from, release } = resumePoint(out, resume)
  const previous = previousRun<Described>(out, from, { resume, program })
  const settings = previous?.settings ?? given
  const { batch, lr, seed } = settings
  const backend = await ready({ threads })
  const all = await openDataset('emoji', size)
  const [seen, unseen] = [part(all, i => i % 10 !== 0), part(all, i => i % 10 === 0)]
  const random = rng(seed)
  const classes = all.classes.length
  const model = new EmojiFeatures(classes, { rng: random.fork('weights') })
  const ema = new Ema(model, new EmojiFeatures(classes, { rng: null }), { decay: warmUpDecay(0.995) })
  const optimizer = new AdamW(model.namedParameters(), { lr, weightDecay: 0.05 })
  const schedule = warmUp(50, constant(lr))
  const batches = new Batches(seen, { batch, rng: random.fork('pictures'), replacement: false })

  /** Mean cross-entropy of pictures x (N, 3, 32, 32), which are altered at random. */
  function lossOf(x: Tensor, labels: ArrayLike<number>, draw: Rng): Tensor {
    return scope(() => {
      const N = labels.length
      const wanted = new Float32Array(N * classes)
      for (let n = 0; n < N; n++) wanted[n * classes + labels[n]] = 1
      const target = tensor(wanted, { shape: [N, classes] })
      return neg(mean(sum(mul(logSoftmax(model.forward(altered(x, draw)).logits), target), 1)))
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
        const mistaken = await misclassified(ema.average, unseen)
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

/** The pictures of a set whose number is `chosen`. */
function part(set: ImageDataset, chosen: (i: number) => boolean): ImageDataset {
  const indices = Array.from({ length: set.length }, (_, i) => i).filter(chosen)
  return { ...set, length: indices.length, label: i => set.label(indices[i]), pixels: i => set.pixels(indices[i]) }
}

/** x (N, 3, S, S), moved by up to 2 pixels, at half or a quarter of its detail, or under noise, each at times. */
function altered(x: Tensor, draw: Rng): Tensor {
  const [N, C, S] = x.shape
  const [down, right, coarse] = draw.integersArray(0, 5, 3)
  const wide = pad(x, [0, 0, 2, 2], [N, C, S + 4, S + 4], 1) // white, as what emoji are drawn over
  const moved = slice(slice(wide, 2, down, down + S), 3, right, right + S)
  const factor = [1, 1, 2, 2, 4][coarse]
  const seen = factor === 1 ? moved : interpolate(avgPool2d(moved, factor), [S, S], 'bilinear')
  const strength = 0.3 * Math.max(0, 2 * draw.uniformArray(1)[0] - 1)
  return add(seen, mul(tensor(draw.normalArray(x.size), { shape: x.shape }), strength))
}
