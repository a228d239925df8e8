/**
 * Kind `maskdit`: the raw network and the preconditioned one, masked and not, guidance, EDM's loss with both its terms
 * and its gradient, sampling over noise levels, and the schedules of the mask ratio.
 */

import { add, gradients, mean, mul, stack, type Tensor } from '../../../core/index.ts'
import { type Denoiser, type Preconditioning, preconditioning, sigmaSteps } from '../../../diffusion/edm.ts'
import { type Churn, eulerSample, heunSample } from '../../../diffusion/edm-samplers.ts'
import { tokenMask } from '../../../diffusion/masking.ts'
import { scaled } from '../../../diffusion/per-sample.ts'
import { oneHot, type PreconditionedMaskDiT } from '../../../models/maskdit.ts'
import {
  type MaskRatioName,
  maskDiTLoss,
  maskedReconstruction,
  maskRatioSchedule,
} from '../../../models/maskdit-loss.ts'
import { gradNorm, timestepEmbedding } from '../../../nn/index.ts'
import { describe, numberAfter } from '../description.ts'
import type { Fixture, Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { labelsOf, maskDiTOf, storedDraws } from '../maskdit.ts'
import { meanOf, setCounts } from '../transformer.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const net = maskDiTOf(fixture, run)
  const results: Results = new Map()
  setCounts(results, net)
  setForward(results, fixture, run, net)
  setLoss(results, fixture, run, net)
  setSampling(results, fixture, run, net)
  setRatios(results, fixture)
  return results
}

/** Labels of `in.labels`, with which `in.y` must agree; null without classes. */
function labelsIn(fixture: Fixture): Int32Array | null {
  if (!fixture.has('in.labels')) return fixture.has('in.y') ? Int32Array.from(fixture.host('in.y').data) : null
  const { shape } = fixture.host('in.labels')
  const labels = labelsOf(fixture.host('in.labels'))
  const ids = fixture.has('in.y') ? fixture.host('in.y').data : labels
  const differ = labels.findIndex((label, n) => label !== shape[1] && label !== ids[n])
  if (differ >= 0) throw new Error(`in.labels: expected the rows of in.y, got label ${labels[differ]} in row ${differ}`)
  return labels
}

function setForward(results: Results, fixture: Fixture, run: Run, net: PreconditionedMaskDiT): void {
  const { model } = net
  const x = once(() => fixture.tensor('in.x', run))
  const sigma = once(() => Float64Array.from(fixture.host('in.sigma').data))
  const c = (of: keyof Preconditioning) => sigma().map(s => preconditioning(s, net.sigmaData)[of])
  const y = once(() => labelsIn(fixture))
  const mask = once(() => {
    const { data, shape } = fixture.host('in.mask_noise')
    return tokenMask(data, [shape[0], shape[1]], fixture.setting('mask_ratio'), { backend: run.backend })
  })
  results.set('out.mask', () => mask().mask)
  results.set('out.ids_keep', () => mask().idsKeep)
  results.set('out.ids_restore', () => mask().idsRestore)
  for (const name of ['skip', 'out', 'in', 'noise'] as const)
    results.set(`out.c_${name}`, () => ({ data: c(name), shape: [sigma().length] }))
  const { frequencies } = model.t_embedder
  results.set('out.t_freq', () => ({
    data: timestepEmbedding(c('noise'), frequencies),
    shape: [sigma().length, frequencies],
  }))
  results.set('out.encode', () => model.features(x(), c('noise'), y()))
  results.set('out.F_unmasked', () => model.forward(x(), c('noise'), y()))
  // Official code in eval mode takes a mask and removes nothing: that is a call without one.
  results.set('out.F_eval_mask', () => model.forward(x(), c('noise'), y()))
  results.set('out.F_masked', () => model.forward(x(), c('noise'), y(), mask()))
  results.set('out.D', () => net.forward(x(), sigma(), y()))
  results.set('out.D_masked', () => net.forward(x(), sigma(), y(), mask()))
  results.set('out.D_nolabel', () => net.forward(x(), sigma(), null))
  results.set('out.D_cfg', () =>
    net.denoiser(y(), fixture.setting('cfg_scale'))(
      x(),
      sigma().map(() => sigma()[0]),
    ),
  )
}

/** The loss of a masked and of an unmasked step from the same draws. */
function setLoss(results: Results, fixture: Fixture, run: Run, net: PreconditionedMaskDiT): void {
  const { numClasses, patchSize, maeLossCoef = 0.1 } = net.model.options
  const trained = [...net.namedParameters()].filter(([, p]) => p.requiresGrad)
  const read = (name: string) => (fixture.has(`in.loss_${name}`) ? fixture.host(`in.loss_${name}`) : null)
  const images = once(() => fixture.tensor('in.loss_images', run))
  const draws = (ratio: () => number) => once(() => storedDraws(net, run, read, labelsIn(fixture), ratio()))
  const drawn = { masked: draws(() => fixture.setting('mask_ratio')), unmasked: draws(() => 0) }
  for (const name of ['masked', 'unmasked'] as const) {
    const terms = once(() => maskDiTLoss(net, images(), drawn[name]()))
    const gradient = once(() =>
      gradients(
        mean(terms().loss),
        trained.map(([, p]) => p),
      ),
    )
    results.set(`out.loss_${name}`, () => terms().loss)
    results.set(`out.loss_${name}_dsm`, () => terms().dsm)
    results.set(`scalar.loss_${name}_mean`, () => meanOf(terms().loss))
    results.set(`scalar.grad_norm_${name}`, () => gradNorm(gradient()))
    for (const [i, [parameter]] of trained.entries()) results.set(`grad.${name}.${parameter}`, () => gradient()[i])
  }
  results.set('out.loss_mae', () => {
    const { sigma, noise, labels, mask } = drawn.masked()
    // The official code does not compute the term then, and reports 0.
    if (maeLossCoef === 0) return { data: new Float64Array(sigma.length), shape: [sigma.length] }
    const noised = add(
      images(),
      scaled(noise, sigma, s => s),
    )
    return maskedReconstruction(net.forward(noised, sigma, labels, mask), noised, mask!, patchSize)
  })
  results.set('out.loss_sigma', () => ({ data: drawn.masked().sigma, shape: [images().shape[0], 1, 1, 1] }))
  results.set('out.loss_labels', () => ({
    data: oneHot(drawn.masked().labels ?? [], numClasses),
    shape: [images().shape[0], numClasses],
  }))
}

/** Loops over noise levels: `heun` or `euler`, with `cfg`, `churn` or neither, as the names of the results say. */
function setSampling(results: Results, fixture: Fixture, run: Run, net: PreconditionedMaskDiT): void {
  const y = once(() => labelsIn(fixture))
  const sigmas = (name: string) => {
    const found = (label: string) => setting(fixture, name, label)
    const steps = found('num_steps') ?? (fixture.tensors.get('out.t_steps')?.shape[0] ?? 0) - 1
    return sigmaSteps(steps, { sigmaMin: found('sigma_min'), sigmaMax: found('sigma_max'), rho: found('rho') })
  }
  results.set('out.t_steps', () => {
    const levels = sigmas('heun')
    return { data: levels, shape: [levels.length] }
  })
  for (const key of fixture.names('out.').filter(name => /^(heun|euler)(_cfg|_churn)*_final$/.test(name))) {
    const name = key.slice(0, -'_final'.length)
    const loop = once(() => {
      const seen: { readonly x: Tensor; readonly sigma: number }[] = []
      const scale = name.includes('_cfg') ? fixture.setting('cfg_scale') : undefined
      const denoiser = net.denoiser(y(), scale)
      const watched: Denoiser = (x, sigma) => {
        seen.push({ x: x.detach().persist(), sigma: sigma[0] })
        return denoiser(x, sigma)
      }
      const levels = sigmas(name)
      const start = mul(fixture.tensor('in.latents', run), levels[0])
      const sample = name.startsWith('heun') ? heunSample : eulerSample
      return { x: sample(watched, start, levels, name.includes('_churn') ? churnOf(fixture, run, name) : {}), seen }
    })
    results.set(`out.${name}_final`, () => loop().x)
    results.set(`out.${name}_sigmas`, () => {
      const { seen } = loop()
      return { data: seen.map(({ sigma }) => sigma), shape: [seen.length] }
    })
    results.set(`out.${name}_inputs`, () =>
      stack(
        loop().seen.map(({ x }) => x),
        0,
      ),
    )
  }
}

/** A setting of a loop, from the words that describe it or else those on plain Heun. */
function setting(fixture: Fixture, name: string, label: string): number | undefined {
  const own = numberAfter(describe(fixture, `out.${name}_final`), label)
  return own ?? numberAfter(describe(fixture, 'out.heun_final'), label)
}

function churnOf(fixture: Fixture, run: Run, name: string): Churn {
  const found = (label: string) => setting(fixture, name, label)
  return {
    churn: found('S_churn'),
    churnMin: found('S_min'),
    churnMax: found('S_max'),
    churnNoise: found('S_noise'),
    noise: step => fixture.row('in.churn_noise', step, run),
  }
}

/** Each schedule that the fixture names, at the stored shares of progress. */
function setRatios(results: Results, fixture: Fixture): void {
  for (const name of fixture.names('out.ratio_')) {
    const key = `out.ratio_${name}`
    const text = describe(fixture, key)
    const options = { ratio: numberAfter(text, 'ratio_scale'), least: numberAfter(text, 'ratio_min') }
    results.set(key, () => {
      const { data, shape } = fixture.host('in.ratio_x')
      return { data: Float64Array.from(data, maskRatioSchedule(name as MaskRatioName, options)), shape }
    })
  }
}
