/**
 * Kinds `mdt-v1` and `mdt-v2`: full and masked forward pass from given noise, the mask, side-interpolator and relative
 * position bias on the way, guidance with the power-cosine scale, and the loss of both passes with its gradient.
 */

import { gatherRows, type Tensor } from '../../core/index.ts'
import { classifierFreeGuidance, powerCosineScale } from '../../diffusion/guidance.ts'
import { trainingLoss } from '../../diffusion/losses.ts'
import { keptTokens, type TokenMask, tokenMask } from '../../diffusion/masking.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { MDT, MDTv2, randomMaskRatio } from '../../models/mdt.ts'
import { type MDTInputs, mdtLoss } from '../../models/mdt-loss.ts'
import { dropLabels, relativePositions } from '../../nn/index.ts'
import { type Fixture, onDevice, type Run } from './fixture.ts'
import { numbered, once, type Results } from './kind.ts'
import {
  diffusionOf,
  guidedChannels,
  labels,
  loaded,
  mdtOptions,
  meanOf,
  place,
  setCounts,
  setGradients,
  setTerms,
} from './transformer.ts'

/** The MDT of either version that a fixture describes, with its parameters. */
export function mdtOf(fixture: Fixture, run: Run, version: 1 | 2): MDT | MDTv2 {
  const options = mdtOptions(fixture.config, version === 1 ? 2 : 4)
  return loaded(version === 1 ? new MDT(options, place(run)) : new MDTv2(options, place(run)), fixture)
}

/** Results of either kind. */
export function computeMdt(fixture: Fixture, run: Run, version: 1 | 2): Results {
  const model = mdtOf(fixture, run, version)
  const results: Results = new Map()
  setCounts(results, model)
  setForward(results, fixture, run, model)
  setGuidance(results, fixture, run, model)
  setLoss(results, fixture, run, model)
  setRatios(results, fixture, model.options.maskRatio ?? 0)
  return results
}

/** Forward passes of in.x, and the intermediates of the masked one. */
function setForward(results: Results, fixture: Fixture, run: Run, model: MDT | MDTv2): void {
  const [x, t] = [once(() => fixture.tensor('in.x', run)), once(() => fixture.host('in.t').data)]
  const y = once(() => labels(fixture, 'in.y'))
  const first = (model instanceof MDT ? model.blocks : model.en_inblocks).items[0]
  const T = model.grid[0] * model.grid[1]
  const all = Int32Array.from({ length: T }, (_, i) => i)
  // Worked out anew: the model's buffer was loaded from the fixture.
  results.set('out.relative_position_index', () => ({ data: relativePositions(all, T, model.grid), shape: [T, T] }))
  results.set('out.rel_pos_bias_block0', () => first.attn.rel_pos_bias!.forward())
  results.set('out.forward', () => model.forward(x(), t(), y()))
  results.set('out.cfg_none', () => model.forward(x(), t(), y()))

  const ratio = () => (fixture.has('in.mask_ratio_u') ? fixture.host('in.mask_ratio_u') : null)
  const mask = once(() => maskOf(model, run, fixture.host('in.mask_noise'), ratio()))
  const c = once(() => model.condition(x().shape[0], t(), y()))
  const kept = once(() => gatherRows(model.embed(x()), mask().idsKeep))
  results.set('out.len_keep', () => mask().kept)
  results.set('out.mask', () => mask().mask)
  results.set('out.ids_restore', () => mask().idsRestore)
  results.set('out.ids_keep', () => mask().idsKeep)
  results.set('out.x_masked', kept)
  results.set('out.block0_masked', () => first.forward(kept(), c(), model.pairsOf(mask())))
  results.set('out.side_interpolater', () => model.sideInterpolator(kept(), c(), mask()))
  results.set('out.forward_masked', () => model.forward(x(), t(), y(), mask()))
}

/** The mask of stored noise (N, T); the second version's ratio comes from a stored draw. */
function maskOf(model: MDT | MDTv2, { backend }: Run, noise: HostTensor, draw: HostTensor | null): TokenMask {
  const least = model.options.maskRatio ?? 0
  const [N, T] = noise.shape
  const ratio = draw === null ? least : randomMaskRatio(least, draw.data[0])
  return tokenMask(noise.data, [N, T], ratio, { backend })
}

/** Guidance at every power that the fixture names, and its scale over time. */
function setGuidance(results: Results, fixture: Fixture, run: Run, model: MDT | MDTv2): void {
  for (const [key, power] of numbered(fixture, 'out.cfg_pow'))
    results.set(key, () => {
      const y = labels(fixture, 'in.cfg_y')
      const network = (x: Tensor, t: ArrayLike<number>) => model.forward(x, t, y)
      const scale = fixture.setting('cfg_scale')
      const guided = classifierFreeGuidance(network, { scale, power, channels: guidedChannels(model.options) })
      return guided(fixture.tensor('in.cfg_x', run), Int32Array.from(fixture.host('in.cfg_t').data))
    })
  for (const [key, power] of numbered(fixture, 'out.cfg_scale_pow'))
    results.set(key, () => {
      const { data, shape } = fixture.host('in.cfg_scale_t')
      const scale = fixture.setting('cfg_scale')
      return { data: Float64Array.from(data, t => powerCosineScale(scale, power, t)), shape }
    })
}

/** Both passes, their sum and its gradient, and the full pass at t = 0. */
function setLoss(results: Results, fixture: Fixture, run: Run, model: MDT | MDTv2): void {
  const { diffusion, options = { weighting: model.weighting } } = diffusionOf(fixture)
  const read = (name: string) => {
    const key = `in.loss_${name === 'mask_noise' ? 'mask_noise2' : name}`
    return fixture.has(key) ? fixture.host(key) : null
  }
  const x0 = once(() => fixture.tensor('in.loss_x0', run))
  const t = once(() => fixture.host('in.loss_t').data)
  const passes = once(() => storedPasses(model, run, read))
  const loss = once(() => mdtLoss(model, diffusion, x0(), t(), passes(), options))
  setTerms(results, 'out.full_', () => loss().full)
  setTerms(results, 'out.mask_', () => loss().masked)
  results.set('scalar.loss', () => loss().loss)
  results.set('scalar.loss_full', () => meanOf(loss().full.loss))
  results.set('scalar.loss_mask', () => meanOf(loss().masked.loss))
  setGradients(results, 'grad.', model, () => loss().loss)
  const atZero = once(() => {
    const { noise, labels: y } = passes().full
    return trainingLoss(
      diffusion,
      (x, time) => model.forward(x, time, y),
      x0(),
      t().map(() => 0),
      noise,
      options,
    )
  })
  setTerms(results, 'out.full_t0_', atZero)
}

/** Random numbers of the two passes of a training step, from stored values by name: `noise_full`, `drop_u_mask`, … */
export function storedPasses(model: MDT | MDTv2, run: Run, read: (name: string) => HostTensor | null): MDTInputs {
  const { classDropoutProb = 0.1, numClasses } = model.options
  const wanted = (name: string) => {
    const found = read(name)
    if (found === null) throw new Error(`expected '${name}' of a training step, which the fixture does not hold`)
    return found
  }
  const y = read('y')?.data ?? null
  const pass = (name: 'full' | 'mask', mask: TokenMask | null) => {
    const u = read(`drop_u_${name}`)?.data ?? null
    const dropped = y === null || u === null ? y : dropLabels(y, u, classDropoutProb, numClasses)
    return { noise: onDevice(wanted(`noise_${name}`), run), labels: dropped, mask }
  }
  // Without a mask ratio the official code's masked pass is a second full one.
  const noise = model.options.maskRatio === null ? null : wanted('mask_noise')
  const mask = noise === null ? null : maskOf(model, run, noise, read('mask_ratio_u'))
  return { full: pass('full', null), masked: pass('mask', mask) }
}

/** Kept tokens at stored draws of the ratio for 16, 64 and 256 tokens; also in the official code's f32 arithmetic. */
function setRatios(results: Results, fixture: Fixture, least: number): void {
  const kept = (count: (T: number, u: number) => number) => () => {
    const draws = [...fixture.host('in.ratio_u').data]
    return { data: [16, 64, 256].flatMap(T => draws.map(u => count(T, u))), shape: [3, draws.length] }
  }
  const f = Math.fround
  const keptInF32 = (T: number, u: number) => Math.trunc(f(T * f(1 - f(f(f(u) * f(0.2)) + f(least)))))
  results.set(
    'out.ratio_len_keep_f64',
    kept((T, u) => keptTokens(T, randomMaskRatio(least, u))),
  )
  results.set('out.ratio_len_keep_f32', kept(keptInF32))
}
