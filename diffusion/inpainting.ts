/**
 * In-painting with any diffusion model: what is known of a picture is put back at every step, noised as much as the rest,
 * and the model fills in what is not. RePaint [RePaint alg. 1] goes some steps back up now and then, which lets known and
 * unknown parts come to terms; without such jumps it is plain replacement. Noise comes from the caller's stream.
 * Read samplers.ts first.
 */

import { aNumber, aTensor, check, checkFloats, checkOptions, checkTensor } from '../core/arguments.ts'
import { add, mul, type Rng, ShapeError, type Tensor, where } from '../core/index.ts'
import { aStream } from '../core/random.ts'
import { checkLoop, clipKinds } from './arguments.ts'
import type { ClipOption, GaussianDiffusion, Network } from './gaussian.ts'
import { type Stepped, stepping } from './loop.ts'
import { checkCount } from './per-sample.ts'
import { ddpmStep } from './samplers.ts'

/** How often RePaint goes back, and how far. */
export interface JumpOptions {
  /** Length of a jump back up, in steps. Default 10. */
  readonly jump?: number
  /** Number of times that each stretch of `jump` steps is denoised; 1 for no jumps. Default 10. */
  readonly resamplings?: number
}

/**
 * The levels that RePaint visits, from steps − 1 (pure noise) to −1 (the picture), one step up or down at a time. At
 * every multiple of `jump` but the top ones it goes up by that much, `resamplings` − 1 times. [RePaint §4.2]
 * Throws RangeError.
 */
export function repaintLevels(steps: number, options: JumpOptions = {}): number[] {
  checkOptions('repaintLevels', options, jumpKinds)
  return levelsOf('repaintLevels', steps, options)
}

const jumpKinds = { jump: aNumber, resamplings: aNumber }

function levelsOf(op: string, steps: number, { jump = 10, resamplings = 10 }: JumpOptions): number[] {
  checkCount(op, 'steps', steps, 1)
  checkCount(op, 'jump', jump, 1)
  checkCount(op, 'resamplings', resamplings, 1)
  const left = new Map<number, number>()
  for (let level = 0; level < steps - jump; level += jump) left.set(level, resamplings - 1)
  const levels = [steps - 1]
  while (levels[levels.length - 1] >= 0) {
    const level = levels[levels.length - 1]
    const jumps = left.get(level) ?? 0
    if (jumps > 0) {
      left.set(level, jumps - 1)
      for (let up = 1; up <= jump; up++) levels.push(level + up)
    }
    levels.push(levels[levels.length - 1] - 1)
  }
  return levels
}

/** The known part of a picture. */
export interface Inpainting extends ClipOption, JumpOptions {
  /** The picture, (N, C, H, W); what it holds in the hole is not looked at. */
  readonly known: Tensor
  /** Not 0 where the picture is to be filled in; any dtype, broadcasts against it. */
  readonly hole: Tensor
  readonly rng: Rng
}

const inpaintKinds = { ...clipKinds, ...jumpKinds, known: aTensor, hole: aTensor, rng: aStream }

/** A loop after one of its steps: the levels it went from and to; upwards the prediction is that of the step before. */
export type InpaintStep = Stepped<{ readonly from: number; readonly to: number }>

/**
 * Fills the hole of known pictures, from noise xT (N, C, H, W); the last step's x is the result, which is `known` outside
 * the hole. Throws ShapeError and RangeError.
 */
export function inpaintSteps(
  d: GaussianDiffusion,
  network: Network,
  xT: Tensor,
  options: Inpainting,
): Generator<InpaintStep, void> {
  checkLoop('inpaintSteps', d, network, xT, options, inpaintKinds)
  const { known, hole, rng, jump, resamplings, ...clip } = options
  check('inpaintSteps', 'rng', rng, aStream)
  checkFloats('inpaintSteps', { xT, known })
  if (known.shape.join() !== xT.shape.join())
    throw new ShapeError(`inpaintSteps: expected known [${xT.shape.join(', ')}], got [${known.shape.join(', ')}]`)
  checkTensor('inpaintSteps', 'hole', hole)
  const { shape, dtype, backend } = xT
  const noise = () => rng.normal(shape, { dtype, backend })
  const levels = levelsOf('inpaintSteps', d.steps, { jump, resamplings })
  const plans = levels.slice(1).map((to, i) => ({ from: levels[i], to }))
  return stepping(xT, plans, (x, { from, to }, _, last) => {
    // x_{t+1} = √(1−β_{t+1}) x_t + √β_{t+1} ε  [DDPM eq. 2]
    if (to > from)
      return { x: mixed(x, Math.sqrt(1 - d.betas[to]), noise(), Math.sqrt(d.betas[to])), predXStart: last ?? x }
    const t = new Int32Array(x.shape[0]).fill(from)
    const unknown = ddpmStep(d, network, x, t, noise(), clip)
    const alphaBar = to < 0 ? 1 : d.alphaBar[to]
    // q(x_t | x_0) of what is known  [RePaint eq. 8a]
    const noised = mixed(known, Math.sqrt(alphaBar), noise(), Math.sqrt(1 - alphaBar))
    return { x: where(hole, unknown.x, noised), predXStart: where(hole, unknown.predXStart, known) }
  })
}

/** a · x + b · y */
function mixed(x: Tensor, a: number, y: Tensor, b: number): Tensor {
  return add(mul(x, a), mul(y, b))
}
