/**
 * Trains MDT, the masked diffusion transformer [MDT §3], on pictures. This is the whole loop: two passes a step, one over
 * the full picture and one with some of its patches removed, and in both the model learns to tell noise from picture.
 * Run: npx tsx examples/train-mdt-s.ts (--help lists the flags). Loss curve and samples appear as it goes, Ctrl-C saves,
 * --resume goes on, the same seed gives the same bytes. Settings are in train-settings.ts; the parts around the loop,
 * and what a run's folder holds, in training/. Before: 04-marginals-2d.ts. Next: models/mdt.ts, sample.ts.
 */

import { repeated, resumed } from '../cli/flags.ts'
import { runInChild } from '../cli/run-in-child.ts'
import { backward, mean, type Rng, ready, rng, scope, stack, type Tensor, tensor } from '../core/index.ts'
import { type Batch, Batches } from '../data/index.ts'
import { gaussianDiffusion, linearBetas, trainingLoss } from '../diffusion/index.ts'
import { type Drawing, timestepDrawing } from '../models/drawing.ts'
import { drawPasses, MDT } from '../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../nn/index.ts'
import * as training from '../training/index.ts'
import { contentsOf, decoderOf, openTrainingSet, spaceOf } from '../training/latents.ts'
import { writeSamples } from '../training/samples.ts'
import {
  command,
  type Described,
  expected,
  modelOptions,
  program,
  settingsOf,
  trainingFlags,
} from '../training/train-settings.ts'

await runInChild(async () => {
  const flags = trainingFlags()
  const { out, steps, minutes = Infinity } = flags
  const from = training.startingPoint(out, flags.resume)
  const before = training.saidBefore<Described>(out, from, { resume: flags.resume, program })
  const settings = settingsOf(flags, before?.settings)
  const { preset, batch, seed } = settings
  const samples = preset === 'tiny' ? 96 : 24 // in a grid; larger models take their time

  const backend = await ready(flags)
  const data = await openTrainingSet(settings, before, flags)
  const decode = await decoderOf(spaceOf(data), flags.vae) // null where the model draws pictures
  const random = rng(seed)
  const options = modelOptions(settings, data)
  const described: Described = {
    program,
    settings,
    pictures: data.length,
    classes: data.classes,
    model: options,
    latents: spaceOf(data),
  }
  const labelled = options.numClasses > 0
  const otherPictures = training.otherPictures(out, before, described, labelled)
  const model = new MDT(options, { rng: random.fork('weights') })
  const ema = new Ema(model, new MDT(options, { rng: null }), { decay: warmUpDecay(settings.emaDecay) })
  const optimizer = new AdamW(model.namedParameters(), settings)
  const schedule = warmUp(settings.warmUpSteps, constant(settings.lr))
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const guard = new training.StepGuard(out, model, settings)
  const state = { model, ema, optimizer, guard }
  if (from !== undefined) training.restore(from, state)
  const first = from?.step ?? 0
  let [step, computing] = [first, 0]

  /** Both passes over a batch, forward and backward: mse and vb of the full one, then of the masked one; means over N. */
  function passes({ images, labels }: Batch, draw: Rng): Tensor[] {
    const x0 = tensor(images, { shape: [batch, data.channels, data.size, data.size] }) // (N, C, H, W)
    const t = draw.integersArray(0, diffusion.steps, batch)
    const { full, masked } = drawPasses(model, x0, labelled ? labels : null, draw)
    return [full, masked].flatMap(({ noise, labels, mask }) => {
      // The inner scope lets go of all that the gradient does not need, and backward of the rest as it goes: when the
      // second pass begins, nothing of the first is left but gradients.
      const { loss, mse, vb } = scope(() => {
        const terms = trainingLoss(diffusion, (x, t) => model.forward(x, t, labels, mask), x0, t, noise)
        return { loss: mean(terms.loss), mse: mean(terms.mse).detach(), vb: mean(terms.vb!).detach() }
      })
      backward(loss)
      return [mse, vb]
    })
  }

  const what = `MDT-${preset} on ${contentsOf(data)}`
  const size = `${(model.countParameters().total / 1e6).toFixed(1)} M parameters`
  console.log(`${what}: ${size}, batch ${batch}, ${training.arithmetic(backend)}; see ${out} for what it draws`)
  for (const other of [training.otherArithmetic(before, backend), otherPictures]) if (other !== null) console.log(other)
  const resume = resumed(command, out, steps)
  if (before === undefined) training.writeRunReadme(out, { title: what, command: repeated(command), resume, described })
  const log = new training.MetricsLog(out, step)
  const progress = new training.Progress({ total: steps, done: step, minutes })
  const interrupt = new training.Interrupt(() => progress.log('saving after this step; Ctrl-C again stops without'))
  const stop = () => interrupt.asked()
  const end = performance.now() + 60_000 * minutes
  let checkpoint = from?.path

  try {
    while (step < steps && performance.now() < end && !(await stop())) {
      const start = performance.now()
      const waited = batches.waited
      const pictures = await batches.at(step)
      const draw = () => random.fork('step').fork(step) // a step's random numbers follow from seed and step alone
      const lr = schedule(step + 1)
      const report = scope(() => {
        const terms = passes(pictures, draw())
        // Does nothing where a loss or the norm is not finite.
        const { norm, finite } = optimizer.step({ lr, maxNorm: settings.maxNorm ?? undefined, losses: terms })
        ema.update(finite)
        optimizer.zeroGrad()
        return stack([...terms, norm, finite], 0)
      })
      const [mse, vb, maskedMse, maskedVb, gradNorm, finite] = await report.data()
      report.dispose()
      const loss = mse + vb + maskedMse + maskedVb
      const replay = () => passes(pictures, draw())
      const acted = await guard.judge({ step: step + 1, gradNorm, finite, replay }, progress)

      step++
      const seconds = (performance.now() - start) / 1000
      computing += seconds
      log.write(
        {
          step,
          loss,
          full: mse + vb,
          mse,
          vb,
          masked: maskedMse + maskedVb,
          maskedMse,
          maskedVb,
          gradNorm,
          lr,
          ...acted,
        },
        { step, seconds, waited: batches.waited - waited, time: Date.now() / 1000 },
      )
      progress.update(step, loss, batch)
      if (step === first + 2) progress.log(expected(settings, step, seconds))
      if (step % (step < 500 ? 50 : 250) === 0 && step < steps) await keep()
    }
  } finally {
    progress.close()
  }
  if (step > first) console.log(batches.shareOf(computing))
  if (step > first || !training.isKept(out, step)) await keep()
  interrupt.close()
  log.close()
  console.log(`${checkpoint ?? out} after step ${step}${step < steps ? `; go on with: ${resume}` : ''}`)

  /** As `demask sample` draws the same seeds. */
  function draw(seeds: readonly number[], labels: readonly number[] | null): Drawing {
    const how = { sampler: 'ddim', steps: 25, clip: decode === null } as const
    return timestepDrawing(ema.average, diffusion, { seeds, labels, ...how })
  }

  /** Checkpoint, loss curve, samples; these are left out where Ctrl-C is waiting. */
  async function keep(): Promise<void> {
    const at = { step, backend: training.arithmetic(backend), ...described }
    checkpoint = await training.keep(out, log, state, at, ['full', 'masked'], path =>
      writeSamples(path, options, samples, draw, stop, decode),
    )
    progress.pause()
  }
})
