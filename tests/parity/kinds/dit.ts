/**
 * Kind `dit`: forward pass with its intermediates, a forced label drop, guidance, the training loss, its gradient, and
 * the loss at t = 0.
 */

import { mean, type Tensor } from '../../../core/index.ts'
import { qSample } from '../../../diffusion/gaussian.ts'
import { classifierFreeGuidance } from '../../../diffusion/guidance.ts'
import { trainingLoss } from '../../../diffusion/losses.ts'
import { DiT } from '../../../models/dit.ts'
import { dropLabels, timestepEmbedding } from '../../../nn/index.ts'
import type { Fixture, Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import {
  diffusionOf,
  ditOptions,
  guidedChannels,
  labels,
  loaded,
  meanOf,
  place,
  setCounts,
  setGradients,
  setTerms,
} from '../transformer.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const options = ditOptions(fixture.config)
  const model = loaded(new DiT(options, place(run)), fixture)
  const results: Results = new Map()
  setCounts(results, model)

  const x = once(() => fixture.tensor('in.x', run))
  const t = once(() => fixture.host('in.t').data)
  const y = once(() => labels(fixture, 'in.y'))
  const N = once(() => x().shape[0])
  const c = once(() => model.condition(N(), t(), y()))
  const block0 = once(() => model.blocks.items[0].forward(model.embed(x()), c()))
  const tokens = once(() => {
    const last = model.blocks.items.slice(1).reduce((h, block) => block.forward(h, c()), block0())
    return model.final_layer.forward(last, c())
  })
  const { frequencies } = model.t_embedder
  results.set('out.t_freq', () => ({ data: timestepEmbedding(t(), frequencies), shape: [N(), frequencies] }))
  results.set('out.t_emb', () => model.t_embedder.forward(t()))
  results.set('out.patch_embed', () => model.x_embedder.forward(x()))
  results.set('out.block0', block0)
  results.set('out.final_tokens', tokens)
  results.set('out.unpatchify', () => model.unpatchify(tokens()))
  results.set('out.forward', () => model.forward(x(), t(), y()))

  const { y_embedder } = model
  if (y_embedder !== null) {
    // A forced drop is one at which the draw, 0, is below any probability.
    const forced = once(() => {
      const never = fixture.host('in.force_drop_ids').data.map((drop: number) => (drop === 1 ? 0 : 1))
      return dropLabels(y() ?? [], never, 1, options.numClasses)
    })
    results.set('out.y_emb', () => y_embedder.forward(y() ?? []))
    results.set('out.y_forced', () => ({ data: forced(), shape: [N()] }))
    results.set('out.y_emb_forced', () => y_embedder.forward(forced()))
  }

  results.set('out.forward_with_cfg', () => {
    const [cfgX, cfgT, cfgY] = [
      fixture.tensor('in.cfg_x', run),
      fixture.host('in.cfg_t').data,
      labels(fixture, 'in.cfg_y'),
    ]
    const channels = guidedChannels(options)
    const network = (z: Tensor, time: ArrayLike<number>) => model.forward(z, time, cfgY)
    return classifierFreeGuidance(network, { scale: fixture.setting('cfg_scale'), channels })(
      cfgX,
      Int32Array.from(cfgT),
    )
  })

  const { diffusion, options: lossOptions } = diffusionOf(fixture)
  const x0 = once(() => fixture.tensor('in.loss_x0', run))
  const noise = once(() => fixture.tensor('in.loss_noise', run))
  const dropped = once(() => {
    const given = labels(fixture, 'in.loss_y')
    const { classDropoutProb = 0.1, numClasses } = options
    if (given === null || !fixture.has('in.loss_drop_u')) return given
    return dropLabels(given, fixture.host('in.loss_drop_u').data, classDropoutProb, numClasses)
  })
  const lossAt = (times: () => ArrayLike<number>) =>
    once(() =>
      trainingLoss(diffusion, (z, time) => model.forward(z, time, dropped()), x0(), times(), noise(), lossOptions),
    )
  const lossT = once(() => fixture.host('in.loss_t').data)
  const terms = lossAt(lossT)
  const atZero = lossAt(() => new Int32Array(lossT().length))
  results.set('out.loss_xt', () => qSample(diffusion, x0(), lossT(), noise()))
  setTerms(results, 'out.loss_', terms)
  results.set('scalar.loss_mean', () => meanOf(terms().loss))
  setGradients(results, 'grad.', model, () => mean(terms().loss))
  setTerms(results, 'out.t0_', atZero)
  setGradients(results, 'grad_t0.', model, () => mean(atZero().loss))
  return results
}
