/** Models of latents: moments that an autoencoder gives, and settings that follow from the latents' size. Needs Node. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng, setDefaultBackend, type Tensor } from '../../core/index.ts'
import { UserError } from '../../io/user-error.ts'
import { AutoencoderKL, maskDM } from '../../models/index.ts'
import type { HostState } from '../../nn/index.ts'
import { newSettings } from '../../training/index.ts'
import { momentsOf, picturesOf, showGenerated } from '../../training/latents.ts'

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

test("a crop by its ratio is sized on the latents' grid, not on that of the pictures", () => {
  const folder = mkdtempSync(join(tmpdir(), 'demask-latents-'))
  try {
    const vae = { file: 'vae.safetensors', sha256: '0', from: 'vae', scalingFactor: 1 }
    const index = {
      format: 'demask latents 1',
      data: 'pets',
      size: 64,
      shape: [4, 16, 16],
      classes: [],
      shards: [],
      vae,
    }
    writeFileSync(join(folder, 'index.json'), JSON.stringify(index))
    const { pictures, inputSize } = picturesOf({ latents: folder })
    assert.equal([pictures, inputSize], [{ latents: folder, data: 'pets', size: 64 }, 16])
    const given = { ...pictures, preset: 'tiny', mask: 'crop', maskRatio: 0.5 } as const
    assert.is(newSettings(maskDM, given, inputSize).maskSize, 5) // 25 of 8 × 8 patches of 2
    assert.is(newSettings(maskDM, { ...given, latents: null }).maskSize, 22) // 484 of 32 × 32
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('pictures of classes stand in columns of their own, as long as a row has room for them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'demask-grid-'))
  try {
    const path = join(folder, 'grid.png')
    const drawn = { values: new Float32Array(24 * 3 * 48 * 48), shape: [24, 3, 48, 48] } as const
    for (const [classes, columns] of [
      [0, 12],
      [5, 10],
      [7, 7],
      [12, 12],
      [13, 12],
    ]) {
      await showGenerated(path, drawn, { decode: null, classes })
      assert.is((await sharp(path).metadata()).width, 49 * columns - 1, `${classes} classes`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.run()
