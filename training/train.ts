/**
 * The training loop of every family: model, moving average, optimizer, schedule, and the steps. `demask train` runs it.
 * examples/train-mdt-s.ts spells the same loop out for one paper. Needs Node. What surrounds the loop is run.ts.
 */

import { aFunction, check } from '../core/arguments.ts'
import { backward } from '../core/index.ts'
import { Batches } from '../data/index.ts'
import type { SettingsTable } from '../models/family.ts'
import { Ema, type Module } from '../nn/index.ts'
import { checkProgram } from './arguments.ts'
import { openRun, type TrainingCommand, type TrainingProgram } from './program.ts'
import { learningRateOf } from './settings.ts'

/**
 * Trains a model as its family's record says, or resumes a run; with `openDryRun` the loop is only measured. Throws UserError.
 */
export async function train<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  command: TrainingCommand<Own>,
  open: typeof openRun = openRun,
): Promise<void> {
  checkProgram('train', program, command)
  check('train', 'open', open, aFunction)
  const { family } = program
  const { training } = family
  const { settings, options, data, random, prepare, begin } = await open(program, command)
  const model = family.make(options, { rng: random.fork('weights') })
  await prepare(model)
  const { skipFrozen } = training
  const ema = new Ema(model, family.make(options, { rng: null }), { decay: training.decay(settings), skipFrozen })
  const optimizer = training.optimizer(model.namedParameters(), settings)
  const schedule = learningRateOf(settings, training.lrStep)
  const maxNorm = settings.maxNorm ?? undefined
  const batches = new Batches(data, { batch: settings.batch, rng: random.fork('pictures'), replacement: true })
  const run = begin({ model, ema, optimizer })

  for await (const step of run.steps())
    await run.commit(
      step,
      batches,
      part => {
        for (const pass of training.passes(model, part, settings)) {
          const { loss, terms } = pass()
          backward(loss)
          part.report(terms)
        }
      },
      losses => {
        const update = optimizer.step({ lr: schedule(step), maxNorm, losses })
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
}
