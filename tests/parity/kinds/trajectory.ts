/**
 * Kind `trajectory`: a few optimizer steps of a DiT or an MDT from stored draws: loss terms and gradient norm at each
 * step, weights after the last one.
 */

import { backward, mean, stack, type Tensor } from '../../../core/index.ts'
import { trainingLoss } from '../../../diffusion/losses.ts'
import { DiT } from '../../../models/dit.ts'
import { mdtLoss } from '../../../models/mdt-loss.ts'
import { AdamW, Adan, dropLabels, type Optimizer } from '../../../nn/index.ts'
import { type Fixture, isObject, type JsonObject, type Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { storedPasses } from '../mdt.ts'
import { diffusionOf, setCounts } from '../transformer.ts'
import { transformerOf } from '../transformer-of.ts'

/** What a step leaves behind, by the names of the fixture: scalars and (N). */
type Terms = Record<string, Tensor>

export function compute(fixture: Fixture, run: Run): Results {
  const model = transformerOf(fixture, run)
  const results: Results = new Map()
  setCounts(results, model)
  const train = fixture.manifest.train
  if (!isObject(train)) throw new Error(`manifest: wanted an object at 'train'`)
  const { steps, clip_grad_norm, max_grad_norm = clip_grad_norm } = train
  const maxNorm = typeof max_grad_norm === 'number' ? max_grad_norm : undefined

  const trained = once(() => {
    const optimizer = optimizerOf(train, model.namedParameters())
    return Array.from({ length: Number(steps) }, (_, step) => {
      const terms = termsOf(fixture, run, model, step)
      backward(terms.loss)
      const { norm } = optimizer.step({ maxNorm })
      optimizer.zeroGrad()
      return { ...terms, grad_norm: norm }
    })
  })
  const names = ['loss', 'mse', 'vb', 'loss_per_sample']
  for (const name of [...names, ...['full', 'mask'].flatMap(pass => names.map(term => `${pass}_${term}`)), 'grad_norm'])
    results.set(`out.${name}`, () => {
      const perStep = trained().map((terms: Terms) => terms[name])
      if (perStep.includes(undefined as never)) throw new Error(`this model's loss has no such term`)
      return stack(perStep, 0)
    })
  for (const [name, weights] of model.stateDict())
    results.set(`out.final.${name}`, () => {
      trained()
      return weights
    })
  return results
}

/** Throws on a setting that is not known here. */
function optimizerOf(train: JsonObject, parameters: Iterable<[string, Tensor]>): Optimizer {
  const { optimizer, lr, weight_decay: weightDecay, betas, eps, ...rest } = train
  const known = new Set(['steps', 'batch', 'clip_grad_norm', 'max_grad_norm'])
  const unknown = Object.keys(rest).filter(name => !known.has(name))
  if (unknown.length > 0) throw new Error(`train: wanted settings that are known here, got ${unknown.join(', ')}`)
  const options = { lr, weightDecay, betas, eps } as object
  if (optimizer === 'AdamW') return new AdamW(parameters, options)
  if (optimizer === 'Adan') return new Adan(parameters, options)
  throw new Error(`train: wanted optimizer AdamW or Adan, got ${optimizer}`)
}

/** The loss of one step, and its terms. */
function termsOf(fixture: Fixture, run: Run, model: ReturnType<typeof transformerOf>, step: number): Terms {
  const { diffusion, options } = diffusionOf(fixture)
  const read = (name: string) => (fixture.has(`in.${name}`) ? fixture.hostRow(`in.${name}`, step) : null)
  const x0 = fixture.row('in.x0', step, run)
  const t = fixture.hostRow('in.t', step).data
  if (!(model instanceof DiT)) {
    const weighting = options ?? { weighting: model.weighting }
    const { full, masked, loss } = mdtLoss(model, diffusion, x0, t, storedPasses(model, run, read), weighting)
    return { ...termsNamed('full_', full), ...termsNamed('mask_', masked), loss }
  }
  const { numClasses, classDropoutProb = 0.1 } = model.options
  const [y, u] = [read('y')?.data ?? null, read('drop_u')?.data ?? null]
  const labels = y === null || u === null ? y : dropLabels(y, u, classDropoutProb, numClasses)
  const noise = fixture.row('in.noise', step, run)
  const terms = trainingLoss(diffusion, (x, time) => model.forward(x, time, labels), x0, t, noise, options)
  const { loss: perSample, ...rest } = termsNamed('', terms)
  return { ...rest, loss_per_sample: perSample, loss: mean(perSample) }
}

function termsNamed(prefix: string, { mse, vb, loss }: { mse: Tensor; vb: Tensor | null; loss: Tensor }): Terms {
  return { [`${prefix}mse`]: mse, ...(vb === null ? {} : { [`${prefix}vb`]: vb }), [`${prefix}loss`]: loss }
}
