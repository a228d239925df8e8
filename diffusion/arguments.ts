/**
 * Checks of the arguments that many functions here share: a diffusion, a network, noise, the tensors of a batch and their
 * timesteps. Plain JavaScript may pass anything.
 */

import {
  aBoolean,
  aCount,
  aFunction,
  check,
  checkFloats,
  checkOptions,
  type Kind,
  numbers,
  objectWith,
  oneOf,
} from '../core/arguments.ts'
import { Rng, ShapeError, type Tensor } from '../core/index.ts'
import { sameShape, show } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import type { GaussianDiffusion } from './gaussian.ts'
import type { Timesteps } from './per-sample.ts'

/** Kinds of the options of a diffusion. */
export const diffusionKinds = {
  betas: numbers,
  prediction: oneOf(['epsilon', 'xStart', 'v']),
  variance: oneOf(['learnedRange', 'fixedSmall', 'fixedLarge']),
}

/** Kinds of the fields of a `GaussianDiffusion`. */
const fields: { readonly [K in keyof GaussianDiffusion]: Kind } = {
  ...diffusionKinds,
  alphaBar: numbers,
  alphaBarPrev: numbers,
  alphaBarNext: numbers,
  posteriorVariance: numbers,
  posteriorLogVariance: numbers,
  posteriorMeanX0: numbers,
  posteriorMeanXt: numbers,
  timesteps: numbers,
  steps: aCount,
}

const aDiffusion = objectWith('a diffusion, as gaussianDiffusion returns one', fields)

/** A source of noise: a stream, or a function of the step. */
export const aNoiseSource: Kind = {
  expected: 'a stream of random numbers or a function',
  accepts: value => value instanceof Rng || aFunction.accepts(value),
}

/** Kinds of `ClipOption`. */
export const clipKinds = { clip: aBoolean }

/** Throws TypeError unless `d` is a diffusion. */
export function checkDiffusion(op: string, d: GaussianDiffusion): void {
  check(op, 'd', d, aDiffusion)
}

/**
 * Throws unless `d` is a diffusion, the tensors are floats of one shape, and `t` holds a step of `d` for each sample. Throws
 * ShapeError on other shapes, RangeError on another step.
 */
export function checkBatch(
  op: string,
  d: GaussianDiffusion,
  batch: Readonly<Record<string, Tensor>>,
  t: Timesteps,
): void {
  checkDiffusion(op, d)
  const x = checkAlike(op, batch)
  checkTimesteps(op, x, t, d.steps)
}

/** Returns the first of some float tensors of one shape. Throws ShapeError on other shapes. */
export function checkAlike(op: string, batch: Readonly<Record<string, Tensor>>): Tensor {
  checkFloats(op, batch)
  const [[first, x], ...others] = Object.entries(batch)
  if (x.shape.length === 0) throw new ShapeError(`${op}: expected ${first} [N, ...], got ${show(x.shape)}`)
  for (const [name, { shape }] of others)
    if (!sameShape(shape, x.shape))
      throw new ShapeError(`${op}: expected ${name} of the shape of ${first}, ${show(x.shape)}, got ${show(shape)}`)
  return x
}

/** Throws unless these are a diffusion, a network, a float tensor and options of these kinds. */
export function checkLoop<O extends object>(
  op: string,
  d: GaussianDiffusion,
  network: unknown,
  xT: Tensor,
  options: O,
  kinds: { readonly [K in keyof O]-?: Kind },
): void {
  checkDiffusion(op, d)
  check(op, 'network', network, aFunction)
  checkAlike(op, { xT })
  checkOptions(op, options, kinds)
}

/**
 * Checks that t holds one integer in [0, steps) per sample of x. Throws ShapeError when there are not N, RangeError
 * naming the first that is out of range.
 */
export function checkTimesteps(op: string, x: Tensor, t: Timesteps, steps: number): void {
  check(op, 't', t, numbers)
  if (t.length !== x.shape[0])
    throw new ShapeError(`${op}: expected a timestep for each of ${x.shape[0]} samples, got ${t.length}`)
  for (let n = 0; n < t.length; n++)
    if (!Number.isInteger(t[n]) || t[n] < 0 || t[n] >= steps)
      throw atCaller(new RangeError(`${op}: t: expected integers in [0, ${steps}), got ${t[n]} for sample ${n}`))
}
