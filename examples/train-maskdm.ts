/**
 * Trains MaskDM in its two stages [MaskDM §3.2]. Run: npx tsx examples/train-maskdm.ts pretrain, which shows the model only
 * some patches of every picture and so costs a part of a step on whole ones; then npx tsx examples/train-maskdm.ts finetune,
 * which begins with what pretrain left, on whole pictures, these or others (--help lists the flags). The loop is that of
 * train-mdt-s.ts with one pass a step. Settings are in maskdm-settings.ts. Next: models/maskdm.ts.
 */

import { repeated, resumed } from '../cli/flags.ts'
import { runInChild } from '../cli/run-in-child.ts'
import { backward, mean, type Rng, ready, rng, scope, stack, type Tensor, tensor } from '../core/index.ts'
import { Batches, openDataset } from '../data/index.ts'
import { type Drawing, maskdmDrawing } from '../models/drawing.ts'
import {
  drawMaskDM,
  loadPretrained,
  MaskedUViT,
  maskdmDiffusion,
  maskdmOptimizer,
  maskdmPreset,
  maskedDenoisingScoreMatching,
} from '../models/index.ts'
import { AdamW, constant, Ema, powerDecay, warmUp } from '../nn/index.ts'
import * as training from '../training/index.ts'
import {
  command,
  commandLine,
  type Described,
  maskingOf,
  modelOptions,
  pretrained,
  program,
  settingsOf,
} from '../training/maskdm-settings.ts'
import { writeSamples } from '../training/samples.ts'

await runInChild(async () => {
  const flags = commandLine()
  const { out, steps, stage, minutes = Infinity } = flags
  const from = training.startingPoint(out, flags.resume)
  const before = training.saidBefore<Described>(out, from, { resume: flags.resume, program })
  const settings = settingsOf(flags, before?.settings)
  const { preset, batch, seed, maxNorm } = settings
  const options = modelOptions(settings)
  const masking = maskingOf(settings, options.inputSize / options.patchSize)

  const backend = await ready(flags)
  const data = await openDataset(settings.data, settings.size, flags)
  const random = rng(seed)
  const described: Described = { program, settings, pictures: data.length, model: options }
  const otherPictures = training.otherPictures(out, before, described)
  const model = new MaskedUViT(options, { rng: random.fork('weights') })
  const weights = from === undefined && stage === 'finetune' ? pretrained(settings) : null
  if (weights !== null) loadPretrained(model, weights)
  const ema = new Ema(model, new MaskedUViT(options, { rng: null }), { decay: powerDecay(settings.emaDecay) })
  const optimizer = new AdamW(model.namedParameters(), maskdmOptimizer)
  const schedule = warmUp(settings.warmUpSteps, constant(settings.lr))
  const { schedule: noising } = maskdmPreset(preset)
  const diffusion = maskdmDiffusion({ schedule: noising })
  const flip = settings.flip && data.flips
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true, flip })
  const guard = new training.StepGuard(out, model, settings)
  const state = { model, ema, optimizer, guard }
  if (from !== undefined) training.restore(from, state)
  let step = from?.step ?? 0

  /** Forward and backward over a batch: the loss. */
  function pass(images: Float32Array, draw: Rng): Tensor {
    const x0 = tensor(images, { shape: [batch, data.channels, data.size, data.size] }) // (N, C, H, W)
    const t = draw.integersArray(0, diffusion.steps, batch)
    const draws = drawMaskDM(model, x0, masking, draw)
    const loss = mean(maskedDenoisingScoreMatching(model, diffusion, x0, t, draws))
    backward(loss)
    return loss
  }

  const what = `MaskDM-${preset}, ${stage}, on the ${data.length} pictures of ${data.name} at ${data.size} px`
  const size = `${(model.countParameters().total / 1e6).toFixed(1)} M parameters`
  console.log(`${what}: ${size}, batch ${batch}, ${training.arithmetic(backend)}`)
  for (const other of [training.otherArithmetic(before, backend), otherPictures]) if (other !== null) console.log(other)
  if (weights !== null) console.log(`begins with ${settings.from}`)
  const resume = resumed(`${command} ${stage}`, out, steps)
  if (before === undefined) training.writeRunReadme(out, { title: what, command: repeated(command), resume, described })
  const log = new training.MetricsLog(out, step)
  const progress = new training.Progress({ total: steps, done: step, minutes })
  const interrupt = new training.Interrupt(() => progress.log('saving after this step; Ctrl-C again stops without'))
  const end = performance.now() + 60_000 * minutes
  const first = step
  let checkpoint = from?.path

  try {
    while (step < steps && performance.now() < end && !(await interrupt.asked())) {
      const start = performance.now()
      const { images } = await batches.at(step)
      const draw = () => random.fork('step').fork(step) // a step's random numbers follow from seed and step alone
      const lr = schedule(step)
      const report = scope(() => {
        const loss = pass(images, draw()).detach()
        const { norm, finite } = optimizer.step({ lr, maxNorm: maxNorm ?? undefined, losses: [loss] })
        ema.update(finite)
        optimizer.zeroGrad()
        return stack([loss, norm, finite], 0)
      })
      const [loss, gradNorm, finite] = await report.data()
      report.dispose()
      const replay = () => pass(images, draw())
      const acted = await guard.judge({ step: step + 1, gradNorm, finite, replay }, progress)

      step++
      log.write(
        { step, loss, gradNorm, lr, ...acted },
        { step, seconds: (performance.now() - start) / 1000, time: Date.now() / 1000 },
      )
      progress.update(step, loss, batch)
      if (step % (step < 500 ? 50 : 250) === 0 && step < steps) await keep()
    }
  } finally {
    progress.close()
  }
  if (step > first || !training.isKept(out, step)) await keep()
  interrupt.close()
  log.close()
  console.log(`${checkpoint ?? out} after step ${step}${step < steps ? `; go on with: ${resume}` : ''}`)

  /** As `demask sample` draws the same seeds: by 25 steps without fresh noise. */
  function draw(seeds: readonly number[], labels: readonly number[] | null): Drawing {
    return maskdmDrawing(ema.average, noising, { seeds, labels, sampler: 'ddim', steps: 25 })
  }

  /** Checkpoint, loss curve, samples; these are left out where Ctrl-C is waiting. */
  async function keep(): Promise<void> {
    const at = { step, backend: training.arithmetic(backend), ...described }
    checkpoint = await training.keep(out, log, state, at, ['loss'], path =>
      writeSamples(path, options, 48, draw, () => interrupt.asked(), null),
    )
    progress.pause()
  }
})
