/**
 * Kind `schedules`: diffusion/ without a network. Tables by schedule; respaced tables; every function of a diffusion on a
 * stored network output, over all timesteps (`full`) or respaced ones (`r25`); EDM's levels and coefficients. Numbers in
 * a key are parameters. Needs Node.
 */

import { broadcastTo, slice, type Tensor } from '../../../core/index.ts'
import {
  cosineBetas,
  ddimReverseStep,
  ddimStep,
  ddpmStep,
  type GaussianDiffusion,
  gaussianDiffusion,
  hybridLoss,
  type LossOptions,
  type LossTerms,
  linearBetas,
  lossWeight,
  minSnrWeight,
  pMeanVariance,
  preconditioning,
  priorTerm,
  qSample,
  respace,
  type Schedule,
  scheduleOf,
  shiftedCosineBetas,
  sigmaSteps,
  spaceTimesteps,
  vlbTerms,
} from '../../../diffusion/index.ts'
import { describe, numberAfter, spacingIn } from '../description.ts'
import type { Fixture, Run } from '../fixture.ts'
import type { Computed, Results, Value } from '../kind.ts'

/** A rule for keys of one form: what computes the value, or nothing where a name in the key is unknown. */
type Rule = readonly [form: RegExp, compute: (...parts: string[]) => Computed | undefined]

export function compute(fixture: Fixture, run: Run): Results {
  const { T } = fixture.config
  if (typeof T !== 'number') throw new Error(`schedules: config.T: expected a number, got ${JSON.stringify(T)}`)
  const rules = [
    ...tableRules(fixture, T),
    ...stepRules(fixture, run, T),
    ...lossRules(fixture, run, T),
    ...edmRules(fixture),
  ]
  const results: Results = new Map()
  for (const name of fixture.names('out.')) {
    const key = `out.${name.replace(/_f32(cast)?$/, '')}`
    for (const [form, rule] of rules) {
      const found = form.exec(key)
      const computed = found === null ? undefined : rule(...found.slice(1))
      if (computed !== undefined) results.set(key, computed)
    }
  }
  return results
}

function list(data: ArrayLike<number>): Value {
  return { data, shape: [data.length] }
}

/** The official names of a schedule's tables. */
const tables: Record<string, (s: Schedule) => Float64Array> = {
  betas: s => s.betas,
  alphas_cumprod: s => s.alphaBar,
  posterior_variance: s => s.posteriorVariance,
  posterior_log_variance_clipped: s => s.posteriorLogVariance,
  posterior_mean_coef1: s => s.posteriorMeanX0,
  posterior_mean_coef2: s => s.posteriorMeanXt,
}

function tableRules(fixture: Fixture, T: number): Rule[] {
  const schedules: Record<string, () => Schedule> = {
    linear: () => scheduleOf(linearBetas(T)),
    squaredcos_cap_v2: () => scheduleOf(cosineBetas(T)),
    maskdm_linear: () => scheduleOf(linearBetas(T), 1e-20),
    maskdm_cosine: () => scheduleOf(cosineBetas(T), 1e-20),
  }
  return [
    [
      /^out\.(\w+)\.(\w+)$/,
      (schedule, table) =>
        schedule in schedules && table in tables ? () => list(tables[table](schedules[schedule]())) : undefined,
    ],
    [
      /^out\.(maskdm_cosine_shift(\d+)\.(\w+))$/,
      (name, size, table) =>
        table in tables ? () => list(tables[table](shiftedCosine(fixture, `out.${name}`, T, Number(size)))) : undefined,
    ],
    [
      /^out\.respace_(\w+)\.(\w+)$/,
      (spacing, table) => {
        const d = () => spaced(linear(T), spacing)
        if (table === 'timestep_map') return () => list(d().timesteps)
        return table in tables ? () => list(tables[table](d())) : undefined
      },
    ],
  ]
}

/** As long as the stored table, for pictures of the size that its description tells (`d=128`), else that in the key. */
function shiftedCosine(fixture: Fixture, key: string, T: number, size: number): Schedule {
  const steps = fixture.tensors.get(key)?.shape[0] ?? T
  return scheduleOf(shiftedCosineBetas(steps, numberAfter(describe(fixture, key), 'd') ?? size), 1e-20)
}

function linear(T: number): GaussianDiffusion {
  return gaussianDiffusion({ betas: linearBetas(T) })
}

/** `spacing` as keys spell it: 25, ddim50, 10_15_20; 'full' for all timesteps. */
function spaced(d: GaussianDiffusion, spacing: string): GaussianDiffusion {
  return spacing === 'full' ? d : respace(d, spaceTimesteps(d.steps, spacing.replaceAll('_', ',')))
}

const pmvNames: Record<string, 'mean' | 'variance' | 'logVariance' | 'predXStart'> = {
  mean: 'mean',
  variance: 'variance',
  log_variance: 'logVariance',
  pred_xstart: 'predXStart',
}

function stepRules(fixture: Fixture, run: Run, T: number): Rule[] {
  const input = (name: string) => fixture.tensor(`in.${name}`, run)
  const network = () => input('model_output')
  /** A rule for `out.full.…` and `out.r25.…`: f is given the diffusion, the stored steps and what follows in the key. */
  const at = (rest: string, f: (d: GaussianDiffusion, t: ArrayLike<number>, ...parts: string[]) => Value): Rule => [
    new RegExp(`^out\\.(?:(full)|r([a-z]*[\\d_]+))\\.${rest}$`),
    (full, spacing, ...parts) => {
      const t = `in.${full ?? `r${spacing}`}.t`
      return fixture.has(t) ? () => f(spaced(linear(T), full ?? spacing), fixture.host(t).data, ...parts) : undefined
    },
  ]
  const bound = (d: GaussianDiffusion, t: ArrayLike<number>, clip: boolean) => {
    const x0 = input('x0')
    return vlbTerms(d, network(), x0, qSample(d, x0, t, input('noise')), t, { clip })
  }
  const ddim = (d: GaussianDiffusion, t: ArrayLike<number>, clip: string | undefined, eta: string) =>
    ddimStep(d, network, input('xt'), t, input('sample_noise'), { eta: Number(eta), clip: clip !== undefined }).x
  return [
    at('q_sample', (d, t) => qSample(d, input('x0'), t, input('noise'))),
    at('pmv_(clip|noclip)_(mean|variance|log_variance|pred_xstart)', (d, t, clip, name) =>
      like(input('xt'), pMeanVariance(d, network(), input('xt'), t, { clip: clip === 'clip' })[pmvNames[name]]),
    ),
    at(
      'p_sample(_clip)?',
      (d, t, clip) => ddpmStep(d, network, input('xt'), t, input('sample_noise'), { clip: clip !== undefined }).x,
    ),
    at('ddim(_clip)?_eta(\\d+(?:\\.\\d+)?)', ddim),
    at(
      'ddim_reverse(_clip)?',
      (d, t, clip) => ddimReverseStep(d, network, input('xt'), t, { clip: clip !== undefined }).x,
    ),
    at('vb(_clip)?', (d, t, clip) => bound(d, t, clip !== undefined)),
    at('prior_bpd', d => priorTerm(d, input('x0'))),
    [
      /^out\.fixed(small|large)_(eps|xstart)\.(mean|variance|log_variance|pred_xstart)$/,
      (size, predicts, name) => () => {
        const d = gaussianDiffusion({
          betas: linearBetas(T),
          variance: size === 'small' ? 'fixedSmall' : 'fixedLarge',
          prediction: predicts === 'eps' ? 'epsilon' : 'xStart',
        })
        const xt = input('xt')
        const output = slice(network(), 1, 0, xt.shape[1]) // (N, C, …)
        return like(xt, pMeanVariance(d, output, xt, fixture.host('in.full.t').data, { clip: true })[pmvNames[name]])
      },
    ],
  ]
}

/** A variance that is the same for all of a sample, (N, 1, …, 1), in the shape of x. */
function like(x: Tensor, value: Tensor): Tensor {
  return broadcastTo(value, x.shape)
}

function lossRules(fixture: Fixture, run: Run, T: number): Rule[] {
  const losses = (d: GaussianDiffusion, steps: string, options: LossOptions) => {
    const t = fixture.host(`in.${steps}`).data
    const [x0, noise] = [fixture.tensor('in.x0', run), fixture.tensor('in.noise', run)]
    const output = fixture.tensor('in.model_output', run)
    return hybridLoss(d, output, { x0, xt: qSample(d, x0, t, noise), noise, t }, options)
  }
  const variants: Record<string, () => LossTerms> = {
    dit: () => losses(linear(T), 'losses_t', {}),
    mdtv2: () => losses(linear(T), 'losses_t', { weighting: 'min-snr-5' }),
    rescaled: () => losses(spaced(linear(T), rescaledSpacing(fixture)), 'rescaled_t', { rescaleVb: true }),
  }
  return [
    [
      /^out\.training_losses_([a-z0-9]+)_(vb|mse|loss)$/,
      (variant, term) => (variant in variants ? () => variants[variant]()[term as 'vb' | 'mse' | 'loss']! : undefined),
    ],
    [
      /^out\.minsnr(\d+(?:\.\d+)?)_weight_(eps|xstart)$/,
      (gamma, predicts) => () => {
        const d = gaussianDiffusion({ betas: linearBetas(T), prediction: predicts === 'eps' ? 'epsilon' : 'xStart' })
        return list(Float64Array.from(fixture.host('in.snr_t').data, t => minSnrWeight(d, t, Number(gamma))))
      },
    ],
  ]
}

/**
 * Which timesteps the rescaled loss is over: no key says, but its description does ("(T=1000: 25)"); without one it is
 * the respacing that the fixture's steps are for, if there is only one.
 */
function rescaledSpacing(fixture: Fixture): string {
  const key = 'out.training_losses_rescaled_vb'
  const told = spacingIn(fixture, key) ?? /\(T=\d+: ([\w,]+)\)/.exec(describe(fixture, key))?.[1]
  if (told !== undefined) return told
  const spacings = fixture.names('in.r').flatMap(name => /^([a-z]*[\d_]+)\.t$/.exec(name)?.[1] ?? [])
  if (spacings.length !== 1)
    throw new Error(`rescaled losses: expected one respacing 'in.r….t', got ${spacings.length}`)
  return spacings[0]
}

function edmRules(fixture: Fixture): Rule[] {
  const { sigma_data: stated } = fixture.config
  const sigmaData = typeof stated === 'number' ? stated : 0.5
  const coefficients: Record<string, (sigma: number) => number> = {
    c_skip: sigma => preconditioning(sigma, sigmaData).skip,
    c_out: sigma => preconditioning(sigma, sigmaData).out,
    c_in: sigma => preconditioning(sigma, sigmaData).in,
    c_noise: sigma => preconditioning(sigma, sigmaData).noise,
    loss_weight: sigma => lossWeight(sigma, sigmaData),
  }
  return [
    [/^out\.edm_sigmas_(\d+)$/, steps => () => list(sigmaSteps(Number(steps)))],
    [
      /^out\.edm_(\w+)$/,
      name =>
        name in coefficients
          ? () => list(Float64Array.from(fixture.host('in.edm_sigma').data, coefficients[name]))
          : undefined,
    ],
  ]
}
