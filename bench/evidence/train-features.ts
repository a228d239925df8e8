/**
 * Trains the small classifier of evaluation/emoji-features.ts on the categories of emoji, every tenth of which it never sees
 * and is tested on. Pictures are shifted, made coarse or noisy at random, so that features learn what is drawn, and at
 * sizes that small models are trained at. The result is what `demask evaluate` measures with where Inception's weights
 * are not at hand. Run: npx tsx bench/evidence/train-features.ts (--help lists the flags); a run's folder is as that of
 * train-mdt-s.ts. Next: cli/evaluate.ts.
 */

import { commandOf, readFlags, repeated, resumed } from '../../cli/flags.ts'
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
  stack,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { type Batch, Batches, type ImageDataset, openDataset, toModelRange } from '../../data/index.ts'
import { EmojiFeatures } from '../../evaluation/emoji-features.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../../nn/index.ts'
import * as training from '../../training/index.ts'

const command = commandOf('bench/evidence/train-features.ts')
const program = 'train-features'
const size = 32

/** What a checkpoint says of its run. */
interface Described extends training.RunDescribed {
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
      resume: { type: 'switch', about: 'go on from the last checkpoint in DIR' },
    },
    examples: [
      ['--steps 863', 'the network that comes with demask, in a quarter of an hour on 2 cores'],
      ['--resume --steps 3000', 'go on with it'],
    ],
  })
  const from = training.startingPoint(out, resume)
  const before = training.saidBefore<Described>(out, from, { resume, program })
  const settings = before?.settings ?? given
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
  const guard = new training.StepGuard(out, model, training.unguarded)
  const state = { model, ema, optimizer, guard }
  if (from !== undefined) training.restore(from, state)
  const first = from?.step ?? 0
  let step = first
  let checkpoint = from?.path

  /** Mean cross-entropy of a batch, which is altered at random. */
  function lossOf({ images, labels }: Batch, draw: Rng): Tensor {
    return scope(() => {
      const x = altered(tensor(images, { shape: [labels.length, 3, size, size] }), draw) // (N, 3, 32, 32)
      const wanted = new Float32Array(labels.length * classes)
      labels.forEach((label, n) => {
        wanted[n * classes + label] = 1
      })
      const target = tensor(wanted, { shape: [labels.length, classes] })
      return neg(mean(sum(mul(logSoftmax(model.forward(x).logits), target), 1)))
    })
  }

  const title = `a classifier of emoji on ${seen.length} pictures, tested on ${unseen.length} others`
  console.log(`${title}: ${model.countParameters().total} parameters, batch ${batch}, ${training.arithmetic(backend)}`)
  const described: Described = { program, settings, classes: all.classes }
  const again = resumed(command, out, steps)
  if (before === undefined)
    training.writeRunReadme(out, { title, command: repeated(command), resume: again, described })
  const log = new training.MetricsLog(out, step)
  const progress = new training.Progress({ total: steps, done: step })
  const interrupt = new training.Interrupt(() => progress.log('saving after this step; Ctrl-C again stops without'))
  try {
    while (step < steps && !(await interrupt.asked())) {
      const start = performance.now()
      const pictures = await batches.at(step)
      const draw = () => random.fork('step').fork(step)
      const report = scope(() => {
        const loss = lossOf(pictures, draw())
        backward(loss)
        const { norm, finite } = optimizer.step({ lr: schedule(step + 1), losses: [loss.detach()] })
        ema.update(finite)
        optimizer.zeroGrad()
        return stack([loss.detach(), norm, finite], 0)
      })
      const [loss, gradNorm, finite] = await report.data()
      report.dispose()
      const replay = () => backward(lossOf(pictures, draw()))
      await guard.judge({ step: step + 1, gradNorm, finite, replay }, progress)
      step++
      log.write(
        { step, loss, gradNorm },
        { step, seconds: (performance.now() - start) / 1000, time: Date.now() / 1000 },
      )
      progress.update(step, loss, batch)
      if (step % 300 === 0 && step < steps) await keep()
    }
  } finally {
    progress.close()
  }
  if (step > first || !training.isKept(out, step)) await keep()
  interrupt.close()
  log.close()
  console.log(`${checkpoint ?? out} after step ${step}${step < steps ? `; go on with: ${again}` : ''}`)

  /** Checkpoint, loss curve, and the unseen pictures that the averaged weights take for something else. */
  async function keep(): Promise<void> {
    const at = { step, backend: training.arithmetic(backend), ...described }
    checkpoint = await training.keep(out, log, state, at, ['loss'], async path => {
      const mistaken = await mistakes(ema.average, unseen)
      const right = 1 - mistaken.length / unseen.length
      progress.log(`step ${step}: ${(100 * right).toFixed(1)} % of ${unseen.length} unseen pictures right`)
      if (mistaken.length === 0) return
      const pixels = Float32Array.from(mistaken.flatMap(bytes => Array.from(bytes, toModelRange)))
      await training.writeGrid(path, pixels, [mistaken.length, 3, size, size])
    })
    progress.pause()
  }
})

/** The pictures of a set whose number `chosen` wants. */
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

/** The pictures of a set that the model does not name rightly. */
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
