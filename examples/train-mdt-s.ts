/**
 * Trains MDT, the masked diffusion transformer [MDT §3], on pictures. A step has two passes, one over the full picture and
 * one with some of its patches removed; in both the model learns to tell noise from picture. The same seed gives the same
 * bytes. Run: npx tsx examples/train-mdt-s.ts (--help lists the flags). The loss curve and samples appear in the run's
 * folder, Ctrl-C saves, --resume continues. What surrounds the loop is training/run.ts.
 */

import { runInChild } from '../cli/run-in-child.ts'
import { readTrainingCommand } from '../cli/train-flags.ts'
import { backward } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import { MDT, mdt, mdtPasses, timestepDiffusion } from '../models/index.ts'
import { Ema, optimizerOf, warmUpDecay } from '../nn/index.ts'
import { openRun } from '../training/program.ts'
import { mdtProgram } from '../training/programs.ts'
import { learningRateOf } from '../training/settings.ts'

/** The paper's model and none of its ablations; MDT-S/2, unless --preset says another. */
const program = {
  ...mdtProgram,
  family: { ...mdt, defaultPreset: () => 'S/2', without: ['ablation'] },
  examples: [
    ['', 'MDT-S/2 on smileys: coloured discs after 150 steps, within 10 minutes on 2 cores'],
    ['--preset tiny', 'a small model: faces in minutes'],
    ['--preset tiny --resume --steps 20000', 'continue a run, for longer'],
    ['--data my-pictures --size 32 --preset S/4 --minutes 60', 'pictures of your own, for an hour'],
  ],
} as const

await runInChild(async () => {
  const command = readTrainingCommand(program, 'npx tsx examples/train-mdt-s.ts')
  const { settings, options, data, random, prepare, begin } = await openRun(program, command)
  const { batch, emaDecay } = settings

  const model = new MDT(options, { rng: random.fork('weights') })
  await prepare(model) // --init and --freeze
  const ema = new Ema(model, new MDT(options, { rng: null }), { decay: warmUpDecay(emaDecay) })
  const optimizer = optimizerOf(model.namedParameters(), settings) // AdamW, or the one of --optimizer
  const schedule = learningRateOf(settings, 'from 1')
  const diffusion = timestepDiffusion(options) // 1000 timesteps, linear schedule
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const run = begin({ model, ema, optimizer })

  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      // Images, labels and random numbers of one part of the batch; the whole batch unless --parts splits it.
      part => {
        for (const pass of mdtPasses(model, diffusion, part, settings)) {
          const { loss, terms } = pass() // the full picture, then the masked one
          backward(loss) // frees the pass: when the second one begins, nothing of the first is left but gradients
          part.report(terms)
        }
      },
      losses => {
        const maxNorm = settings.maxNorm ?? undefined
        const update = optimizer.step({ lr: schedule(step), maxNorm, losses }) // nothing if a loss is not finite
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  }
})
