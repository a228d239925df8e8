/**
 * Kind `maskdm`: forward pass, full and under patch, block and crop masks; the loss under each mask and without one, its
 * gradient and the gradient's norm; DDIM loops, every x that the network is given; the schedule's tables. Masks are also
 * made again from their draws, and the number of visible patches from the generator's settings.
 */

import { affine, gradients, stack, type Tensor, zeros } from '../../../core/index.ts'
import { cropFlags, keptPatches, type Masking, maskOfFlags, spreadBlocks } from '../../../diffusion/block-masks.ts'
import { type GaussianDiffusion, qSample } from '../../../diffusion/gaussian.ts'
import type { TokenMask } from '../../../diffusion/masking.ts'
import { maskdmTimesteps } from '../../../diffusion/respace.ts'
import { gridOf } from '../../../models/dit.ts'
import type { MaskedUViT } from '../../../models/maskdm.ts'
import { maskdmSample, maskdmSteps } from '../../../models/maskdm-diffusion.ts'
import { type Grid, timestepEmbedding } from '../../../nn/index.ts'
import { describe } from '../description.ts'
import type { Fixture, Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { maskdmDiffusionOf, maskdmLoss, maskdmOf, storedMask } from '../maskdm.ts'
import { labels, setCounts } from '../transformer.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const model = maskdmOf(fixture, run)
  const diffusion = maskdmDiffusionOf(fixture)
  const results: Results = new Map()
  setCounts(results, model)
  const x = once(() => fixture.tensor('in.x', run))
  const t = once(() => fixture.host('in.t').data)
  const y = once(() => labels(fixture, 'in.y'))
  results.set('out.time_embed', () => {
    const D = model.options.hiddenSize
    return { data: timestepEmbedding(t(), D), shape: [t().length, D] }
  })
  results.set('out.forward', () => model.forward(x(), t(), y()))
  results.set('out.forward_uncond', () => model.forward(x(), t(), null))

  const images = once(() => fixture.tensor('in.loss_img', run))
  const noise = once(() => fixture.tensor('in.loss_noise', run))
  results.set('out.xt', () => qSample(diffusion, affine(images(), 2, -1), t(), noise()))
  const lossUnder = (mask: () => TokenMask | null) => () =>
    maskdmLoss(fixture, model, diffusion, { images: images(), t: t(), noise: noise(), labels: y(), mask: mask() })
  setLoss(
    results,
    'unmasked',
    model,
    lossUnder(() => null),
  )
  for (const name of fixture.names('in.mask_')) {
    const mask = once(() => maskOf(fixture, run, model, name))
    results.set(`out.num_visible_${name}`, () => visibleBySettings(fixture, name, gridOf(model.options)) ?? mask().kept)
    results.set(`out.forward_${name}`, () => model.patches(x(), t(), y(), mask()))
    setLoss(results, name, model, lossUnder(mask))
  }
  setSampling(results, fixture, run, model, diffusion)
  setTables(results, fixture, diffusion)
  return results
}

/** The loss of that name, its gradient and the gradient's norm. */
function setLoss(results: Results, name: string, model: MaskedUViT, loss: () => Tensor): void {
  const parameters = [...model.namedParameters()].filter(([, p]) => p.requiresGrad)
  const found = once(() =>
    gradients(
      loss(),
      parameters.map(([, p]) => p),
    ),
  )
  results.set(`scalar.loss_${name}`, loss)
  results.set(`scalar.grad_norm_${name}`, async () => {
    let squares = 0
    for (const g of found()) for (const value of await g.data()) squares += value * value
    return Math.sqrt(squares)
  })
  for (const [i, [parameter]] of parameters.entries()) results.set(`grad.${name}.${parameter}`, () => found()[i])
}

/** The stored mask. Throws where it is not the one that its stored draw makes. */
function maskOf(fixture: Fixture, run: Run, model: MaskedUViT, name: string): TokenMask {
  const stored = storedMask(fixture.host(`in.mask_${name}`), model, run)
  const drawn = flagsOf(fixture, name, stored, gridOf(model.options))
  if (drawn === null) return stored
  const [N, T] = stored.mask.shape
  const made = maskOfFlags(drawn, [N, T], run)
  if (made.hostIdsKeep.join() !== stored.hostIdsKeep.join())
    throw new Error(`in.mask_${name}: its draw makes another mask than the one that is stored`)
  return made
}

/** The flags of tokens that a stored draw stands for; null where none is stored. */
function flagsOf(fixture: Fixture, name: string, { mask, kept }: TokenMask, grid: Grid): Int32Array | null {
  const [N] = mask.shape
  if (fixture.has(`in.block_flags_${name}`)) {
    const size = Number(/\d+$/.exec(name)?.[0] ?? settingsOf(fixture, name)?.at(-1))
    return spreadBlocks(fixture.host(`in.block_flags_${name}`).data, N, grid, size)
  }
  if (fixture.has(`in.crop_topleft_${name}`))
    return cropFlags(fixture.host(`in.crop_topleft_${name}`).data, N, grid, Math.sqrt(kept))
  return null
}

/** Arguments of the official generator, from the mask's description: `block generator args (0.5, 2) on …`. */
function settingsOf(fixture: Fixture, name: string): [way: string, ...args: number[]] | null {
  const words = /(\w+) generator args \(?([\d., ]+)\)?/.exec(describe(fixture, `in.mask_${name}`))
  return words && [words[1], ...words[2].split(',').map(Number)]
}

/** Number of patches that our arithmetic keeps with the same settings; null if the description has none. */
function visibleBySettings(fixture: Fixture, name: string, grid: Grid): number | null {
  const [way, first, second] = settingsOf(fixture, name) ?? []
  const ways: Record<string, Masking> = {
    patch: { way: 'patch', ratio: Number(first) },
    block: { way: 'block', ratio: Number(first), size: Number(second) },
    crop: { way: 'crop', size: Number(first) },
  }
  return way !== undefined && Object.hasOwn(ways, way) ? keptPatches(ways[way], grid) : null
}

/** DDIM at every η that the fixture names, never with labels: what the network was given, and the pictures. */
function setSampling(
  results: Results,
  fixture: Fixture,
  run: Run,
  model: MaskedUViT,
  diffusion: GaussianDiffusion,
): void {
  const steps = fixture.tensors.get('out.ddim_times')?.shape[0] ?? 0
  results.set('out.ddim_times', () => ({
    data: maskdmTimesteps(diffusion.steps, steps).reverse(),
    shape: [steps],
  }))
  const names = fixture.names('out.ddim_eta').map(name => name.split('_')[0])
  for (const eta of new Set(names)) {
    const xT = once(() => fixture.tensor('in.latents', run))
    // The official loop draws none for the last step, where its factor is 0.
    const noise = (step: number) =>
      step < steps - 1 ? fixture.row('in.ddim_noise', step, run) : zeros(xT().shape, run)
    const options = { steps, eta: Number.parseFloat(eta), noise }
    const network = (x: Tensor, t: ArrayLike<number>) => model.forward(x, t)
    results.set(`out.ddim_eta${eta}_inputs`, () => {
      const after = Array.from(maskdmSteps(diffusion, network, xT(), options), ({ x }) => x.alias())
      return stack([xT(), ...after.slice(0, -1)], 0)
    })
    results.set(`out.ddim_eta${eta}_final`, () => maskdmSample(diffusion, network, xT(), options))
  }
}

/** The official buffers at the timesteps that their descriptions list. */
function setTables(results: Results, fixture: Fixture, d: GaussianDiffusion): void {
  const tables = {
    betas: d.betas,
    alphas_cumprod: d.alphaBar,
    alphas_cumprod_prev: d.alphaBarPrev,
    posterior_variance: d.posteriorVariance,
    posterior_log_variance_clipped: d.posteriorLogVariance,
    posterior_mean_coef1: d.posteriorMeanX0,
    posterior_mean_coef2: d.posteriorMeanXt,
  }
  for (const [name, table] of Object.entries(tables))
    results.set(`out.sched_${name}`, () => {
      const listed = /t = ([\d,]+)/.exec(describe(fixture, `out.sched_${name}`))?.[1] ?? ''
      const times = listed.split(',').map(Number)
      return { data: times.map(t => table[t]), shape: [times.length] }
    })
}
