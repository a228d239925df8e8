/**
 * Trains the network of evaluation/emoji-features.ts on the categories of emoji, with a tenth of the base emoji held out.
 * Pictures of 16 and of 32 pixels are damaged (damage.ts), and the last pooled features learn to be the strengths of that
 * damage: features of a classifier alone become blind to noise, and a distance of such features does not see it. Run:
 * npx tsx bench/evidence/train-emoji-features.ts (--help lists the flags), then
 * `demask convert runs/emoji-features/checkpoint-…/ema.safetensors assets/emoji-features.safetensors --dtype f16`.
 */

import { readFlags, shellLine } from '../../cli/flags.ts'
import { runInChild } from '../../cli/run-in-child.ts'
import {
  add,
  backward,
  crossEntropy,
  mean,
  mul,
  type Rng,
  ready,
  rng,
  scope,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { Batches, holdOut, openDataset } from '../../data/index.ts'
import { EmojiFeatures } from '../../evaluation/emoji-features.ts'
import { AdamW, cosine, Ema, warmUp, warmUpDecay } from '../../nn/index.ts'
import { previousRun, Run, type RunDescribed, resumePoint } from '../../training/index-node.ts'
import { damaged, damageKinds, halved } from './damage.ts'
import { misclassified } from './misclassified.ts'

const command = 'npx tsx bench/evidence/train-emoji-features.ts'
const program = 'train-emoji-features'
const size = 32
/** Sides of the pictures that the network sees as they are. */
const sides = [size / 2, size]
/** The strongest damage as a pooled feature. Others have a standard deviation of about 0.3. */
const strongest = 3
/** Weight of the squared error of a strength, summed over kinds, beside the cross-entropy of the classes. */
const damageWeight = 10
/** Share of steps on pictures of 32 pixels; the others are on 16, which take a quarter of the time. */
const largeShare = 1 / 8
const warmUpSteps = 50

/** Description of a run in its checkpoints. */
interface Described extends RunDescribed {
  readonly settings: { readonly steps: number; readonly batch: number; readonly lr: number; readonly seed: number }
  readonly classes: readonly string[]
}

await runInChild(async () => {
  const { out, threads, resume, ...given } = readFlags({
    command,
    about: 'Trains the network of emoji features to tell categories apart and to predict damage.',
    flags: {
      steps: { type: 'integer', min: 1, default: 900, about: 'steps in all; the learning rate falls to 0 over them' },
      batch: { type: 'integer', min: 1, default: 64, about: 'pictures per step' },
      lr: { type: 'number', min: 0, default: 0.002, about: 'learning rate after the warm-up' },
      seed: { type: 'integer', min: 0, default: 0, about: 'the same seed gives the same run' },
      threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
      out: { type: 'text', value: 'DIR', default: 'runs/emoji-features', about: 'the folder of the run' },
      resume: { type: 'switch', about: 'continue from the last checkpoint in DIR, with its settings' },
    },
    examples: [['', 'the network that comes with demask']],
  })
  const { from, release } = resumePoint(out, resume)
  const previous = previousRun<Described>(out, from, { resume, program })
  const settings = previous?.settings ?? given
  const { steps, batch, lr, seed } = settings
  const backend = await ready({ threads })
  const all = await openDataset('emoji', size)
  const { training: seen, heldOut: unseen } = holdOut(all, 0.1)
  const smallUnseen = holdOut(await openDataset('emoji', size / 2), 0.1).heldOut
  const random = rng(seed)
  const classes = all.classes.length
  const model = new EmojiFeatures(classes, { rng: random.fork('weights') }, sides)
  const ema = new Ema(model, new EmojiFeatures(classes, { rng: null }, sides), { decay: warmUpDecay(0.995) })
  const optimizer = new AdamW(model.namedParameters(), { lr, weightDecay: 0.05 })
  const schedule = warmUp(warmUpSteps, cosine(lr, steps))
  const batches = new Batches(seen, { batch, rng: random.fork('pictures'), replacement: false })

  /** Cross-entropy of the classes and squared error of the damage, of pictures (N, 3, 32, 32) that are damaged here. */
  function lossesOf(images: Tensor, labels: Int32Array, rng: Rng): { loss: Tensor; classes: Tensor; damage: Tensor } {
    const { pictures, strengths } = damagedBatch(images, rng)
    const { logits, pool } = model.forward(pictures)
    const named = crossEntropy(logits, tensor(labels, { dtype: 'i32' }))
    const predicted = mul(slice(pool, 1, -damageKinds.length), 1 / strongest)
    const error = mean(sum(square(sub(predicted, strengths)), 1))
    return { loss: add(named, mul(error, damageWeight)), classes: named.detach(), damage: error.detach() }
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
        title: `features of emoji from ${seen.length} pictures, tested on ${unseen.length} others`,
        command: shellLine(command, ...process.argv.slice(2)),
        resume: shellLine(command, '--out', out, '--resume'),
      },
      columns: ({ loss, classes, damage }) => ({ loss, classes, damage }),
      curves: ['loss', 'classes', 'damage'],
      async show(_, run) {
        const mistaken = await misclassified(ema.average, smallUnseen)
        const right = 1 - mistaken.length / unseen.length
        run.print(
          `step ${run.step}: ${(100 * right).toFixed(1)} % of ${unseen.length} unseen pictures of 16 pixels right`,
        )
      },
    },
    { model, ema, optimizer },
  )
  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      part => {
        const { loss, ...terms } = scope(() => lossesOf(part.images, Int32Array.from(part.labels!), part.rng))
        backward(loss)
        part.report({ loss: loss.detach(), ...terms })
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

/**
 * Damages pictures (N, 3, 32, 32), mostly at 16 pixels. Returns them, (N, 3, S, S), and the strengths of their
 * damage, (N, damageKinds.length).
 */
function damagedBatch(images: Tensor, rng: Rng): { readonly pictures: Tensor; readonly strengths: Tensor } {
  const [N, C, S] = images.shape
  const pixels = images.dataSync() as Float32Array
  const small = rng.uniformArray(1)[0] >= largeShare
  const pictures = Array.from({ length: N }, (_, n) => {
    const planes = pixels.slice(n * C * S * S, (n + 1) * C * S * S)
    return damaged(small ? halved(planes) : planes, rng)
  })
  const side = small ? S / 2 : S
  const values = new Float32Array(N * C * side * side)
  for (const [n, { planes }] of pictures.entries()) values.set(planes, n * planes.length)
  return {
    pictures: tensor(values, { shape: [N, C, side, side] }),
    strengths: tensor(pictures.map(({ strengths }) => strengths)),
  }
}
