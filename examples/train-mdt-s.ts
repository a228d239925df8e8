/**
 * Trains MDT, the masked diffusion transformer [MDT §3], on pictures. A step has two passes, one over the full picture and
 * one with some of its patches removed; in both the model learns to tell noise from picture. The same seed gives the same
 * bytes. Run: npx tsx examples/train-mdt-s.ts (--help lists the flags). The loss curve and samples appear in the run's
 * folder, Ctrl-C saves, --resume continues. What surrounds the loop is training/run.ts. Next: models/mdt.ts.
 */

import { runInChild } from '../cli/run-in-child.ts'
import { readTrainingCommand } from '../cli/train-flags.ts'
import { backward } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import { gaussianDiffusion, linearBetas } from '../diffusion/index.ts'
import { MDT, mdtPasses } from '../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../nn/index.ts'
import { openRun } from '../training/program.ts'
import { mdtProgram } from '../training/programs.ts'

await runInChild(async () => {
  const command = readTrainingCommand(mdtProgram, 'npx tsx examples/train-mdt-s.ts')
  const { settings, options, data, random, prepare, begin } = await openRun(mdtProgram, command)
  const { batch, lr, warmUpSteps, emaDecay } = settings

  const model = new MDT(options, { rng: random.fork('weights') })
  await prepare(model) // --init and --freeze
  const ema = new Ema(model, new MDT(options, { rng: null }), { decay: warmUpDecay(emaDecay) })
  const optimizer = new AdamW(model.namedParameters(), settings)
  const schedule = warmUp(warmUpSteps, constant(lr))
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const flip = settings.flip && data.flips
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true, flip })
  const run = begin({ model, ema, optimizer })

  for await (const step of run.steps()) {
    await run.commit(
      step,
      batches,
      // Images, labels and random numbers of one part of the batch; the whole batch unless --parts splits it.
      part => {
        for (const pass of mdtPasses(model, diffusion, part)) {
          const { loss, terms } = pass() // the full picture, then the masked one
          backward(loss) // frees the pass: when the second one begins, nothing of the first is left but gradients
          part.report(terms)
        }
      },
      losses => {
        const maxNorm = settings.maxNorm ?? undefined
        const update = optimizer.step({ lr: schedule(step + 1), maxNorm, losses }) // nothing if a loss is not finite
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  }
})
