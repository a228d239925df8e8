/**
 * Shared by the kinds that run DiT and MDT: the model that a fixture's configuration and parameters describe,
 * the diffusion that its manifest describes, and losses and gradients as results. A setting that is not known here
 * throws: it might mean other numbers.
 */

import { gradients, mean, type Tensor } from '../../core/index.ts'
import { cosineBetas, linearBetas } from '../../diffusion/betas.ts'
import { type GaussianDiffusion, gaussianDiffusion, type Prediction, type Variance } from '../../diffusion/gaussian.ts'
import type { LossOptions, LossTerms } from '../../diffusion/losses.ts'
import { respace, spaceTimesteps } from '../../diffusion/respace.ts'
import type { TransformerOptions } from '../../models/dit.ts'
import type { MDTOptions } from '../../models/mdt.ts'
import type { Module } from '../../nn/index.ts'
import { type Fixture, isObject, type Json, type JsonObject, type Run } from './fixture.ts'
import type { Results } from './kind.ts'

/** The official constructors' defaults, under the names of their arguments. */
const defaults: JsonObject = {
  input_size: 32,
  patch_size: 2,
  in_channels: 4,
  hidden_size: 1152,
  depth: 28,
  num_heads: 16,
  mlp_ratio: 4,
  class_dropout_prob: 0.1,
  num_classes: 1000,
  learn_sigma: true,
}

/** The options of a DiT. Throws on a setting that a DiT has not. */
export function ditOptions(config: JsonObject): TransformerOptions {
  return camelCased(withDefaults(config, defaults)) as unknown as TransformerOptions
}

/** The options of an MDT of either version. Throws on a setting that an MDT has not. */
export function mdtOptions(config: JsonObject, decodeLayer: number): MDTOptions {
  const all = withDefaults(config, { ...defaults, mask_ratio: null, decode_layer: decodeLayer })
  return camelCased(all) as unknown as MDTOptions
}

/** A configuration with what it leaves out. Throws on a setting that `known` has not. */
export function withDefaults(config: JsonObject, known: JsonObject): JsonObject {
  const unknown = Object.keys(config).filter(name => !Object.hasOwn(known, name))
  if (unknown.length > 0) throw new Error(`config: expected settings that are known here, got ${unknown.join(', ')}`)
  return { ...known, ...config }
}

function camelCased(settings: JsonObject): JsonObject {
  const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [camel(name), value]))
}

/** Loads the fixture's parameters and returns the model. */
export function loaded<M extends Module>(model: M, fixture: Fixture): M {
  model.loadStateDict(fixture.parameters())
  return model
}

/** Labels of a batch, or null where the fixture has none of that name. */
export function labels(fixture: Fixture, key: string): ArrayLike<number> | null {
  return fixture.has(key) ? fixture.host(key).data : null
}

/** Number of channels that the official guidance changes: the first three, or all if there are fewer. */
export function guidedChannels({ inChannels, learnSigma = true }: TransformerOptions): number {
  return Math.min(3, learnSigma ? 2 * inChannels : inChannels)
}

/** Where a model's weights go; they are loaded, so nothing is drawn. */
export function place({ backend, dtype }: Run) {
  return { rng: null, backend, dtype }
}

const predictions: Record<string, Prediction> = { EPSILON: 'epsilon', START_X: 'xStart' }
const variances: Record<string, Variance> = {
  LEARNED_RANGE: 'learnedRange',
  FIXED_SMALL: 'fixedSmall',
  FIXED_LARGE: 'fixedLarge',
}

/** The diffusion and loss of a manifest's `diffusion`; what it leaves out is as in the official code. */
export function diffusionOf(fixture: Fixture): { diffusion: GaussianDiffusion; options: LossOptions | undefined } {
  const { diffusion: given = {} } = fixture.manifest
  const settings = isObject(given) ? given : {}
  const learned = fixture.config.learn_sigma !== false
  const { betas = 'linear', T = 1000, respacing = '', mean_type = 'EPSILON', loss_type = 'MSE' } = settings
  const { var_type = learned ? 'LEARNED_RANGE' : 'FIXED_LARGE', min_snr_gamma } = settings
  const make = choose('betas', String(betas).split(' ')[0], { linear: linearBetas, squaredcos_cap_v2: cosineBetas })
  const whole = gaussianDiffusion({
    betas: make(Number(T)),
    prediction: choose('mean_type', mean_type, predictions),
    variance: choose('var_type', var_type, variances),
  })
  const diffusion = respacing === '' ? whole : respace(whole, spaceTimesteps(whole.steps, String(respacing)))
  const rescaleVb = choose('loss_type', String(loss_type).split(' ')[0], { MSE: false, RESCALED_MSE: true })
  if (min_snr_gamma === undefined && !rescaleVb) return { diffusion, options: undefined }
  const weighting = choose('min_snr_gamma', min_snr_gamma ?? null, { null: 'uniform', 5: 'min-snr-5' } as const)
  return { diffusion, options: { weighting, rescaleVb } }
}

/** Returns the choice that a setting names. Throws if there is none. */
export function choose<T>(what: string, name: Json, choices: Readonly<Record<string, T>>): T {
  const key = String(name)
  if (!Object.hasOwn(choices, key))
    throw new Error(`manifest: ${what}: expected one of ${Object.keys(choices).join(', ')}, got ${key}`)
  return choices[key]
}

/** `${prefix}mse`, `vb` (where there is one) and `loss`, (N) each. */
export function setTerms(results: Results, prefix: string, terms: () => LossTerms): void {
  results.set(`${prefix}mse`, () => terms().mse)
  results.set(`${prefix}loss`, () => terms().loss)
  results.set(`${prefix}vb`, () => terms().vb ?? missing(`${prefix}vb`))
}

function missing(key: string): never {
  throw new Error(`${key}: the variance is fixed, so there is no such term`)
}

/** The mean of a tensor, as a number. */
export async function meanOf(x: Tensor): Promise<number> {
  return mean(x).item()
}

/** `${prefix}name` for every trainable parameter: the gradient of `loss`. */
export function setGradients(results: Results, prefix: string, model: Module, loss: () => Tensor): void {
  const trained = [...model.namedParameters()].filter(([, p]) => p.requiresGrad)
  let found: Tensor[] | undefined
  for (const [i, [name]] of trained.entries())
    results.set(prefix + name, () => {
      found ??= gradients(
        loss(),
        trained.map(([, p]) => p),
      )
      return found[i]
    })
}

/** `scalar.param_count.…` */
export function setCounts(results: Results, model: Module): void {
  const { total, trainable, buffers } = model.countParameters()
  for (const [name, count] of Object.entries({ total, trainable, buffers }))
    results.set(`scalar.param_count.${name}`, count)
}
