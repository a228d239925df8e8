/**
 * Trains MaskDM in its two stages [MaskDM §3.2]. Run: npx tsx examples/train-maskdm.ts pretrain, which shows the model only
 * some patches of every picture and so costs a part of a step on whole ones; then npx tsx examples/train-maskdm.ts finetune,
 * which starts with the weights that pretrain left, on whole pictures, these or others (--help lists the flags). Before:
 * train-mdt-s.ts, the same loop with fuller comments.
 */

import { runInChild } from '../cli/run-in-child.ts'
import { readTrainingCommand } from '../cli/train-flags.ts'
import { backward, mean, scope } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import {
  MaskedUViT,
  maskdmDiffusion,
  maskdmOptimizer,
  maskdmPreset,
  maskedDenoisingScoreMatching,
  maskingOf,
  sampleMaskDMInputs,
} from '../models/index.ts'
import { Ema, optimizerOf, powerDecay } from '../nn/index.ts'
import { maskDMProgram } from '../training/maskdm.ts'
import { openRun } from '../training/program.ts'
import { learningRateOf } from '../training/settings.ts'

await runInChild(async () => {
  const command = readTrainingCommand(maskDMProgram, 'npx tsx examples/train-maskdm.ts')
  const { settings, options, data, random, prepare, begin } = await openRun(maskDMProgram, command)
  const { preset, batch, emaDecay } = settings

  const model = new MaskedUViT(options, { rng: random.fork('weights') })
  await prepare(model) // fine-tuning starts with the weights of --from
  const ema = new Ema(model, new MaskedUViT(options, { rng: null }), { decay: powerDecay(emaDecay) })
  const optimizer = optimizerOf(model.namedParameters(), { ...settings, betas: maskdmOptimizer.betas })
  const schedule = learningRateOf(settings, 'from 0') // MaskDM's first step has rate 0
  const diffusion = maskdmDiffusion({ schedule: maskdmPreset(preset).schedule })
  const masking = maskingOf(settings) // null in fine-tuning
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const run = begin({ model, ema, optimizer })

  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      ({ images, labels, rng, report }) => {
        const t = rng.integersArray(0, diffusion.steps, images.shape[0])
        const inputs = sampleMaskDMInputs(model, images, masking, rng)
        const loss = scope(() => mean(maskedDenoisingScoreMatching(model, diffusion, images, t, inputs, { labels })))
        backward(loss)
        report({ loss: loss.detach() })
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
