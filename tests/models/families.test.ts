/**
 * Walks the families of models: official names and numbers of parameters, recognition from shapes, masks, training and
 * generation, all through their records. A new family adds one entry to `official`. Needs Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createShapes } from '../../core/backends/shapes.ts'
import {
  backward,
  noGrad,
  observe,
  profile,
  ready,
  rng,
  scope,
  setDefaultBackend,
  stats,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { toByte } from '../../data/index.ts'
import { pMeanVariance } from '../../diffusion/index.ts'
import {
  describe,
  type Family,
  families,
  familyOf,
  type GenerationRequest,
  maskDiT,
  maskDM,
  readGenerated,
  recognise,
  type State,
  samplerNames,
  seedNoise,
  type TransformerOptions,
} from '../../models/index.ts'
import { type Module, shapesOnly } from '../../nn/index.ts'
import { opened } from './opened.ts'

const wasm = await ready({ threads: 2 })
const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures', name), 'utf8'))

// ---- official names and numbers -------------------------------------------------------------------------------------

interface Count {
  readonly total: number
  readonly trainable: number
  readonly buffers: number
}

const counts: Record<string, Record<string, Count>> = read('param-counts.json')
const dicts: Record<string, readonly { readonly name: string; readonly shape: number[] }[]> = read('state-dicts.json')
const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }

/** Where the fixtures hold a family's figures, and the options that an entry's name stands for. */
interface Official {
  readonly counts: string
  options(family: Family, entry: string): TransformerOptions
  readonly dict: readonly [key: string, options: (family: Family) => TransformerOptions]
}

const s2 = (family: Family) => family.options('S/2', latents)

/** `MDT_B_2 decode_layer=2` */
function mdtOptions(family: Family, entry: string): TransformerOptions {
  const [, size, P, decodeLayer] = /_(\w+)_(\d) decode_layer=(\d)/.exec(entry)!
  return Object.assign(family.options(`${size}/${P}`, latents), { decodeLayer: Number(decodeLayer) })
}

const official: Readonly<Record<string, Official>> = {
  DiT: {
    counts: 'DiT',
    options(family, entry) {
      const [, preset, latent] = /^DiT-(\w+\/\d) .*latent (\d+)/.exec(entry)!
      return family.options(preset, { ...latents, inputSize: Number(latent) })
    },
    dict: ['DiT-S/2 (latent 32)', s2],
  },
  MDT: { counts: 'MDTv1', options: mdtOptions, dict: ['MDTv1 S/2', s2] },
  MDTv2: { counts: 'MDTv2', options: mdtOptions, dict: ['MDTv2 S/2', s2] },
  MaskDiT: {
    counts: 'MaskDiT',
    options(_, entry) {
      const [, preset, latent, decoder] = /^DiT-(\w+\/\d) latent (\d+) use_decoder=(\w+)$/.exec(entry)!
      const options = maskDiT.options(preset, { ...latents, inputSize: Number(latent) })
      return decoder === 'True' ? options : { ...options, decoder: null, maeLossCoef: 0 }
    },
    dict: ['MaskDiT EDMPrecond DiT-S/2 use_decoder mae (latent 32)', s2],
  },
  MaskDM: {
    counts: 'MaskDM',
    options: (family, entry) =>
      family.options(entry.replace(/\.yml$/, ''), maskdmPictures(entry.replace(/\.yml$/, ''))),
    dict: [
      'MaskDM MaskedUViT celebahq_base',
      family => family.options('celebahq_base', maskdmPictures('celebahq_base')),
    ],
  },
}

/** MaskDM's presets are of pictures, of a size of their own. */
function maskdmPictures(preset: string) {
  return { inputSize: maskDM.training.defaults(preset).size, inChannels: 3, numClasses: 0 }
}

const picturesOf = (family: Family, preset: string) => (family === maskDM ? maskdmPictures(preset) : latents)

const namesAndShapes = (model: Module) =>
  Array.from(model.stateDict(), ([name, { shape }]) => ({ name, shape: [...shape] }))

test('every family has official figures, a name and a command of its own', () => {
  assert.equal(
    Object.keys(official),
    families.map(({ name }) => name),
  )
  assert.is(new Set(families.map(({ command }) => command)).size, families.length)
  for (const family of families) assert.is(familyOf(family.name), family)
  assert.throws(() => familyOf('GAN'), /^familyOf: expected one of DiT, MDT, MDTv2, MaskDiT, MaskDM, got 'GAN'$/)
})

for (const family of families) {
  const { counts: room, options: optionsOf, dict } = official[family.name]
  test(`${family.name}: parameters of ${Object.keys(counts[room]).length} official models`, () => {
    for (const [entry, { total, trainable, buffers }] of Object.entries(counts[room])) {
      const model = family.make(optionsOf(family, entry), shapesOnly)
      assert.equal(model.countParameters(), { total, trainable, buffers }, entry)
      model.dispose()
    }
  })

  test(`${family.name}: names, shapes and order of an official state dict`, () => {
    const model = family.make(dict[1](family), shapesOnly)
    assert.equal(
      namesAndShapes(model),
      dicts[dict[0]].map(({ name, shape }) => ({ name, shape })),
    )
    model.dispose()
  })
}

// ---- recognition ----------------------------------------------------------------------------------------------------

/** Names and shapes of a model's state, without data. */
const shapesOf = (model: Module): State =>
  new Map(Array.from(model.stateDict(), ([name, { shape }]) => [name, { shape, data: [] }]))

for (const family of families)
  test(`${family.name}: every preset is recognised from shapes alone`, () => {
    for (const preset of family.presets) {
      const options = family.options(preset, picturesOf(family, preset))
      const model = family.make(options, shapesOnly)
      const found = recognise(shapesOf(model), 'file')
      assert.is(found.family, family, preset)
      // Presets of one size differ in nothing that a state dict holds.
      const sizes = family.options(found.preset!, picturesOf(family, found.preset!))
      const keys = ['hiddenSize', 'patchSize', 'numHeads', 'inputSize', 'inChannels', 'numClasses'] as const
      for (const key of keys) {
        assert.is(found.options[key], options[key], `${preset}: ${key}`)
        if (key !== 'inputSize') assert.is(sizes[key], options[key], `${preset}, as ${found.preset}: ${key}`)
      }
      const again = family.make(found.options, shapesOnly)
      assert.equal(namesAndShapes(again), namesAndShapes(model), preset)
      assert.ok(describe(found).startsWith(`${family.name} ${found.preset}: ${found.options.depth} blocks ×`))
      for (const each of [model, again]) each.dispose()
    }
  })

// ---- small models ---------------------------------------------------------------------------------------------------

const S = 8
const classes = 3
const small = (family: Family): TransformerOptions => ({
  ...family.options('tiny', { inputSize: S, inChannels: 3, numClasses: classes }),
  hiddenSize: 32,
  depth: 4,
  numHeads: 2,
})
const T = (S / 2) ** 2

/** The settings of a run of `tiny`. */
function settingsOf({ training }: Family) {
  const own = Object.entries(training.settings).map(([name, { default: value }]) => [
    name,
    typeof value === 'function' ? value('tiny') : value,
  ])
  return { preset: 'tiny', ...training.defaults('tiny'), size: S, ...Object.fromEntries(own) }
}

const made = (family: Family) => opened(family.make(small(family), { rng: null }), rng(2))

for (const family of families) {
  test(`${family.name}: a state dict makes an equal model, also after recognition`, async () => {
    const model = made(family)
    const state: State = new Map(
      Array.from(model.stateDict(), ([name, value]) => [name, { shape: value.shape, data: value.dataSync() }]),
    )
    const found = recognise(state, 'file', { heads: 2, decoderHeads: 4, preset: 'tiny' })
    assert.is(found.family, family)
    assert.ok(describe(found).startsWith(`${family.name}: `))
    const again = family.make(found.options, { rng: rng(9) })
    again.loadStateDict(found.state)
    const request = requestOf(family, [1, 2], { steps: 3, schedule: found.schedule ?? undefined })
    const pictures = (m: Module) => readGenerated(family.generation.generate(m, request))
    assert.equal(await pictures(again), await pictures(model))
    for (const each of [model, again]) each.dispose()
  })

  test(`${family.name}: other sizes need the heads told, another family's state is another family`, () => {
    const options = { ...small(family), hiddenSize: 40, depth: 5 }
    const state = shapesOf(family.make(options, shapesOnly))
    const told = recognise(state, 'odd.st', { heads: 2, decoderHeads: 4 })
    assert.is(told.options.numHeads, 2)
    assert.is(told.preset, null)
    try {
      // Heads of an MDT are columns of its bias tables.
      assert.is(recognise(state, 'odd.st').options.numHeads, 2)
    } catch (error) {
      assert.match(
        (error as Error).message,
        /^odd\.st: no preset has width 40 and this depth: expected --heads, which no shape tells$/,
      )
    }
    for (const other of families) if (other !== family) assert.is(other.recognise(state, 'odd.st', { heads: 2 }), null)
  })

  test(`${family.name}: bad options are one line`, () => {
    const options = small(family)
    const wrong: readonly (readonly [Partial<TransformerOptions>, RegExp])[] = [
      [{ patchSize: 3 }, /inputSize: a multiple of patchSize 3, got 8$/],
      [{ patchSize: 0 }, /patchSize: an integer from 1, got 0$/],
      [{ depth: 0 }, /depth: an integer from 1, got 0$/],
      [{ numClasses: -1 }, /numClasses: an integer from 0, got -1$/],
      [{ numHeads: 3 }, /divisible by 3 heads, got 32$/],
    ]
    for (const [change, message] of wrong)
      assert.throws(() => family.make({ ...options, ...change }, shapesOnly), message)
    for (const preset of ['XXL/2', 'constructor', ''])
      assert.throws(
        () => family.options(preset, latents),
        (error: Error) => error instanceof RangeError && error.message.endsWith(`got '${preset}'`),
        preset,
      )
  })
}

// ---- training -------------------------------------------------------------------------------------------------------

const N = 6
const pictures = (seed: number) => rng(seed).normal([N, 3, S, S])
const labels = Array.from({ length: N }, (_, n) => n % classes)

/** True if a family removes tokens in training. */
const masks = (family: Family) => 'maskRatio' in family.training.settings

/** Tokens that each attention of `run` sees. */
function tokensIn(run: () => void): number[] {
  const seen: number[] = []
  observe((op, [qkv]) => op.name === 'selfAttention' && seen.push(qkv.shape[1]), run)
  return seen
}

/** Tokens beside those of the picture. */
function extraTokens(family: Family, model: Module): number {
  const request = requestOf(family, [0], { steps: 2 })
  const [first] = tokensIn(() => void Array.from(family.generation.generate(model, request)))
  return first - T
}

for (const family of families) {
  test(`${family.name}: a masked pass sees no removed token, and every kept one`, () => {
    const model = made(family)
    const settings = settingsOf(family)
    const clean = rng(3).normalArray(3 * S * S)
    /** Queries, keys and values of the first attention of every pass, for pictures with `token` changed. */
    const first = (token: number | null) => {
      const values = clean.map((v, i) => {
        const [row, column] = [Math.floor((i % (S * S)) / S), i % S]
        return Math.floor(row / 2) * (S / 2) + Math.floor(column / 2) === token ? v + 1 : v
      })
      const images = tensor(values, { shape: [1, 3, S, S] })
      const part = { images, labels: [1], rng: rng(4), progress: 0 }
      return Array.from(family.training.passes(model, part, settings), pass => {
        const seen: { tokens: number; values: string }[] = []
        const record = (op: { readonly name: string }, [qkv]: readonly Tensor[]) => {
          if (op.name === 'selfAttention' && seen.length === 0)
            seen.push({ tokens: qkv.shape[1], values: Array.from(qkv.dataSync()).join() })
        }
        noGrad(() => scope(() => void observe(record, pass)))
        return seen[0]
      })
    }
    const extra = extraTokens(family, model)
    const before = first(null)
    const changed = Array.from({ length: T }, (_, token) =>
      first(token).map(({ values }, i) => values !== before[i].values),
    )
    before.forEach(({ tokens }, i) => {
      assert.is(changed.filter(each => each[i]).length, tokens - extra, `pass ${i}`)
    })
    assert.is(
      before.some(({ tokens }) => tokens - extra < T),
      masks(family),
    )
    model.dispose()
  })

  test(`${family.name}: learns six pictures by heart, in constant memory and without fallbacks`, async () => {
    const { training } = family
    const settings = settingsOf(family)
    const options = { ...small(family), hiddenSize: 48, numHeads: 4 }
    const model = family.make(options, { rng: rng(5) })
    const optimizer = training.optimizer(model.namedParameters(), settings)
    const images = pictures(6)
    const fallbacks = stats(wasm).fallbacks
    const [losses, bytes]: [number[], number[]] = [[], []]
    for (let step = 0; step < 80; step++) {
      const terms: Record<string, Tensor> = scope(() => {
        const reported: Record<string, Tensor> = {}
        for (const pass of training.passes(model, { images, labels, rng: rng(7), progress: 0 }, settings)) {
          const { loss, terms } = pass()
          backward(loss)
          Object.assign(reported, terms)
        }
        optimizer.step({ lr: 4e-3 })
        optimizer.zeroGrad()
        return reported
      })
      assert.equal(Object.keys(terms), [...training.terms])
      const values = Object.fromEntries(Object.entries(terms).map(([name, term]) => [name, term.dataSync()[0]]))
      for (const term of Object.values(terms)) term.dispose()
      const columns = training.columns(values, settings, 0)
      assert.ok(Object.values(columns).every(Number.isFinite))
      for (const curve of training.curves) assert.ok(curve in columns, curve)
      losses.push(columns.loss)
      bytes.push(stats(wasm).bytes)
    }
    assert.ok(losses[79] < 0.3 * losses[0], `${losses[0]} → ${losses[79]}`)
    assert.is(bytes[79], bytes[3])
    assert.is(stats(wasm).fallbacks, fallbacks)
    optimizer.dispose()
    images.dispose()
    model.dispose()
  })

  test(`${family.name}: gradients reach every trainable parameter`, () => {
    const model = made(family)
    // Weights of a label that is absent, and of the token for none, have none.
    const some = [0, 1, 2, 0, 1, 2]
    const part = { images: pictures(8), labels: some, rng: rng(9), progress: 0 }
    for (const pass of family.training.passes(model, part, settingsOf(family))) backward(scope(pass).loss)
    for (const [name, p] of model.namedParameters()) {
      const trained = p.grad?.dataSync().some(v => v !== 0) ?? false
      const expected = p.requiresGrad && !name.endsWith('uncond_embed')
      assert.is(trained, expected, name)
    }
    model.dispose()
  })

  test(`${family.name}: the cost is that of the products that run`, () => {
    const backend = createShapes({ fused: true })
    setDefaultBackend(backend)
    const options = family.options('tiny', { inputSize: 16, inChannels: 3, numClasses: classes })
    const model = family.make(options, { rng: null, backend })
    const counted = (run: () => void) =>
      profile(run)
        .filter(({ op }) => ['matmul', 'linear', 'linearWeightGrad', 'selfAttention', 'selfAttentionGrad'].includes(op))
        // Attention's gradient computes its logits again: 5 products, of which 4 are those of a gradient.
        .reduce((sum, { op, flops }) => sum + (op === 'selfAttentionGrad' ? 0.8 : 1) * flops, 0)
    const images = rng(1).normal([N, 3, 16, 16], { backend })
    const settings = { ...settingsOf(family), size: 16 }
    const step = () =>
      scope(() => {
        for (const pass of family.training.passes(model, { images, labels, rng: rng(2), progress: 0 }, settings))
          backward(pass().loss)
      })
    const [, request] = [
      0,
      requestOf(
        family,
        Array.from(labels, (_, n) => n),
        { steps: 2, sampler: 'euler' },
      ),
    ]
    const [first] = tokensIn(() => void Array.from(family.generation.generate(model, request)))
    const extra = first - 64
    const kept = Math.min(...tokensIn(step)) - extra
    const { forward: one, step: whole } = family.cost(options, N, 1 - kept / 64)
    const forward = counted(() => void Array.from(family.generation.generate(model, request))) / 2
    for (const [what, ratio] of [
      ['forward', forward / one],
      ['step', counted(step) / whole],
    ] as const)
      assert.ok(ratio > 0.985 && ratio < 1.005, `${what}: ${ratio}`)
    setDefaultBackend(wasm)
  })
}

// ---- generation -----------------------------------------------------------------------------------------------------

function requestOf(
  family: Family,
  seeds: readonly number[],
  change: Partial<GenerationRequest> = {},
): GenerationRequest {
  return { seeds, labels: seeds.map(seed => seed % classes), ...family.generation.defaults, clip: true, ...change }
}

for (const family of families) {
  const { samplers, guidance, defaults, generate } = family.generation
  const cases: readonly (readonly [string, Partial<GenerationRequest>])[] = [
    ...samplers.map(sampler => [sampler, { sampler }] as const),
    ...(guidance === null ? [] : [['guided', { guidance: { scale: 3 } }] as const]),
    ...(guidance?.power ? [['guided by a power', { guidance: { scale: 3, power: 2 } }] as const] : []),
  ]
  for (const [name, how] of cases)
    test(`${family.name}, ${name}: a picture is that of its seed, alone and among others`, async () => {
      const model = made(family)
      const size = 3 * S * S
      const generated = async (seeds: readonly number[]) => {
        const values = await readGenerated(generate(model, requestOf(family, seeds, { steps: 5, ...how })))
        assert.is(values!.length, seeds.length * size)
        return seeds.map((_, n) => values!.subarray(n * size, (n + 1) * size))
      }
      const before = stats(wasm).bytes
      const together = await generated([5, 6, 7])
      const [alone] = await generated([7])
      const [other, again] = await generated([8, 5])
      assert.is(stats(wasm).bytes, before, 'bytes left behind')
      for (const [one, same] of [
        [together[2], alone],
        [together[0], again],
      ])
        assert.equal(Array.from(one, toByte), Array.from(same, toByte))
      assert.ok(Math.max(...other.map((v, i) => Math.abs(v - alone[i]))) > 0.05, 'another seed gives another picture')
      assert.ok(alone.every(Number.isFinite))
      if (how.guidance !== undefined) {
        const values = await readGenerated(generate(model, requestOf(family, [7], { steps: 5 })))
        assert.not.equal(values, alone, 'guidance changes the picture')
      }
      model.dispose()
    })

  const { inpainting } = family.generation
  if (inpainting !== undefined)
    test(`${family.name}: with one step, every sampler goes from the last timestep to the x_0 predicted there`, async () => {
      const model = made(family)
      const seeds = [5, 6]
      const d = inpainting.diffusion(model)
      const request = requestOf(family, seeds, { steps: 1 })
      const noise = seedNoise(seeds, [3, S, S])()
      const t = Int32Array.of(999, 999)
      const output = inpainting.network(model, request.labels)(noise, t)
      const expected = pMeanVariance(d, output, noise, t, { clip: true }).predXStart.dataSync()
      for (const sampler of samplers) {
        const got = (await readGenerated(generate(model, { ...request, sampler })))!
        assert.ok(
          got.every((value, i) => Math.abs(value - expected[i]) < 1e-3),
          sampler,
        )
      }
      model.dispose()
    })

  test(`${family.name}: other samplers are refused; a generation that is stopped leaves nothing`, async () => {
    const model = made(family)
    assert.ok(samplers.includes(defaults.sampler))
    for (const sampler of samplerNames)
      if (!samplers.includes(sampler))
        assert.throws(
          () => generate(model, requestOf(family, [1], { sampler })).next(),
          (error: Error) => error instanceof RangeError && error.message.includes(`got ${sampler}`),
        )
    const before = stats(wasm).bytes
    let asked = 0
    const stopped = await readGenerated(generate(model, requestOf(family, [1])), async () => ++asked === 2)
    assert.equal([stopped, asked, stats(wasm).bytes], [null, 2, before])
    model.dispose()
  })
}

test.run()
