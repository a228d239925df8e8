/**
 * MDT's training loss: the diffusion loss of the full picture plus that of the masked one, each through its own forward
 * pass, at the same timesteps but with noise, label drops and mask of its own. Both cover all pixels. [MDT §3.4] Training
 * runs `mdtPasses`. Read mdt.ts first.
 */

import { anObject, check, checkFields, checkOptions, instanceOf } from '../core/arguments.ts'
import { add, mean, type Rng, scope, type Tensor } from '../core/index.ts'
import { checkBatch, checkDiffusion } from '../diffusion/arguments.ts'
import type { GaussianDiffusion, Network } from '../diffusion/gaussian.ts'
import { type LossOptions, type LossTerms, lossKinds, trainingLoss } from '../diffusion/losses.ts'
import type { TokenMask } from '../diffusion/masking.ts'
import { dropLabels } from '../nn/index.ts'
import { checkInputs, checkSample } from './arguments.ts'
import type { LossPass, Part } from './family.ts'
import { MaskedDiffusionTransformer } from './mdt.ts'

/** Random inputs of one of the two passes. */
export interface PassInputs {
  /** ε, like x_0 */
  readonly noise: Tensor
  /** N labels after dropping, or null without. */
  readonly labels: ArrayLike<number> | null
  /** null in the full pass. */
  readonly mask: TokenMask | null
}

/** Random inputs of both passes of a step. */
export interface MDTInputs {
  readonly full: PassInputs
  readonly masked: PassInputs
}

const anMDT = instanceOf('an MDT or MDTv2', MaskedDiffusionTransformer)

/** Throws unless these are a diffusion, pictures with their timesteps, the inputs of both passes and options of a loss. */
export function checkStep(
  op: string,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  inputs: MDTInputs,
  options: LossOptions,
): MDTInputs {
  checkBatch(op, diffusion, { x0 }, t)
  check(op, 'inputs', inputs, anObject)
  for (const pass of ['full', 'masked'] as const) checkInputs(op, x0, inputs[pass])
  checkOptions(op, options, lossKinds)
  return inputs
}

/** Throws unless these are a diffusion, part of a batch and options of a loss. */
export function checkPart(op: string, diffusion: GaussianDiffusion, part: Part, options: LossOptions): void {
  checkDiffusion(op, diffusion)
  check(op, 'part', part, anObject)
  checkSample(op, part.images, part.labels, part.rng)
  checkFields(op, options, lossKinds)
}

/** Samples the inputs of both passes for pictures x0 (N, C, H, W) with N labels, or null. */
export function sampleMDTInputs(
  model: MaskedDiffusionTransformer,
  x0: Tensor,
  labels: ArrayLike<number> | null,
  rng: Rng,
): MDTInputs {
  check('sampleMDTInputs', 'model', model, anMDT)
  checkSample('sampleMDTInputs', x0, labels, rng)
  const { numClasses, classDropoutProb = 0.1 } = model.options
  const [N] = x0.shape
  const sample = (mask: () => TokenMask | null): PassInputs => ({
    noise: rng.normal(x0.shape, { dtype: x0.dtype, backend: x0.backend }),
    labels: labels && dropLabels(labels, rng.uniformArray(N), classDropoutProb, numClasses),
    mask: mask(),
  })
  return { full: sample(() => null), masked: sample(() => model.sampleMask(N, rng)) }
}

/**
 * The loss of one pass over pictures x0 (N, C, H, W) at steps t (N), per picture. Backward after each of the two passes,
 * rather than after both, halves the memory. The weighting defaults to that of the model's version. Throws ShapeError
 * and RangeError.
 */
export function passLoss(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  inputs: PassInputs,
  options: LossOptions = {},
): LossTerms {
  check('passLoss', 'model', model, anMDT)
  checkBatch('passLoss', diffusion, { x0 }, t)
  checkInputs('passLoss', x0, inputs)
  checkOptions('passLoss', options, lossKinds)
  return lossOf(model, diffusion, x0, t, inputs, options)
}

/** `passLoss` of arguments that were checked. */
export function lossOf(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  x0: Tensor,
  t: ArrayLike<number>,
  { noise, labels, mask }: PassInputs,
  options: LossOptions,
): LossTerms {
  const network: Network = (xt, time) => model.forward(xt, time, labels, mask)
  return trainingLoss(diffusion, network, x0, t, noise, optionsOf(model, options))
}

/** The options of a loss, with the weighting of the model's version by default. */
export function optionsOf(
  model: MaskedDiffusionTransformer,
  { weighting = model.weighting, rescaleVb }: LossOptions,
): LossOptions {
  return { weighting, rescaleVb }
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
  inputs: MDTInputs,
  options: LossOptions = {},
): MDTLoss {
  check('mdtLoss', 'model', model, anMDT)
  checkStep('mdtLoss', diffusion, x0, t, inputs, options)
  const full = lossOf(model, diffusion, x0, t, inputs.full, options)
  const masked = lossOf(model, diffusion, x0, t, inputs.masked, options)
  return { full, masked, loss: add(mean(full.loss), mean(masked.loss)) }
}

/** Terms of the full and of the masked pass, as `mdtPasses` reports them. */
export const mdtTerms = ['mse', 'vb', 'maskedMse', 'maskedVb'] as const

/**
 * The two passes of a training step on a part of a batch, at timesteps that both share. Inside a pass, intermediates that no
 * gradient needs are freed at once; backward frees the others, so the second pass begins with gradients alone in memory.
 */
export function mdtPasses(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  part: Part,
  options: LossOptions = {},
): Generator<LossPass, void> {
  check('mdtPasses', 'model', model, anMDT)
  checkPart('mdtPasses', diffusion, part, options)
  return passesOf(model, diffusion, part, options)
}

function* passesOf(
  model: MaskedDiffusionTransformer,
  diffusion: GaussianDiffusion,
  { images, labels, rng }: Part,
  options: LossOptions,
): Generator<LossPass, void> {
  const t = rng.integersArray(0, diffusion.steps, images.shape[0])
  const { full, masked } = sampleMDTInputs(model, images, labels, rng)
  yield passTerms(['mse', 'vb'], () => lossOf(model, diffusion, images, t, full, options))
  yield passTerms(['maskedMse', 'maskedVb'], () => lossOf(model, diffusion, images, t, masked, options))
}

/** A pass that reports the means of its terms, (N) each, under these names. */
export function passTerms([mseTerm, vbTerm]: readonly [string, string], pass: () => LossTerms): LossPass {
  return () =>
    scope(() => {
      const { loss, mse, vb } = pass()
      const terms = { [mseTerm]: mean(mse).detach(), ...(vb && { [vbTerm]: mean(vb).detach() }) }
      return { loss: mean(loss), terms }
    })
}
