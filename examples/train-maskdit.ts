/**
 * Trains MaskDiT [MaskDiT] on pictures of which half of the patches are removed, and with --tune on whole ones again: the
 * mask ratio is constant, zero or falling. Tuning starts with the weights, averages and moments of the trained run. Run:
 * npx tsx examples/train-maskdit.ts (--help lists the flags), then npx tsx examples/train-maskdit.ts --tune cosine. Before:
 * train-mdt-s.ts, the same loop with fuller comments.
 */

import { runInChild } from '../cli/run-in-child.ts'
import { readTrainingCommand } from '../cli/train-flags.ts'
import { backward, mean, scope } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import {
  maskDiTLoss,
  maskRatioSchedule,
  PreconditionedMaskDiT,
  sampleMaskDiTInputs,
  unmaskingTuning,
} from '../models/index.ts'
import { Ema, optimizerOf, warmUpDecay } from '../nn/index.ts'
import { maskDiTProgram } from '../training/maskdit.ts'
import { openRun } from '../training/program.ts'
import { learningRateOf } from '../training/settings.ts'

await runInChild(async () => {
  const command = readTrainingCommand(maskDiTProgram, 'npx tsx examples/train-maskdit.ts')
  const { settings, options, data, random, prepare, begin } = await openRun(maskDiTProgram, command)
  const { batch, emaDecay, tune, maskRatio } = settings

  const net = new PreconditionedMaskDiT(options, { rng: random.fork('weights') })
  await prepare(net)
  const average = new PreconditionedMaskDiT(options, { rng: null })
  const ema = new Ema(net, average, { decay: warmUpDecay(emaDecay), skipFrozen: true })
  const optimizer = optimizerOf(net.namedParameters(), settings) // AdamW, or the one of --optimizer
  const schedule = learningRateOf(settings, 'from 1')
  const ratio = tune == null ? maskRatioSchedule('constant', { ratio: maskRatio }) : unmaskingTuning(tune, maskRatio)
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const run = begin({ model: net, ema, optimizer })

  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      part => {
        const { loss, dsm } = scope(() => {
          const inputs = sampleMaskDiTInputs(net, part.images, part.labels, ratio(part.progress), part.rng)
          const terms = maskDiTLoss(net, part.images, inputs) // per picture
          return { loss: mean(terms.loss), dsm: mean(terms.dsm).detach() }
        })
        backward(loss)
        part.report({ loss: loss.detach(), dsm })
      },
      losses => {
        const maxNorm = settings.maxNorm ?? undefined
        const update = optimizer.step({ lr: schedule(step), maxNorm, losses })
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  }
})
