/**
 * AutoencoderKL beyond parity: official names and sizes, older names, memory, gradients, training.
 * Needs Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  type Backend,
  backward,
  cpu,
  gradients,
  type Kernels,
  mean,
  mul,
  noGrad,
  observe,
  rng,
  type Spec,
  type Storage,
  scope,
  shapes,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  DiagonalGaussian,
  stableDiffusionVae,
} from '../../models/autoencoder-kl.ts'
import { activated, activatedInStrips, conv3, groupNormOf } from '../../models/autoencoder-kl-blocks.ts'
import {
  autoencoderConfig,
  autoencoderOptions,
  autoencoderOptionsOfShapes,
  autoencoderPresetNames,
  autoencoderPresets,
} from '../../models/autoencoder-kl-config.ts'
import { AdamW, type HostState, shapesOnly } from '../../nn/index.ts'
import { leavesNothing } from '../core/helpers.ts'
import { f64, near, normal } from '../near.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures', name), 'utf8'))

// ---- official names and sizes ---------------------------------------------------------------------------------------

test('sizes of the presets that are not official ones', () => {
  const sizes = (['tiny', 'small'] as const).map(
    name => new AutoencoderKL(autoencoderPresets[name], shapesOnly).countParameters().total,
  )
  assert.equal(sizes, [954_567, 10_757_543])
})

test("names, shapes, order and number of Stable Diffusion's parameters", () => {
  const model = new AutoencoderKL(stableDiffusionVae, shapesOnly)
  assert.equal(
    Array.from(model.stateDict(), ([name, { shape }]) => ({ name, shape: [...shape] })),
    read('state-dicts.json')['AutoencoderKL sd-vae-ft'],
  )
  const wanted = read('param-counts.json').AutoencoderKL
  const { total, trainable, buffers } = wanted['sd-vae-ft-ema / sd-vae-ft-mse config']
  assert.equal(model.countParameters(), { total, trainable, buffers })
  assert.is(total, 83_653_863)
  const count = (...parts: { countParameters(): { total: number } }[]) =>
    parts.reduce((n, part) => n + part.countParameters().total, 0)
  assert.is(count(model.encoder, model.quant_conv), wanted['encoder+quant_conv'].total)
  assert.is(count(model.decoder, model.post_quant_conv), wanted['decoder+post_quant_conv'].total)
  assert.is(model.scalingFactor, 0.18215)
  assert.is(model.downsampling, 8)
  model.dispose()
})

const small: AutoencoderKLOptions = {
  inChannels: 2,
  outChannels: 3,
  latentChannels: 2,
  blockOutChannels: [4, 6, 8],
  layersPerBlock: 2,
  normGroups: 2,
}

const hostState = (model: AutoencoderKL): Map<string, HostState> =>
  new Map(Array.from(model.stateDict(), ([name, x]) => [name, { shape: x.shape, data: x.dataSync() }]))

test('older names and shapes of the attention load as the present ones', () => {
  const model = new AutoencoderKL(small, { rng: rng(1), ...f64 })
  const former = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' }
  for (const [asConv, renamed] of [
    [false, true],
    [true, true],
    [true, false],
  ]) {
    const older = new Map<string, HostState>()
    let changed = 0
    for (const [name, { shape, data }] of hostState(model)) {
      const part = Object.keys(former).find(key => name.includes(`.attentions.0.${key}.`)) as keyof typeof former
      const olderName = part !== undefined && renamed ? name.replace(part, former[part]) : name
      const convolves = asConv && part !== undefined && name.endsWith('weight')
      if (olderName !== name || convolves) changed++
      older.set(olderName, { shape: convolves ? [...shape, 1, 1] : shape, data })
    }
    assert.is(changed, renamed ? 16 : 8)
    const other = new AutoencoderKL(small, { rng: null, ...f64 })
    other.loadStateDict(older)
    for (const [name, x] of other.stateDict()) near(x, model.stateDict().get(name)!, 0, name)
    // From tensors on the device as well.
    const tensors = new Map(Array.from(older, ([name, { data, shape }]) => [name, tensor(data, { shape, ...f64 })]))
    const third = new AutoencoderKL(small, { rng: null, ...f64 })
    leavesNothing(() => third.loadStateDict(tensors))
    for (const [name, x] of third.stateDict()) near(x, model.stateDict().get(name)!, 0, name)
    for (const held of [other, third, ...tensors.values()]) held.dispose()
  }
  const wrong = hostState(model)
  const key = 'decoder.mid_block.attentions.0.to_q.weight'
  wrong.set(key, { ...wrong.get(key)!, shape: [8, 8, 2, 1] })
  wrong.delete('quant_conv.bias')
  assert.throws(
    () => model.loadStateDict(wrong),
    /missing: quant_conv\.bias; of another shape: decoder\.mid_block.*8, 2/,
  )
  model.dispose()
})

test('which sizes, by a config as diffusers has it, or by shapes', () => {
  const published = {
    _class_name: 'AutoencoderKL',
    _diffusers_version: '0.4.2',
    act_fn: 'silu',
    block_out_channels: [128, 256, 512, 512],
    down_block_types: Array(4).fill('DownEncoderBlock2D'),
    in_channels: 3,
    latent_channels: 4,
    layers_per_block: 2,
    norm_num_groups: 32,
    out_channels: 3,
    sample_size: 256,
    up_block_types: Array(4).fill('UpDecoderBlock2D'),
  }
  const wanted = { ...stableDiffusionVae, inChannels: 3, outChannels: 3, scalingFactor: 0.18215 }
  assert.equal(autoencoderOptions(published), wanted)
  const state: { name: string; shape: number[] }[] = read('state-dicts.json')['AutoencoderKL sd-vae-ft']
  const shapesByName = new Map(state.map(({ name, shape }) => [name, { shape }]))
  assert.equal(autoencoderOptionsOfShapes(shapesByName), wanted)
  for (const name of autoencoderPresetNames) {
    const options = { ...wanted, ...autoencoderPresets[name], scalingFactor: 0.3 }
    assert.equal(autoencoderOptions(JSON.parse(JSON.stringify(autoencoderConfig(options)))), options)
  }
  // Presets default to Stable Diffusion's values.
  const { in_channels, out_channels, scaling_factor } = autoencoderConfig(autoencoderPresets.tiny)
  assert.equal([in_channels, out_channels, scaling_factor], [3, 3, 0.18215])
  const uneven = new Map(new AutoencoderKL({ ...small, normGroups: 1 }, shapesOnly).stateDict())
  assert.equal(autoencoderOptionsOfShapes(uneven), { ...small, normGroups: 32, scalingFactor: 0.18215 })

  for (const [config, message] of [
    [[], /config: expected an object, got \[\]/],
    [{ _class_name: 'VQModel' }, /config: _class_name: expected AutoencoderKL, got "VQModel"/],
    [
      { up_block_types: ['UpDecoderBlock2D', 'AttnUp'] },
      /config: up_block_types: expected UpDecoderBlock2D, got "AttnUp"/,
    ],
    [{ latent_channels: 16, shift_factor: 0.1159 }, /config: shift_factor: expected null, got 0.1159/],
    [{ layers_per_block: 1.5 }, /config: layers_per_block: expected whole numbers from 1, got \[1\.5\]/],
    [{ scaling_factor: 0 }, /config: scaling_factor: expected numbers above 0, got \[0\]/],
  ] as const)
    assert.throws(() => autoencoderOptions(config), message)
  shapesByName.delete('post_quant_conv.weight')
  assert.throws(() => autoencoderOptionsOfShapes(shapesByName), /post_quant_conv\.weight with 4 axes, got none/)
})

// ---- shapes, posterior ----------------------------------------------------------------------------------------------

test('pictures that are not square, sides that do not halve evenly, and what does not fit', () => {
  const model = new AutoencoderKL(small, { rng: rng(2), ...f64 })
  noGrad(() =>
    leavesNothing(() => {
      assert.equal(model.moments(zeros([2, 2, 8, 12], f64)).shape, [2, 4, 2, 3])
      assert.equal(model.encode(zeros([1, 2, 9, 15], f64)).mean.shape, [1, 2, 2, 3])
      assert.equal(model.decode(zeros([2, 2, 3, 1], f64)).shape, [2, 3, 12, 4])
    }),
  )
  assert.throws(() => model.encode(zeros([1, 3, 8, 8], f64)), /encode: expected \[N, 2, H, W\].*got \[1, 3, 8, 8\]/)
  assert.throws(() => model.encode(zeros([1, 2, 8, 3], f64)), /H and W at least 4, got \[1, 2, 8, 3\]/)
  assert.throws(() => model.decode(zeros([2, 8, 8], f64)), /decode: expected \[N, 2, H, W\], got \[2, 8, 8\]/)
  const odd = { ...small, blockOutChannels: [4, 7] }
  assert.throws(() => new AutoencoderKL(odd, { rng: null, ...f64 }), /divisible into 2 groups .*got 7/)
  model.dispose()
})

test('the posterior: standard deviation, draw, divergence, and logarithms that are clamped', () => {
  const moments = tensor([1, -2, 0.5, 3, 0, -1, 40, -50], { shape: [2, 2, 1, 2], ...f64 })
  const q = new DiagonalGaussian(moments)
  assert.equal([...q.mean.dataSync()], [1, -2, 0, -1])
  assert.equal([...q.logvar.dataSync()], [0.5, 3, 20, -30])
  const sd = [0.25, 1.5, 10, -15].map(Math.exp)
  near(q.std(), tensor(sd, { shape: [2, 1, 1, 2], ...f64 }), 1e-9, 'std')
  const noise = tensor([1, 2, 0.5, -1], { shape: [2, 1, 1, 2], ...f64 })
  const drawn = [1 + sd[0], -2 + 2 * sd[1], sd[2] / 2, -1 - sd[3]]
  near(q.sample(noise), tensor(drawn, { shape: [2, 1, 1, 2], ...f64 }), 1e-9, 'sample')
  const kl = (m: number, v: number) => (m * m + Math.exp(v) - 1 - v) / 2
  near(q.kl(), tensor([kl(1, 0.5) + kl(-2, 3), kl(0, 20) + kl(-1, -30)], f64), 1e-6, 'kl')
  near(new DiagonalGaussian(zeros([3, 4, 2, 2], f64)).kl(), zeros([3], f64), 0, 'kl of the standard normal')
})

test('latents are scaled draws, and pictures are decoded from them', () => {
  const model = new AutoencoderKL({ ...small, inChannels: 3, scalingFactor: 0.5 }, { rng: rng(3), ...f64 })
  const [x, noise] = [normal(4, 1, 3, 8, 8), normal(5, 1, 2, 2, 2)]
  noGrad(() =>
    leavesNothing(() => {
      const z = model.encode(x).sample(noise)
      near(model.latents(x, noise), mul(z, 0.5), 1e-15, 'latents')
      near(model.pictures(mul(z, 0.5)), model.decode(z), 1e-12, 'pictures')
    }),
  )
  model.dispose()
})

// ---- memory ----------------------------------------------------------------------------------------------------------

/** A backend that holds no values, like `shapes`, and counts what would be held. It has the fused kernels of `wasm`. */
function counting(): Backend {
  const now = { bytes: 0, peakBytes: 0, storages: 0 }
  const make = ({ dtype, length }: Pick<Storage, 'dtype' | 'length'>): Storage => {
    now.bytes += 4 * length
    now.storages++
    now.peakBytes = Math.max(now.peakBytes, now.bytes)
    return { backend, dtype, length, version: 0, holds: 0 }
  }
  const like = ({ dtype, shape }: Spec) => make({ dtype, length: shape.reduce((n, size) => n * size, 1) })
  const plain = Object.entries(shapes.kernels).map(([name, kernel]) => {
    const run = kernel as unknown as (...x: readonly unknown[]) => Storage
    return [name, (...x: readonly unknown[]) => make(run(...x))]
  })
  const backend: Backend = {
    ...shapes,
    name: 'counting',
    kernels: {
      ...(Object.fromEntries(plain) as unknown as Kernels),
      conv2d: (_, __, ___, ____, out) => like(out),
      linear: (_, __, ___, out) => like(out),
      layerNorm: (_, __, ___, ____, out) => like(out),
      selfAttention: (_, __, ___, out) => like(out),
    },
    alloc: (dtype, length) => make({ dtype, length }),
    free: ({ length }) => {
      now.bytes -= 4 * length
      now.storages--
    },
    stats: () => ({ ...now, fallbacks: 0, reads: 0 }),
    resetPeak: () => {
      now.peakBytes = now.bytes
    },
  }
  return backend
}

test("Stable Diffusion's decoder: 512² within 0.9 GiB, weights included, and nothing is left behind", () => {
  const backend = counting()
  const model = new AutoencoderKL(stableDiffusionVae, { rng: null, backend })
  const weights = backend.stats().bytes
  assert.is(weights, 4 * 83_653_863)
  const peakOf = (run: () => Tensor) => {
    backend.resetPeak()
    noGrad(() => leavesNothing(() => void run(), backend))
    return backend.stats().peakBytes
  }
  const latents = (side: number) => zeros([1, 4, side, side], { backend })
  const pictures = (side: number) => zeros([1, 3, side, side], { backend })
  const MiB = 2 ** 20
  assert.ok(peakOf(() => model.decode(latents(32))) < 640 * MiB)
  assert.ok(peakOf(() => model.decode(latents(64))) < 0.9 * 1024 * MiB)
  assert.ok(peakOf(() => model.moments(pictures(512))) < 1024 * MiB)
  model.dispose()
  assert.is(backend.stats().bytes, 0)
})

test('group norm, SiLU and a convolution in strips are those of the whole image', () => {
  const [norm, conv] = [groupNormOf(4, 8, { rng: rng(1), ...f64 }), conv3(8, 3, { rng: rng(2), ...f64 })]
  noGrad(() =>
    leavesNothing(() => {
      const x = add(normal(3, 2, 8, 7, 6), 3)
      let convolutions = 0
      const count = ({ name }: { readonly name: string }) => void (name === 'conv2d' && convolutions++)
      const inStrips = observe(count, () => activatedInStrips(x, norm, conv, 200))
      assert.is(convolutions, 4) // of two rows, 2 × 8 × 6 elements each
      near(inStrips, activated(norm, conv)(x, false), 1e-12, 'in strips')
    }),
  )
  for (const layer of [norm, conv]) layer.dispose()
})

test('the memory that is counted is that which wasm takes', () => {
  const backend = counting()
  const options = { ...stableDiffusionVae, blockOutChannels: [32, 32, 64] }
  const peaks = [backend, wasm].map(on => {
    const model = new AutoencoderKL(options, { rng: null, backend: on })
    on.resetPeak()
    noGrad(() => scope(() => void model.decode(zeros([1, 4, 16, 16], { backend: on }))))
    const { peakBytes } = on.stats()
    model.dispose()
    return peakBytes
  })
  assert.ok(Math.abs(peaks[1] / peaks[0] - 1) < 0.01, `counted ${peaks[0]}, wasm ${peaks[1]}`)
})

// ---- gradients and training -----------------------------------------------------------------------------------------

/** Reconstruction and divergence, as for training. */
function lossOf(model: AutoencoderKL, x: Tensor, noise: Tensor): Tensor {
  const q = model.encode(x)
  return add(mean(square(sub(model.decode(q.sample(noise)), x))), mul(mean(q.kl()), 1e-3))
}

test('the gradient by every parameter and by the picture, along a random direction', () => {
  const model = new AutoencoderKL({ ...small, inChannels: 3, blockOutChannels: [4, 6] }, { rng: rng(6), ...f64 })
  const [x, noise] = [normal(7, 2, 3, 6, 4).requireGrad(), normal(8, 2, 2, 3, 2)]
  const inputs = [...model.parameters(), x]
  const found = gradients(lossOf(model, x, noise), inputs)
  assert.ok(found.every((g, i) => g.dataSync().some(v => v !== 0) || inputs[i].shape.length === 1))
  const start = inputs.map(p => p.dataSync().slice())
  const directions = inputs.map((p, i) => normal(100 + i, ...p.shape))
  const along = noGrad(() => scope(() => directions.reduce((s, d, i) => s + sum(mul(d, found[i])).dataSync()[0], 0)))
  const at = (h: number) => {
    for (const [i, p] of inputs.entries()) {
      const d = directions[i].dataSync()
      cpu.write(
        p.storage,
        Float64Array.from(start[i], (v, j) => v + h * d[j]),
      )
    }
    return noGrad(() => scope(() => lossOf(model, x, noise).dataSync()[0]))
  }
  const h = 1e-4
  const numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
  assert.ok(Math.abs(along / numeric - 1) < 1e-7, `${along} against ${numeric}`)
  model.dispose()
})

test('a small one learns to reproduce a picture', () => {
  const options = { latentChannels: 4, blockOutChannels: [16, 32], layersPerBlock: 1, normGroups: 8 }
  const model = new AutoencoderKL(options, { rng: rng(9) })
  const random = rng(10)
  const optimizer = new AdamW(model.namedParameters(), { lr: 3e-3, weightDecay: 0 })
  const picture = Float32Array.from({ length: 3 * 8 * 8 }, (_, i) => (Math.floor(i / 4) % 2 === 0 ? 0.8 : -0.8))
  const x = tensor(picture, { shape: [1, 3, 8, 8] })
  const losses: number[] = []
  for (let step = 0; step < 40; step++)
    scope(() => {
      const loss = lossOf(model, x, random.normal([1, 4, 4, 4]))
      backward(loss)
      optimizer.step()
      model.zeroGrad()
      losses.push(loss.dataSync()[0])
    })
  assert.ok(losses.at(-1)! < losses[0] / 5, losses.map(l => l.toFixed(3)).join(' '))
  model.dispose()
  optimizer.dispose()
  x.dispose()
})

test.run()
