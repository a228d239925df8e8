/**
 * Kind `vae`: an AutoencoderKL's encoder, its posterior and a draw from it, decoder and reconstruction, the blocks in the
 * middle of the encoder on their own, and gradients of loss = mean((decode(mode) − x)²) + 10⁻³ mean(kl).
 */

import { add, gradients, mean, mul, square, sub } from '../../../core/index.ts'
import { AutoencoderKL, type AutoencoderKLOptions } from '../../../models/autoencoder-kl.ts'
import type { Fixture, JsonObject, Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { loaded, meanOf, place, setCounts, withDefaults } from '../transformer.ts'

/** diffusers' defaults, except for the last seven, which have one value here. */
const defaults: JsonObject = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [64],
  layers_per_block: 1,
  norm_num_groups: 32,
  sample_size: 32,
  scaling_factor: 0.18215,
  down_block_types: null,
  up_block_types: null,
  act_fn: 'silu',
  force_upcast: true,
  use_quant_conv: true,
  use_post_quant_conv: true,
  mid_block_add_attention: true,
}

function optionsOf(config: JsonObject): AutoencoderKLOptions {
  const all = withDefaults(config, defaults)
  for (const name of ['act_fn', 'use_quant_conv', 'use_post_quant_conv', 'mid_block_add_attention'])
    if (all[name] !== defaults[name]) throw new Error(`config: ${name}: expected ${defaults[name]}, got ${all[name]}`)
  for (const [name, only] of [
    ['down_block_types', 'DownEncoderBlock2D'],
    ['up_block_types', 'UpDecoderBlock2D'],
  ]) {
    const other = [all[name] ?? []].flat().find(type => type !== only)
    if (other !== undefined) throw new Error(`config: ${name}: expected ${only}, got ${other}`)
  }
  return {
    inChannels: Number(all.in_channels),
    outChannels: Number(all.out_channels),
    latentChannels: Number(all.latent_channels),
    blockOutChannels: [all.block_out_channels].flat().map(Number),
    layersPerBlock: Number(all.layers_per_block),
    normGroups: Number(all.norm_num_groups),
    scalingFactor: Number(all.scaling_factor),
  }
}

export function compute(fixture: Fixture, run: Run): Results {
  const model = loaded(new AutoencoderKL(optionsOf(fixture.config), place(run)), fixture)
  const results: Results = new Map()
  setCounts(results, model)

  const image = once(() => fixture.tensor('in.image', run))
  const noise = once(() => fixture.tensor('in.posterior_noise', run))
  const posterior = once(() => model.encode(image()))
  const recon = once(() => model.decode(posterior().mean))
  results.set('out.encoder_hidden', () => model.encoder.forward(image()))
  results.set('out.moments', () => model.moments(image()))
  results.set('out.mode', () => posterior().mean)
  results.set('out.std', () => posterior().std())
  results.set('out.sample', () => posterior().sample(noise()))
  results.set('out.latent_scaled', () => model.latents(image(), noise()))
  results.set('out.kl', () => posterior().kl())
  results.set('out.decode', () => model.decode(fixture.tensor('in.z', run)))
  results.set('out.recon', recon)

  const middle = { enc: model.encoder.mid_block, dec: model.decoder.mid_block }
  const x = once(() => fixture.tensor('in.mid_x', run))
  for (const [name, { attentions, resnets }] of Object.entries(middle)) {
    for (const [i, block] of attentions.items.entries())
      results.set(`out.mid_attn${i === 0 ? '' : i}_${name}`, () => block.forward(x()))
    for (const [i, block] of resnets.items.entries())
      results.set(`out.mid_resnet${i}_${name}`, () => block.forward(x()))
  }

  const loss = once(() => add(mean(square(sub(recon(), image()))), mul(mean(posterior().kl()), 1e-3)))
  const parameters = model.stateDict()
  const named = fixture.names('grad.').filter(name => parameters.has(name))
  const gs = once(() =>
    gradients(
      loss(),
      named.map(name => parameters.get(name)!),
    ),
  )
  results.set('scalar.loss', () => meanOf(loss()))
  for (const [i, name] of named.entries()) results.set(`grad.${name}`, () => gs()[i])
  return results
}
