/**
 * Trains the autoencoder between pictures and latents [LDM §3.1], the first of two stages: transformers are then trained
 * on its latents (the command encode-latents, train-mdt-s.ts --latents). Run: npx tsx examples/train-vae.ts (--help lists
 * the flags).
 */

import { runInChild } from '../cli/run-in-child.ts'
import { readTrainingCommand } from '../cli/train-flags.ts'
import { backward, scope } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import { AutoencoderKL, autoencoderLoss } from '../models/index.ts'
import { Ema, optimizerOf, warmUpDecay } from '../nn/index.ts'
import { openRun } from '../training/program.ts'
import { learningRateOf } from '../training/settings.ts'
import { vaeProgram } from '../training/vae.ts'

await runInChild(async () => {
  const command = readTrainingCommand(vaeProgram, 'npx tsx examples/train-vae.ts')
  const { settings, options, data, random, prepare, begin } = await openRun(vaeProgram, command)
  const { batch, emaDecay, klWeight } = settings

  const model = new AutoencoderKL(options, { rng: random.fork('weights') })
  await prepare(model)
  const ema = new Ema(model, new AutoencoderKL(options, { rng: null }), { decay: warmUpDecay(emaDecay) })
  const optimizer = optimizerOf(model.namedParameters(), settings) // AdamW, or the one of --optimizer
  const schedule = learningRateOf(settings, 'from 1')
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const run = begin({ model, ema, optimizer })

  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      ({ images, rng, report }) => {
        const { loss, error, kl } = scope(() => autoencoderLoss(model, images, klWeight, rng))
        backward(loss)
        report({ loss: loss.detach(), error: error.detach(), kl: kl.detach() })
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
