/**
 * Trains MaskDiT [MaskDiT] on pictures of which half of the patches are removed, and with --tune on whole ones again:
 * the same loop, in which the mask ratio is constant, zero or falling. Before the first step of tuning, weights,
 * averages and optimizer are those that the trained run left. Run: npx tsx examples/train-maskdit.ts (--help lists the
 * flags), then npx tsx examples/train-maskdit.ts --tune cosine. Before: train-mdt-s.ts, which has the parts around the
 * loop in common and fuller comments. Settings are in maskdit-settings.ts. Next: models/maskdit.ts.
 */

import { repeated, resumed } from '../cli/flags.ts'
import { runInChild } from '../cli/run-in-child.ts'
import { backward, mean, type Rng, ready, rng, scope, stack, type Tensor, tensor } from '../core/index.ts'
import { type Batch, Batches } from '../data/index.ts'
import { type Drawing, maskditDrawing } from '../models/drawing.ts'
import { drawMaskDiT, maskDiTLoss, PreconditionedMaskDiT } from '../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../nn/index.ts'
import * as training from '../training/index.ts'
import { contentsOf, decoderOf, openTrainingSet, spaceOf } from '../training/latents.ts'
import {
  command,
  type Described,
  modelOptions,
  program,
  ratioOf,
  settingsOf,
  trainedRun,
  trainingFlags,
} from '../training/maskdit-settings.ts'
import { writeSamples } from '../training/samples.ts'

await runInChild(async () => {
  const flags = trainingFlags()
  const { out, minutes = Infinity } = flags
  const from = training.startingPoint(out, flags.resume)
  const before = training.saidBefore<Described>(out, from, { resume: flags.resume, program })
  const trainedIn = before?.tuned ?? (flags.tune === undefined ? null : flags.from)
  const trained = trainedIn !== null && from === undefined ? trainedRun(trainedIn) : undefined
  const settings = settingsOf(flags, before?.settings, trained?.settings)
  const { preset, batch, seed, tune } = settings
  const steps = settings.steps ?? flags.steps ?? 10_000
  const samples = 24 // in a grid

  const backend = await ready(flags)
  const data = await openTrainingSet(settings, before, flags)
  const decode = await decoderOf(spaceOf(data), flags.vae)
  const random = rng(seed).fork(tune ?? 'train')
  const options = modelOptions(settings, data)
  const described: Described = {
    program,
    settings,
    pictures: data.length,
    classes: data.classes,
    model: options,
    latents: spaceOf(data),
    tuned: trainedIn,
  }
  const labelled = options.numClasses > 0
  const otherPictures = training.otherPictures(out, before, described, labelled)
  const net = new PreconditionedMaskDiT(options, { rng: random.fork('weights') })
  const decay = warmUpDecay(settings.emaDecay)
  const ema = new Ema(net, new PreconditionedMaskDiT(options, { rng: null }), { decay, skipFrozen: true })
  const optimizer = new AdamW(net.namedParameters(), settings)
  const schedule = warmUp(settings.warmUpSteps, constant(settings.lr))
  const maskRatio = ratioOf(settings)
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const guard = new training.StepGuard(out, net, settings)
  const state = { model: net, ema, optimizer, guard }
  const start = from ?? trained
  if (start !== undefined) training.restore(start, state)
  const first = from?.step ?? 0
  let [step, computing] = [first, 0]

  /** Forward and backward over a batch: loss and its term on visible patches, means over N. */
  function pass({ images, labels }: Batch, ratio: number, draw: Rng): Tensor[] {
    const y = tensor(images, { shape: [batch, data.channels, data.size, data.size] }) // (N, C, H, W)
    const { loss, dsm } = scope(() => {
      const draws = drawMaskDiT(net, y, labelled ? labels : null, ratio, draw)
      const terms = maskDiTLoss(net, y, draws)
      return { loss: mean(terms.loss), dsm: mean(terms.dsm).detach() }
    })
    backward(loss)
    return [loss.detach(), dsm]
  }

  const what = `MaskDiT-${preset} on ${contentsOf(data)}`
  const size = `${(net.countParameters().total / 1e6).toFixed(1)} M parameters`
  console.log(`${what}: ${size}, batch ${batch}, ${training.arithmetic(backend)}`)
  for (const other of [training.otherArithmetic(before, backend), otherPictures]) if (other !== null) console.log(other)
  if (trained !== undefined) console.log(`tuning (${tune}) what ${trained.path} has learned, for ${steps} steps`)
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
      const began = performance.now()
      const waited = batches.waited
      const pictures = await batches.at(step)
      const draw = () => random.fork('step').fork(step)
      const lr = schedule(step + 1)
      const ratio = maskRatio(tune === null ? 0 : step / steps)
      const report = scope(() => {
        const terms = pass(pictures, ratio, draw())
        const { norm, finite } = optimizer.step({ lr, maxNorm: settings.maxNorm ?? undefined, losses: terms })
        ema.update(finite)
        optimizer.zeroGrad()
        return stack([...terms, norm, finite], 0)
      })
      const [loss, dsm, gradNorm, finite] = await report.data()
      report.dispose()
      const replay = () => pass(pictures, ratio, draw())
      const acted = await guard.judge({ step: step + 1, gradNorm, finite, replay }, progress)

      step++
      const seconds = (performance.now() - began) / 1000
      computing += seconds
      log.write(
        { step, loss, dsm, ratio, gradNorm, lr, ...acted },
        { step, seconds, waited: batches.waited - waited, time: Date.now() / 1000 },
      )
      progress.update(step, loss, batch)
      if (step === first + 2) progress.log(`${seconds.toFixed(2)} s a step`)
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

  /** By 18 steps of Heun's method [EDM alg. 2], as `demask sample` draws the same seeds. */
  function draw(seeds: readonly number[], labels: readonly number[] | null): Drawing {
    return maskditDrawing(ema.average, { seeds, labels, sampler: 'heun', steps: 18 })
  }

  /** Checkpoint, loss curve, samples; these are left out where Ctrl-C is waiting. */
  async function keep(): Promise<void> {
    const at = { step, backend: training.arithmetic(backend), ...described }
    checkpoint = await training.keep(out, log, state, at, ['loss', 'dsm'], path =>
      writeSamples(path, options, samples, draw, stop, decode),
    )
    progress.pause()
  }
})
