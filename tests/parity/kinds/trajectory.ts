/**
 * Kind `trajectory`: a few optimizer steps of a model from stored draws: loss terms and gradient norm at each step,
 * weights and their moving average after the last one. What is trained, and its loss, is trainee.ts beside this folder.
 */

import { backward, stack, type Tensor } from '../../../core/index.ts'
import {
  AdamW,
  Adan,
  constant,
  constantDecay,
  Ema,
  type Module,
  type Optimizer,
  type Schedule,
  warmUp,
} from '../../../nn/index.ts'
import { describe, numberAfter } from '../description.ts'
import { type Fixture, isObject, type JsonObject, type Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { type Terms, traineeOf } from '../trainee.ts'
import { setCounts } from '../transformer.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const { model, termsAt, another } = traineeOf(fixture, run)
  const results: Results = new Map()
  setCounts(results, model)
  const train = fixture.manifest.train
  if (!isObject(train)) throw new Error(`manifest: expected an object at 'train'`)
  const { steps, clip_grad_norm, max_grad_norm = clip_grad_norm } = train
  const maxNorm = typeof max_grad_norm === 'number' ? max_grad_norm : undefined

  const trained = once(() => {
    const optimizer = optimizerOf(train, model.namedParameters())
    const schedule = scheduleOf(train)
    const ema = another === undefined ? null : emaOf(fixture, model, another())
    const perStep = Array.from({ length: Number(steps) }, (_, step): Terms => {
      const terms = termsAt(step)
      backward(terms.loss)
      const { norm } = optimizer.step({ lr: schedule(step), maxNorm })
      optimizer.zeroGrad()
      ema?.update()
      return { ...terms, grad_norm: norm }
    })
    return { perStep, averaged: ema?.average.stateDict() }
  })
  const names = ['loss', 'mse', 'vb', 'loss_per_sample']
  for (const name of [...names, ...['full', 'mask'].flatMap(pass => names.map(term => `${pass}_${term}`)), 'grad_norm'])
    results.set(`out.${name}`, () => {
      const perStep = trained().perStep.map(terms => terms[name])
      if (perStep.includes(undefined as never)) throw new Error(`this model's loss has no such term`)
      return stack(perStep, 0)
    })
  for (const [name, weights] of model.stateDict())
    results.set(`out.final.${name}`, () => {
      trained()
      return weights
    })
  if (another !== undefined)
    for (const [name, { requiresGrad }] of model.stateDict())
      if (requiresGrad) results.set(`out.ema.${name}`, () => trained().averaged!.get(name)!)
  return results
}

/** The moving average of trained weights, with the decay in the description of its values; null if there are none. */
function emaOf(fixture: Fixture, model: Module, average: Module): Ema<Module> | null {
  const [name] = fixture.names('out.ema.')
  if (name === undefined) return null
  const decay = numberAfter(describe(fixture, `out.ema.${name}`), 'decay')
  if (decay === undefined) throw new Error(`out.ema.${name}: expected its decay in the description, got none`)
  return new Ema(model, average, { decay: constantDecay(decay), skipFrozen: true })
}

/** Throws on a setting that is not known here. */
function optimizerOf(train: JsonObject, parameters: Iterable<[string, Tensor]>): Optimizer {
  const { optimizer, lr, weight_decay: weightDecay, betas, eps, ...rest } = train
  const known = new Set(['steps', 'batch', 'clip_grad_norm', 'max_grad_norm', 'warmup_steps', 'unmasked_from_step'])
  const unknown = Object.keys(rest).filter(name => !known.has(name))
  if (unknown.length > 0) throw new Error(`train: expected settings that are known here, got ${unknown.join(', ')}`)
  const options = { lr, weightDecay, betas, eps } as object
  if (optimizer === 'AdamW') return new AdamW(parameters, options)
  if (optimizer === 'Adan') return new Adan(parameters, options)
  throw new Error(`train: expected optimizer AdamW or Adan, got ${optimizer}`)
}

/** The learning rate at each step. */
function scheduleOf({ lr, warmup_steps }: JsonObject): Schedule {
  return warmUp(Number(warmup_steps ?? 0), constant(Number(lr)))
}
