/**
 * Which AutoencoderKL a file of weights is of: by diffusers' config.json, which we write too, or by the shapes of its
 * tensors, which tell all but two numbers; and the sizes that examples/train-vae.ts has. Leaves out configurations that
 * no published autoencoder of this family has: other kinds of blocks, other activations.
 */

import type { Shape } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { type AutoencoderKLOptions, checkAutoencoder, stableDiffusionVae } from './autoencoder-kl.ts'

/** Autoencoders by name, small to large. */
export const autoencoderPresets = {
  /** 1.0 M parameters, a quarter of height and width. */
  tiny: { latentChannels: 4, blockOutChannels: [32, 64, 64], layersPerBlock: 1, normGroups: 8 },
  /** 10.8 M parameters, a quarter of height and width. */
  small: { latentChannels: 4, blockOutChannels: [64, 128, 256], layersPerBlock: 1, normGroups: 32 },
  /** Stable Diffusion's: an eighth of height and width. */
  sd: stableDiffusionVae,
} as const satisfies Readonly<Record<string, AutoencoderKLOptions>>

/** Autoencoders that can be had by name. */
export type AutoencoderPresetName = keyof typeof autoencoderPresets

/** The names of all presets. */
export const autoencoderPresetNames = Object.keys(autoencoderPresets) as readonly AutoencoderPresetName[]

/** Returns config.json for these sizes, under diffusers' names. */
export function autoencoderConfig(options: AutoencoderKLOptions): Record<string, unknown> {
  checkAutoencoder('autoencoderConfig', options)
  const { inChannels = 3, outChannels = 3, scalingFactor = 0.18215 } = options
  const { latentChannels, blockOutChannels, layersPerBlock, normGroups } = options
  return {
    _class_name: 'AutoencoderKL',
    act_fn: 'silu',
    block_out_channels: [...blockOutChannels],
    down_block_types: blockOutChannels.map(() => 'DownEncoderBlock2D'),
    in_channels: inChannels,
    latent_channels: latentChannels,
    layers_per_block: layersPerBlock,
    norm_num_groups: normGroups,
    out_channels: outChannels,
    scaling_factor: scalingFactor,
    up_block_types: blockOutChannels.map(() => 'UpDecoderBlock2D'),
  }
}

/** Defaults of diffusers for keys that a config lacks. */
const defaults = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [64],
  layers_per_block: 1,
  norm_num_groups: 32,
  scaling_factor: 0.18215,
}

/** Of these, only one value makes the network of autoencoder-kl.ts. */
const fixed: readonly (readonly [name: string, only: unknown])[] = [
  ['_class_name', 'AutoencoderKL'],
  ['act_fn', 'silu'],
  ['down_block_types', 'DownEncoderBlock2D'],
  ['up_block_types', 'UpDecoderBlock2D'],
  ['use_quant_conv', true],
  ['use_post_quant_conv', true],
  ['mid_block_add_attention', true],
  ['shift_factor', null],
  ['latents_mean', null],
  ['latents_std', null],
]

/** The sizes in a diffusers config. Throws RangeError on one that is of another kind of network, or no config at all. */
export function autoencoderOptions(config: unknown): AutoencoderKLOptions {
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw atCaller(new RangeError(`config: expected an object, got ${JSON.stringify(config)}`))
  const given: Readonly<Record<string, unknown>> = { ...config }
  for (const [name, only] of fixed) {
    const other = [given[name] ?? only].flat().find(value => value !== only)
    if (other !== undefined)
      throw atCaller(new RangeError(`config: ${name}: expected ${only}, got ${JSON.stringify(other)}`))
  }
  const numbers = (name: keyof typeof defaults, least: number): number[] => {
    const values = [given[name] ?? defaults[name]].flat()
    const whole = least === 1
    if (values.every(n => typeof n === 'number' && n >= least && (Number.isSafeInteger(n) || !whole)))
      return values as number[]
    throw atCaller(
      new RangeError(
        `config: ${name}: expected ${whole ? 'whole numbers from 1' : 'numbers above 0'}, got ${JSON.stringify(values)}`,
      ),
    )
  }
  const number = (name: keyof typeof defaults, least = 1) => numbers(name, least)[0]
  return {
    inChannels: number('in_channels'),
    outChannels: number('out_channels'),
    latentChannels: number('latent_channels'),
    blockOutChannels: numbers('block_out_channels', 1),
    layersPerBlock: number('layers_per_block'),
    normGroups: number('norm_num_groups'),
    scalingFactor: number('scaling_factor', Number.MIN_VALUE),
  }
}

/**
 * The sizes by the shapes of the state dict. Groups of the norms and the scaling factor leave no trace in shapes: they are
 * taken to be Stable Diffusion's. Throws RangeError on a state dict of something else.
 */
export function autoencoderOptionsOfShapes(
  state: ReadonlyMap<string, { readonly shape: Shape }>,
): AutoencoderKLOptions {
  const of = (name: string): Shape => {
    const shape = state.get(name)?.shape
    if (shape?.length === 4) return shape
    const got = shape === undefined ? 'none' : `[${shape.join(', ')}]`
    throw atCaller(new RangeError(`expected the weights of an AutoencoderKL: ${name} with 4 axes, got ${got}`))
  }
  const count = (name: (i: number) => string) => {
    let n = 0
    while (state.has(name(n))) n++
    return n
  }
  const first = (level: number, resnet = 0) => `encoder.down_blocks.${level}.resnets.${resnet}.conv1.weight`
  of(first(0))
  return {
    inChannels: of('encoder.conv_in.weight')[1],
    outChannels: of('decoder.conv_out.weight')[0],
    latentChannels: of('post_quant_conv.weight')[0],
    blockOutChannels: Array.from({ length: count(first) }, (_, level) => of(first(level))[0]),
    layersPerBlock: count(resnet => first(0, resnet)),
    normGroups: stableDiffusionVae.normGroups,
    scalingFactor: 0.18215,
  }
}
