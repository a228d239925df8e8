/**
 * What MDT is trained on: the diffusion loss of the full picture plus that of the masked one, each through its own
 * forward pass, at the same timesteps but with noise, label drops and mask of its own. Both cover all pixels. [MDT §3.4]
 * Read mdt.ts first.
 */

import { add, mean, type Rng, type Tensor } from '../core/index.ts'
import type { GaussianDiffusion, Network } from '../diffusion/gaussian.ts'
import { type LossOptions, type LossTerms, trainingLoss } from '../diffusion/losses.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import { dropLabels } from '../nn/index.ts'
import type { MaskedDiffusionTransformer } from './mdt.ts'

/** What is drawn for one of the two passes. */
export interface Pass {
  /** ε, like x_0 */
  readonly noise: Tensor
  /** N labels after dropping, or null without. */
  readonly labels: ArrayLike<number> | null
  /** null in the full pass. */
  readonly mask: TokenMask | null
}

/** What is drawn for both passes of a step. */
export interface Passes {
  readonly full: Pass
  readonly masked: Pass
}

/** Draws both passes for pictures x0 (N, C, H, W) with N labels, or null. */
export function drawPasses(
  model: MaskedDiffusionTransformer,
  x0: Tensor,
  labels: ArrayLike<number> | null,
  rng: Rng,
): Passes {
  const { numClasses, classDropoutProb = 0.1 } = model.options
  const [N] = x0.shape
  const draw = (mask: () => TokenMask | null): Pass => ({
    noise: rng.normal(x0.shape, { dtype: x0.dtype, backend: x0.backend }),
    labels: labels && dropLabels(labels, rng.uniformArray(N), classDropoutProb, numClasses),
    mask: mask(),
  })
  return { full: draw(() => null), masked: draw(() => model.drawMask(N, rng)) }
}

/**
 * The loss of one pass over pictures x0 (N, C, H, W) at steps t (N), per picture. Backward after each of the two passes,
 * rather than after both, halves the memory. The weighting is that of the model's version unless said. Throws ShapeError
 * and RangeError.
 */
export function passLoss(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  { noise, labels, mask }: Pass,
  options: LossOptions = {},
): LossTerms {
  const network: Network = (xt, time) => model.forward(xt, time, labels, mask)
  return trainingLoss(diffusion, network, x0, t, noise, { weighting: model.weighting, ...options })
}

/** The loss of a step. */
export interface MDTLoss {
  /** Terms per picture, (N) each. */
  readonly full: LossTerms
  readonly masked: LossTerms
  /** Mean of full.loss + mean of masked.loss: what is minimised. */
  readonly loss: Tensor
}

/** Both passes of `passLoss` over pictures x0 (N, C, H, W), and their sum. */
export function mdtLoss(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  passes: Passes,
  options?: LossOptions,
): MDTLoss {
  const full = passLoss(model, diffusion, x0, t, passes.full, options)
  const masked = passLoss(model, diffusion, x0, t, passes.masked, options)
  return { full, masked, loss: add(mean(full.loss), mean(masked.loss)) }
}
