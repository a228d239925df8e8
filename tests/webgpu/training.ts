/**
 * A few steps of an MDT on one batch, on any backend, everything drawn on the host: what tests compare between backends
 * and watch for reads, new kernels and new memory.
 */

import { type Backend, backward, mean, rng, scope, stack, sum, type Tensor } from '../../core/index.ts'
import { gaussianDiffusion, linearBetas } from '../../diffusion/index.ts'
import { MDT, type MDTOptions, passLoss, sampleMDTInputs } from '../../models/index.ts'
import { AdamW, constantDecay, Ema } from '../../nn/index.ts'

export interface Trained {
  /** Of the last step. */
  readonly loss: number
  readonly weights: Map<string, ArrayLike<number>>
}

/** Trains for `steps` and calls `after` when each is dispatched. Leaves nothing behind. */
export async function train(
  backend: Backend,
  options: MDTOptions,
  {
    steps,
    batch,
    after,
  }: { readonly steps: number; readonly batch: number; after?(step: number): void | Promise<void> },
): Promise<Trained> {
  const random = rng(5)
  const model = new MDT(options, { rng: random.fork('weights'), backend })
  const average = new MDT(options, { rng: null, backend })
  const ema = new Ema(model, average, { decay: constantDecay(0.9) })
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-3, weightDecay: 0.01 })
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const { inputSize, inChannels } = options
  const x0 = random.normal([batch, inChannels, inputSize, inputSize], { backend })
  const t = random.integersArray(1, diffusion.steps, batch)
  let loss: Tensor | null = null
  for (let step = 0; step < steps; step++) {
    loss?.dispose()
    loss = scope(() => {
      const { full, masked } = sampleMDTInputs(model, x0, null, random.fork('passes'))
      const terms = [full, masked].map(pass => {
        const loss = mean(passLoss(model, diffusion, x0, t, pass).loss)
        backward(loss)
        return loss
      })
      const { finite } = optimizer.step({ maxNorm: 1 })
      ema.update(finite)
      optimizer.zeroGrad()
      return sum(stack(terms, 0))
    })
    await after?.(step)
  }
  const last = await loss!.item()
  const weights = new Map<string, ArrayLike<number>>()
  for (const [name, p] of model.namedParameters()) weights.set(name, await p.data())
  for (const owner of [optimizer, model, average, x0, loss!]) owner.dispose()
  return { loss: last, weights }
}
