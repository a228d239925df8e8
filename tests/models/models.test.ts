/**
 * DiT and MDT beyond parity and the walk of families.test.ts: presets, first values, masks, labels, checkpointing.
 */

import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  type Backend,
  backward,
  checkpoint,
  cpu,
  type DType,
  mean,
  observe,
  rng,
  scope,
  square,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import { linearBetas } from '../../diffusion/betas.ts'
import { gaussianDiffusion } from '../../diffusion/gaussian.ts'
import type { LossOptions } from '../../diffusion/losses.ts'
import { tokenMask } from '../../diffusion/masking.ts'
import { DiT, DiTBlock, type TransformerOptions } from '../../models/dit.ts'
import { MDT, type MDTOptions, MDTv2 } from '../../models/mdt.ts'
import { mdtLoss, mdtPasses, mdtTerms, sampleMDTInputs } from '../../models/mdt-loss.ts'
import { gridIn, mdtPreset, presetNames, samplesIn, tinyFor, trainingDefaults } from '../../models/presets.ts'
import { shapesOnly } from '../../nn/index.ts'
import { near } from '../near.ts'
import { opened } from './opened.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

// ---- presets -----------------------------------------------------------------------------------------------------------

test('presets', () => {
  assert.is(presetNames.length, 15)
  const pictures = { inputSize: 16, inChannels: 3, numClasses: 0 }
  for (const name of presetNames) {
    const options = mdtPreset(name, { ...pictures, inputSize: 32 })
    assert.is(options.numClasses, 0)
    trainingDefaults(name)
  }
  const tiny = new MDT(mdtPreset('tiny', pictures), shapesOnly)
  assert.ok(Math.abs(tiny.countParameters().total / 2.2e6 - 1) < 0.03, String(tiny.countParameters().total))
  assert.is(tiny.y_embedder, null)
  const common = { size: 16, weightDecay: 0, maxNorm: null, flip: true }
  const tinys = { ...common, batch: 64, lr: 2e-3, warmUpSteps: 100, emaDecay: 0.999, labels: 'no' }
  assert.equal(trainingDefaults('tiny'), tinys)
  assert.equal(trainingDefaults('tiny/8'), { ...tinys, size: 64, batch: 16, labels: 'yes' })
  assert.equal(['tiny', 'tiny/4', 'S/2'].map(samplesIn), [96, 24, 24])
  assert.equal(gridIn('tiny/4', true), { sampler: 'ddpm', steps: 100, guidance: { scale: 4 } })
  assert.equal(gridIn('tiny/8', false), { sampler: 'ddpm', steps: 100 })
  for (const name of ['tiny', 'S/2']) assert.equal(gridIn(name, true), {})
  const chosen = {
    1: 'tiny',
    8: 'tiny',
    16: 'tiny',
    18: 'tiny',
    28: 'tiny/4',
    32: 'tiny/4',
    64: 'tiny/8',
    256: 'tiny/8',
  }
  for (const [side, name] of Object.entries(chosen)) assert.is(tinyFor(Number(side)), name, side)
  assert.is(trainingDefaults('S/2').lr, 6e-4)
  const larges = { ...common, batch: 16, lr: 3e-4, warmUpSteps: 0, emaDecay: 0.9999, labels: 'yes' }
  for (const name of ['L/2', 'H/4']) assert.equal(trainingDefaults(name), larges)
  assert.throws(() => mdtPreset('M/2', pictures), /preset: expected one of tiny, tiny\/4, tiny\/8, S\/2, .*got 'M\/2'/)
  assert.throws(() => trainingDefaults('constructor'), RangeError)
})

// ---- small models ---------------------------------------------------------------------------------------------------

const small: MDTOptions = {
  inputSize: 8,
  patchSize: 2,
  inChannels: 3,
  hiddenSize: 16,
  depth: 4,
  numHeads: 2,
  numClasses: 5,
  maskRatio: 0.5,
  decodeLayer: 2,
}

interface Place {
  readonly backend: Backend
  readonly dtype: DType
}
const f64: Place = { backend: cpu, dtype: 'f64' }

const versions = [
  ['MDT', (o: MDTOptions, place: Place) => new MDT(o, { rng: rng(1), ...place })],
  ['MDTv2', (o: MDTOptions, place: Place) => new MDTv2(o, { rng: rng(1), ...place })],
] as const

const pictures = (N: number, o: TransformerOptions, place: Place, seed = 2) =>
  rng(seed).normal([N, o.inChannels, o.inputSize, o.inputSize], place)

test('a new model gives 0, whatever it is given, and has the official first values', () => {
  for (const model of [new DiT(small, { rng: rng(1), ...f64 }), ...versions.map(([, make]) => make(small, f64))]) {
    const y = model.forward(pictures(2, small, f64), [3, 900], [0, 4])
    assert.equal(y.shape, [2, 6, 8, 8])
    assert.ok(y.dataSync().every(v => v === 0))
    for (const [name, p] of model.namedParameters()) {
      const values = [...p.dataSync()]
      const most = Math.max(...values.map(Math.abs))
      const spread = Math.sqrt(values.reduce((s, v) => s + v * v, 0) / values.length)
      if (/bias$|adaLN_modulation|final_layer/.test(name)) assert.is(most, 0, name)
      else if (/pos_embed/.test(name)) assert.is(most, 1, name)
      else if (/t_embedder|embedding_table|bias_table|mask_token/.test(name))
        assert.ok(spread > 0.01 && spread < 0.03, `${name}: ${spread}`)
      else {
        const [out, ...rest] = p.shape
        const bound = Math.sqrt(6 / (out + rest.reduce((n, d) => n * d, 1)))
        assert.ok(most <= bound && most > 0.9 * bound, `${name}: ${most} of ${bound}`)
      }
    }
  }
})

test('sizes of all kinds: batch, patch, heads, MLP, channels, classes, sigma', () => {
  fc.assert(
    fc.property(
      fc.record({
        patchSize: fc.constantFrom(1, 2, 3, 4),
        tokens: fc.integer({ min: 1, max: 4 }),
        inChannels: fc.integer({ min: 1, max: 5 }),
        heads: fc.constantFrom(1, 2, 4),
        depth: fc.integer({ min: 1, max: 5 }),
        decode: fc.integer({ min: 1, max: 5 }),
        mlpRatio: fc.constantFrom(1, 2.3, 4),
        numClasses: fc.constantFrom(0, 1, 7),
        classDropoutProb: fc.constantFrom(0, 0.1),
        learnSigma: fc.boolean(),
        N: fc.integer({ min: 1, max: 3 }),
      }),
      ({ tokens, heads, decode, N, ...rest }) => {
        const o: MDTOptions = {
          ...rest,
          inputSize: tokens * rest.patchSize,
          hiddenSize: 4 * heads,
          numHeads: heads,
          decodeLayer: Math.min(decode, rest.depth),
          maskRatio: 0.4,
        }
        scope(() => {
          const init = { rng: rng(3), ...f64 }
          for (const model of [new DiT(o, init), new MDT(o, init), new MDTv2(o, init)]) {
            const labels = o.numClasses > 0 ? new Array<number>(N).fill(o.numClasses - 1) : null
            const y = opened(model, rng(4)).forward(pictures(N, o, f64), new Int32Array(N), labels)
            assert.equal(y.shape, [N, o.inChannels * (o.learnSigma ? 2 : 1), o.inputSize, o.inputSize])
            assert.ok(y.dataSync().every(Number.isFinite))
            model.dispose()
          }
        })
      },
    ),
    { numRuns: 25, seed: 5 },
  )
})

test('without a label: the row for none, or no table at all', () => {
  const model = opened(new MDT(small, { rng: null, ...f64 }), rng(6))
  const [x, t] = [pictures(2, small, f64), [5, 700]]
  near(model.forward(x, t), model.forward(x, t, [5, 5]), 0)
  const plain = opened(new DiT({ ...small, numClasses: 0, classDropoutProb: 0 }, { rng: null, ...f64 }), rng(6))
  assert.not.ok([...plain.stateDict().keys()].some(name => name.startsWith('y_embedder')))
  assert.equal(plain.forward(x, t).shape, [2, 6, 8, 8])
  assert.throws(() => plain.forward(x, t, [0, 0]), /expected no labels/)
  const always = new DiT({ ...small, classDropoutProb: 0 }, { rng: null, ...f64 })
  assert.throws(() => always.forward(x, t), /labels: expected integers in \[0, 4\], got 5/)
})

test('bad input is one line that says what was wanted and what came', () => {
  const init = { rng: null, ...f64 }
  const make = (change: Partial<MDTOptions>) => () => new MDT({ ...small, ...change }, init)
  const wrong: readonly [() => unknown, RegExp][] = [
    [make({ patchSize: 3 }), /^MDT: expected inputSize: a multiple of patchSize 3, got 8$/],
    [make({ inputSize: 0 }), /^MDT: expected inputSize: a multiple of patchSize 2, got 0$/],
    [make({ patchSize: 0 }), /^MDT: expected patchSize: an integer from 1, got 0$/],
    [make({ depth: 0 }), /^MDT: expected depth: an integer from 1, got 0$/],
    [make({ numClasses: -1 }), /^MDT: expected numClasses: an integer from 0, got -1$/],
    [make({ numHeads: 3 }), /^MDT: expected a width divisible by 3 heads, got 16$/],
    [make({ hiddenSize: 18, numHeads: 2 }), /^MDT: expected a width divisible by 4, got 18$/],
    [() => new DiT({ ...small, hiddenSize: 18, numHeads: 2 }, init), /^DiT: expected a width divisible by 4, got 18$/],
    [() => new MDTv2({ ...small, numHeads: 3 }, init), /^MDTv2: expected a width divisible by 3 heads, got 16$/],
    [
      () => new DiTBlock({ hiddenSize: 6, numHeads: 4 }, init),
      /^DiTBlock: expected a width divisible by 4 heads, got 6$/,
    ],
    [make({ maskRatio: 1 }), /^MDT: maskRatio: expected a number in \[0, 1\) or null, got 1$/],
    [make({ maskRatio: -0.1 }), /maskRatio.*got -0\.1/],
    [make({ maskRatio: Number.NaN }), /maskRatio.*got NaN/],
    [make({ decodeLayer: 5 }), /^MDT: decodeLayer: expected an integer in \[1, 4\], got 5$/],
    [make({ decodeLayer: 0 }), /decodeLayer.*got 0/],
    [() => new MDTv2({ ...small, maskRatio: 0.85 }, init), /^MDTv2: maskRatio: expected at most 0\.8, .*got 0\.85$/],
  ]
  for (const [run, message] of wrong) assert.throws(run, message)

  const model = new MDT(small, init)
  const x = pictures(2, small, f64)
  const t = [1, 2]
  const few = tensor(new Float64Array(2 * 3 * 4 * 4), { shape: [2, 3, 4, 4], ...f64 })
  const none = tokenMask(new Float32Array(32), [2, 16], 0.95, f64)
  assert.is(none.kept, 0)
  const given: readonly [() => unknown, RegExp][] = [
    [() => model.forward(few, t), /^MDT: expected x \[N, 3, 8, 8\], got \[2, 3, 4, 4\]$/],
    [() => model.forward(x, [1]), /^MDT: expected a timestep for each of 2 pictures, got 1$/],
    [() => model.forward(x, t, [0]), /^MDT: expected a label for each of 2 pictures, got 1$/],
    [() => model.forward(x, t, [0, 6]), /labels: expected integers in \[0, 5\], got 6/],
    [() => model.forward(x, t, [-1, 0]), /got -1/],
    [() => model.forward(x, t, null, none), /^MDT: expected a mask that keeps a token, got one that keeps none$/],
  ]
  for (const [run, message] of given) assert.throws(run, message)
  const maskless = new MDT({ ...small, maskRatio: null }, init)
  assert.is(maskless.countParameters().total - maskless.countParameters().trainable, 16)
  assert.throws(
    () => maskless.forward(x, t, null, maskless.sampleMask(2, rng(0))),
    /expected no mask, as maskRatio is null/,
  )
})

// ---- masks ----------------------------------------------------------------------------------------------------------

for (const [name, make] of versions) {
  test(`${name}: a mask that keeps all tokens, in any order, changes nothing`, () => {
    const model = opened(make(small, f64), rng(7))
    const x = pictures(2, small, f64)
    const mask = tokenMask(rng(8).uniformArray(32), [2, 16], 0, f64)
    const [whole, masked] = [model.forward(x, [4, 600], [1, 2]), model.forward(x, [4, 600], [1, 2], mask)]
    near(masked, whole, 1e-12)
  })

  test(`${name}: the encoder never sees removed tokens`, () => {
    const model = opened(make(small, f64), rng(7))
    const mask = model.sampleMask(2, rng(9))
    const x = pictures(2, small, f64)
    const removed = mask.mask.dataSync()
    const pixels = x.dataSync().map((v, i) => {
      const [n, row, column] = [Math.floor(i / 192), Math.floor((i % 64) / 8), i % 8]
      const token = Math.floor(row / 2) * 4 + Math.floor(column / 2)
      return removed[n * 16 + token] === 1 ? v + 100 : v
    })
    const other = tensor(pixels, { shape: x.shape, ...f64 })
    const c = model.condition(2, [4, 600], [1, 2])
    near(model.encodeMasked(model.embed(other), c, mask), model.encodeMasked(model.embed(x), c, mask), 0)
    // The paper's decoder does not either; version 2 gives it the embedded picture as a skip.
    const [a, b] = [model.forward(x, [4, 600], [1, 2], mask), model.forward(other, [4, 600], [1, 2], mask)]
    if (model instanceof MDT) near(a, b, 0)
    else assert.not.equal(a.dataSync(), b.dataSync())
  })

  test(`${name}: a masked pass works on fewer tokens`, () => {
    const model = opened(make(small, f64), rng(7))
    const x = pictures(2, small, f64)
    const tokens = (run: () => Tensor) => {
      const seen: number[] = []
      observe((op, [qkv]) => op.name === 'selfAttention' && seen.push(qkv.shape[1]), run)
      return seen
    }
    assert.equal(
      tokens(() => model.forward(x, [4, 600], [1, 2])),
      [16, 16, 16, 16],
    )
    const mask = tokenMask(rng(9).uniformArray(32), [2, 16], 0.5, f64)
    // N₁ = 2 blocks on kept tokens, the side-interpolator and N₂ = 2 blocks on all.
    assert.equal(
      tokens(() => model.forward(x, [4, 600], [1, 2], mask)),
      [8, 8, 16, 16, 16],
    )
  })
}

test('mask ratios: fixed in MDT, in [ratio, ratio + 0.2) in MDTv2, from the stream that is given', () => {
  const o = { ...small, inputSize: 32, maskRatio: 0.3 }
  const [one, two] = [new MDT(o, shapesOnly), new MDTv2(o, { rng: null })]
  const random = rng(11)
  const kept = Array.from({ length: 40 }, () => two.sampleMask(1, random).kept)
  assert.ok(Math.min(...kept) >= 128 && Math.max(...kept) <= 179 && new Set(kept).size > 10)
  assert.is(new MDT(o, { rng: null }).sampleMask(1, random).kept, 179)
  assert.is(one.sampleRatio(), 0.3)
  const same = () => [...two.sampleMask(2, rng(12)).idsKeep.dataSync()]
  assert.equal(same(), same())
})

// ---- training -------------------------------------------------------------------------------------------------------

const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })

test('the loss is the mean of both passes, which draw apart', () => {
  const model = opened(new MDT({ ...small, classDropoutProb: 0.5 }, { rng: null, ...f64 }), rng(13))
  const x0 = pictures(8, small, f64)
  const passes = sampleMDTInputs(model, x0, new Int32Array(8), rng(14))
  assert.is(passes.full.mask, null)
  assert.not.equal(passes.full.noise.dataSync(), passes.masked.noise.dataSync())
  assert.not.equal(passes.full.labels, passes.masked.labels)
  assert.ok(Array.from(passes.full.labels!).every(y => y === 0 || y === 5))
  const { full: whole, masked, loss } = mdtLoss(model, diffusion, x0, new Int32Array(8).fill(500), passes)
  near(loss, add(mean(whole.loss), mean(masked.loss)), 0)
  assert.is(sampleMDTInputs(model, x0, null, rng(14)).full.labels, null)
})

test('the weighting is that of the version, whatever other options are given', () => {
  const model = opened(new MDTv2(small, { rng: null, ...f64 }), rng(13))
  const x0 = pictures(2, small, f64)
  const passes = sampleMDTInputs(model, x0, null, rng(14))
  const mse = (options?: LossOptions) => mdtLoss(model, diffusion, x0, [30, 900], passes, options).full.mse.dataSync()
  assert.equal(mse({ rescaleVb: true }), mse())
  assert.not.equal(mse({ weighting: 'uniform' }), mse())
})

for (const place of [f64, { backend: cpu, dtype: 'f32' }, { backend: wasm, dtype: 'f32' }] as const)
  test(`checkpointed blocks give the same bytes: ${place.dtype} on ${place.backend.name}`, () => {
    const run = (checkpointed: boolean) => {
      const model = opened(new MDTv2(small, { rng: null, ...place }), rng(15))
      const x = pictures(2, small, place)
      const mask = model.sampleMask(2, rng(16))
      for (const items of [model.en_inblocks, model.en_outblocks, model.de_blocks, model.sideblocks])
        for (const block of items) {
          const plain = block.forward.bind(block)
          if (checkpointed)
            block.forward = (h, c, pairs = null, skip = null) =>
              checkpoint(([h, c, s]) => plain(h, c, pairs, s ?? null), skip === null ? [h, c] : [h, c, skip])
        }
      const y = model.forward(x, [4, 600], [1, 2], mask)
      backward(mean(square(y)))
      const bytes = (tensor: Tensor) => Buffer.from(tensor.dataSync().buffer).toString('hex')
      return [bytes(y), ...model.parameters().map(p => bytes(p.grad!))]
    }
    assert.equal(run(true), run(false))
  })

test('the passes of a step are those of the loss, with the weighting of the version', () => {
  for (const [, make] of versions) {
    const model = opened(make(small, f64), rng(18))
    const images = pictures(2, small, f64)
    const random = rng(19)
    const t = random.integersArray(0, 1000, 2)
    const { full, masked } = mdtLoss(model, diffusion, images, t, sampleMDTInputs(model, images, [0, 3], random))
    const part = { images, labels: [0, 3], rng: rng(19), progress: 0 }
    const [a, b] = Array.from(mdtPasses(model, diffusion, part), pass => pass())
    for (const [{ loss }, terms] of [
      [a, full],
      [b, masked],
    ] as const)
      near(loss, mean(terms.loss), 0)
    const reported = { ...a.terms, ...b.terms }
    assert.equal(Object.keys(reported), [...mdtTerms])
    near(reported.mse, mean(full.mse), 0)
    near(reported.vb, mean(full.vb!), 0)
    near(reported.maskedMse, mean(masked.mse), 0)
    near(reported.maskedVb, mean(masked.vb!), 0)
  }
})

test('the state dict of another version does not load', () => {
  const other = new MDTv2(small, { rng: null, ...f64 })
  const state = new MDT(small, { rng: null, ...f64 }).stateDict()
  assert.throws(() => other.loadStateDict(state), /missing: en_inblocks.*unexpected: blocks/)
})

test.run()
