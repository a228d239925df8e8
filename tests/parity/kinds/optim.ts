/**
 * Fixtures of optimizers: parameters p0, p1, … (`in.p<i>`) moved by given gradients (`in.grad<i>`, one row per step);
 * clipped gradients; averages of weights; learning rates. The first part of a key names the optimizer, and the
 * description of its result has its settings.
 */

import {
  Adam,
  AdamW,
  Adan,
  type AdanOptions,
  clipGradNorm,
  constant,
  constantDecay,
  cosine,
  type Decay,
  Ema,
  linearAnneal,
  Module,
  type Optimizer,
  parameter,
  powerDecay,
  rampUp,
  type Schedule,
  Sgd,
  warmUp,
} from '../../../nn/index.ts'
import { describe, dictionary, numberAfter } from '../description.ts'
import { type Fixture, onDevice, type Run } from '../fixture.ts'
import { once, type Results, type Value } from '../kind.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const results: Results = new Map()
  const groups = new Set(fixture.names('out.').map(key => key.slice(0, key.lastIndexOf('.'))))
  for (const group of groups) {
    const found = /^clip[\d.]+$/.test(group)
      ? clipped(fixture, run, group)
      : /^ema[\d.]+$/.test(group)
        ? averaged(fixture, run, group)
        : stepped(fixture, run, group)
    for (const [key, computed] of found) results.set(key, computed)
  }
  for (const [key, computed] of [...emaPackage(fixture, run), ...rates(fixture)]) results.set(key, computed)
  return results
}

/** The fixture's parameters as a module with fields p0, p1, … */
class Parameters extends Module {
  constructor(fixture: Fixture, run: Run) {
    super()
    const names = fixture.names('in.p').filter(i => /^\d+$/.test(i))
    Object.assign(this, Object.fromEntries(names.map(i => [`p${i}`, parameter(fixture.tensor(`in.p${i}`, run))])))
  }
}

// ---- optimizers -----------------------------------------------------------------------------------------------------

/** The optimizer of a group of results, and the norm it clips to; undefined where a setting is unknown. */
function optimizerOf(group: string, text: string, model: Module): [Optimizer, number | undefined] | undefined {
  const { lr, betas, eps, weight_decay, momentum, max_grad_norm, no_prox, ...unknown } = dictionary(text)
  if (Object.keys(unknown).length > 0) return undefined
  const common = Object.fromEntries(Object.entries({ lr, betas, eps }).filter(([, value]) => value !== undefined))
  const maxNorm = max_grad_norm as number | undefined
  const weightDecay = weight_decay as number | undefined
  const parameters = model.namedParameters()
  const family = /^[a-z]+/.exec(group)?.[0]
  if (family === 'adamw') return [new AdamW(parameters, { ...common, weightDecay }), maxNorm]
  if (family === 'adam' && weightDecay === undefined) return [new Adam(parameters, common), maxNorm]
  if (family === 'sgd' && weightDecay === undefined)
    return [new Sgd(parameters, { ...common, momentum: momentum as number | undefined }), maxNorm]
  if (family !== 'adan') return undefined
  const options: AdanOptions = { ...common, weightDecay, decay: no_prox === true ? 'before' : 'after' }
  return [new Adan(parameters, options), maxNorm]
}

/** Every step's parameters and the last one's moments. */
function stepped(fixture: Fixture, run: Run, group: string): Results {
  const keys = fixture.names(`out.${group}.`)
  const results: Results = new Map()
  const model = new Parameters(fixture, run)
  const texts = keys.map(key => describe(fixture, `out.${group}.${key}`))
  const made = optimizerOf(group, texts.find(text => text.includes('{')) ?? '', model)
  if (made === undefined) return results
  const [optimizer, maxNorm] = made
  const walk = once(() => trajectory(fixture, run, model, optimizer, maxNorm))
  for (const key of keys) {
    const [, kind, i, final] = /^(p|exp_avg|exp_avg_sq)(\d+)(_final)?$/.exec(key) ?? []
    if (kind === undefined) continue
    const value = async (): Promise<Value> => {
      const steps = await walk()
      if (kind !== 'p') return optimizer.stateDict().get(`${kind}.p${i}`)!
      return final === undefined ? stacked(steps, Number(i)) : steps.at(-1)![Number(i)]
    }
    results.set(`out.${group}.${key}`, value)
  }
  return results
}

type Step = readonly { readonly data: ArrayLike<number>; readonly shape: readonly number[] }[]

/** The parameters after each step, on the host. */
async function trajectory(
  fixture: Fixture,
  run: Run,
  model: Module,
  optimizer: Optimizer,
  maxNorm: number | undefined,
): Promise<Step[]> {
  const steps: Step[] = []
  for (let step = 0; step < fixture.host('in.grad0').shape[0]; step++) {
    giveGradients(fixture, run, model, step)
    optimizer.step({ maxNorm })
    optimizer.zeroGrad()
    const now: { data: ArrayLike<number>; shape: readonly number[] }[] = []
    for (const p of model.parameters()) now.push({ data: await p.data(), shape: p.shape })
    steps.push(now)
  }
  return steps
}

function giveGradients(fixture: Fixture, run: Run, model: Module, step: number): void {
  for (const [i, p] of model.parameters().entries()) p.grad = onDevice(fixture.hostRow(`in.grad${i}`, step), run)
}

function stacked(steps: readonly Step[], i: number): Value {
  const { shape } = steps[0][i]
  return { data: steps.flatMap(step => Array.from(step[i].data)), shape: [steps.length, ...shape] }
}

/** The first step's gradients, clipped to the norm that the key names; and the norm they had. */
function clipped(fixture: Fixture, run: Run, group: string): Results {
  const limit = group.slice('clip'.length)
  const results: Results = new Map()
  const model = new Parameters(fixture, run)
  const norm = once(() => {
    giveGradients(fixture, run, model, 0)
    return clipGradNorm(model.parameters(), Number(limit))
  })
  for (const [i, p] of model.parameters().entries())
    results.set(`out.${group}.g${i}`, () => {
      norm()
      return p.grad!
    })
  results.set(`scalar.clip_total_norm_${limit}`, norm)
  return results
}

// ---- averages of weights --------------------------------------------------------------------------------------------

/** An average that begins at in.p and follows in.p + in.grad[s]. */
function averaged(fixture: Fixture, run: Run, group: string): Results {
  const decay = constantDecay(Number(group.slice('ema'.length)))
  const walk = once(() => follow(fixture, run, decay, 1, fixture.host('in.grad0').shape[0], () => {}))
  const results: Results = new Map()
  for (const [i] of new Parameters(fixture, run).parameters().entries())
    results.set(`out.${group}.p${i}`, async () => (await walk()).parameters()[i])
  return results
}

/** The average after `updates` updates; the model is, after update u, in.p + scale(u) · in.grad[u mod steps]. */
async function follow(
  fixture: Fixture,
  run: Run,
  decay: Decay,
  scale: number | ((u: number) => number),
  updates: number,
  see: (u: number, average: Module) => void | Promise<void>,
): Promise<Module> {
  const model = new Parameters(fixture, run)
  const ema = new Ema(model, new Parameters(fixture, run), { decay })
  const steps = fixture.host('in.grad0').shape[0]
  for (let u = 0; u < updates; u++) {
    const by = typeof scale === 'number' ? scale : scale(u)
    const at = new Map(model.parameters().map((_, i) => [`p${i}`, shifted(fixture, i, u % steps, by)]))
    model.loadStateDict(at)
    ema.update()
    await see(u, ema.average)
  }
  return ema.average
}

/** in.p<i> + by · in.grad<i>[step] */
function shifted(fixture: Fixture, i: number, step: number, by: number) {
  const { data: start, shape } = fixture.host(`in.p${i}`)
  const { data: change } = fixture.hostRow(`in.grad${i}`, step)
  return { data: Float64Array.from(start, (value, k) => value + by * change[k]), shape }
}

/** MaskDM's average, of the ema_pytorch package. */
function emaPackage(fixture: Fixture, run: Run): Results {
  const results: Results = new Map()
  if (!fixture.has('out.ema_pytorch_w')) return results
  const text = describe(fixture, 'out.ema_pytorch_w')
  const decay = powerDecay(numberAfter(text, 'beta') ?? Number.NaN, numberAfter(text, 'update_after_step'))
  const rate = Number(/\(u\+1\)\*([\d.]+)\*/.exec(text)?.[1])
  const seen = () => Array.from(fixture.host('in.ema_pytorch_idx').data)
  results.set('out.ema_pytorch_w', async () => {
    const updates = seen()
    const rows: number[] = []
    await follow(
      fixture,
      run,
      decay,
      u => (u + 1) * rate,
      Math.max(...updates) + 1,
      async (u, average) => {
        if (updates.includes(u)) rows.push(...(await average.parameters()[0].data()))
      },
    )
    return { data: rows, shape: [updates.length, ...fixture.host('in.p0').shape] }
  })
  results.set('out.ema_pytorch_decay', () => table(seen().map(decay)))
  results.set('out.ema_pytorch_decay_all', () => upTo(fixture, 'out.ema_pytorch_decay_all', decay))
  return results
}

// ---- learning rates -------------------------------------------------------------------------------------------------

function table(values: readonly number[]): Value {
  return { data: values, shape: [values.length] }
}

/** f(0), f(1), … as many as are stored under `key`. */
function upTo(fixture: Fixture, key: string, f: (i: number) => number): Value {
  return table(Array.from({ length: fixture.tensors.get(key)!.shape[0] }, (_, i) => f(i)))
}

function rates(fixture: Fixture): Results {
  const results: Results = new Map()
  for (const name of fixture.names('out.lr_')) {
    const key = `out.lr_${name}`
    const schedule = scheduleOf(name, describe(fixture, key))
    if (schedule !== undefined) results.set(key, (): Value => upTo(fixture, key, schedule))
  }
  return results
}

function scheduleOf(name: string, text: string): Schedule | undefined {
  const one = constant(1)
  if (/^maskdm_warmup\d+$/.test(name)) return warmUp(Number(name.slice('maskdm_warmup'.length)), one)
  const kimg = numberAfter(text, 'lr_rampup_kimg')
  // Without a ramp the batch makes no difference, and the description does not name it.
  if (/^maskdit/.test(name) && kimg !== undefined) return rampUp(numberAfter(text, 'batch') ?? 1, kimg, one)
  const anneal = numberAfter(text, 'lr_anneal_steps')
  // The fixture holds what is set after step s, which is used in step s + 1.
  if (/^mdt_anneal/.test(name) && anneal !== undefined) return step => linearAnneal(1, anneal)(step + 1)
  const steps = numberAfter(text, 'T_max')
  if (/^cosine/.test(name) && steps !== undefined) {
    return cosine(numberAfter(text, 'lr') ?? 1, steps, numberAfter(text, 'eta_min'))
  }
  return undefined
}
