/** Pictures through an autoencoder: moments of the right shapes, and none that overflowed. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng, setDefaultBackend, type Tensor } from '../../core/index.ts'
import { UserError } from '../../io/user-error.ts'
import { AutoencoderKL } from '../../models/index.ts'
import type { HostState } from '../../nn/index.ts'
import { momentsOf } from '../../training/latents.ts'

setDefaultBackend(cpu)

test('latents that overflow are refused: the autoencoder may be damaged', async () => {
  const sizes = { latentChannels: 4, blockOutChannels: [8], layersPerBlock: 1, normGroups: 4 }
  const model = new AutoencoderKL(sizes, { rng: rng(1), backend: cpu })
  const images = rng(2).normalArray(3 * 8 * 8)
  const { mean, std } = await momentsOf(model, images, 8)
  assert.equal([mean.length, std.length], [256, 256])
  const state = new Map<string, Tensor | HostState>(model.stateDict())
  state.set('quant_conv.weight', { shape: [8, 8, 1, 1], data: new Float32Array(64).fill(3e38) })
  model.loadStateDict(state)
  const error = await momentsOf(model, images, 8).catch((thrown: Error) => thrown)
  assert.instance(error, UserError)
  assert.match((error as Error).message, /^encode: expected finite latents, got (NaN|-?Infinity): the autoencoder/)
})

test.run()
