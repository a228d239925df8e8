/**
 * MaskDiT beyond parity and the walk of families.test.ts: first values, what a mask hides, both loss terms against plain
 * loops, schedules of the mask ratio, bad arguments, guidance.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  type Backend,
  backward,
  cpu,
  type DType,
  mean,
  mul,
  observe,
  rng,
  square,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import { lossWeight, preconditioning } from '../../diffusion/edm.ts'
import { type TokenMask, tokenMask } from '../../diffusion/masking.ts'
import { type MaskDiTOptions, oneHot, PreconditionedMaskDiT } from '../../models/maskdit.ts'
import {
  type MaskRatioName,
  maskDiTLoss,
  maskedReconstruction,
  maskRatioSchedule,
  sampleMaskDiTInputs,
  unmaskingTuning,
} from '../../models/maskdit-loss.ts'
import { AdamW } from '../../nn/index.ts'
import { near } from '../near.ts'
import { opened } from './opened.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

// ---- small models ---------------------------------------------------------------------------------------------------

const small: MaskDiTOptions = {
  inputSize: 8,
  patchSize: 2,
  inChannels: 3,
  hiddenSize: 16,
  depth: 3,
  numHeads: 2,
  numClasses: 5,
  decoder: { hiddenSize: 12, depth: 2, numHeads: 3 },
}
const T = 16

interface Place {
  readonly backend: Backend
  readonly dtype: DType
}
const f64: Place = { backend: cpu, dtype: 'f64' }

/** A model of which no path is closed. */
const made = (change: Partial<MaskDiTOptions> = {}) =>
  opened(new PreconditionedMaskDiT({ ...small, ...change }, { rng: null, ...f64 }), rng(1))

const pictures = (N: number, place: Place = f64, seed = 2) =>
  mul(rng(seed).normal([N, small.inChannels, small.inputSize, small.inputSize], place), 0.5)

const halfMask = (N: number, seed = 3) => tokenMask(rng(seed).uniformArray(N * T), [N, T], 0.5, f64)

/** The token under element i of pictures of 3 × 8 × 8 with patches of 2 × 2. */
function tokenAt(i: number): number {
  return Math.floor((i % 64) / 16) * 4 + Math.floor((i % 8) / 2)
}

test('a new model predicts c_skip x: decoder and network begin at 0', () => {
  const net = new PreconditionedMaskDiT(small, { rng: rng(4), ...f64 })
  const x = pictures(2)
  for (const mask of [null, halfMask(2)]) {
    const skips = [0.3, 7].flatMap(sigma => new Array<number>(192).fill(preconditioning(sigma).skip))
    const wanted = Array.from(x.dataSync(), (v, i) => v * skips[i])
    near(net.forward(x, [0.3, 7], [0, 5], mask), wanted, 1e-15)
  }
  for (const [name, p] of net.namedParameters()) {
    const values = Array.from(p.dataSync())
    const most = Math.max(...values.map(Math.abs))
    const spread = Math.sqrt(values.reduce((s, v) => s + v * v, 0) / values.length)
    if (/bias$|adaLN_modulation|final_layer|decoder_layer/.test(name)) assert.is(most, 0, name)
    else if (/pos_embed/.test(name)) assert.is(most, 1, name)
    else if (/t_embedder|y_embedder|mask_token/.test(name))
      assert.ok(spread > 0.01 && spread < 0.03, `${name} ${spread}`)
    else assert.ok(most <= Math.sqrt(6 / (p.shape[0] + p.size / p.shape[0])) && most > 0.05, `${name} ${most}`)
  }
})

test('labels: one-hot rows; none is a row of zeros, also where labels are left out', () => {
  assert.equal(oneHot([1, 3, 0], 3), Float32Array.of(0, 1, 0, 0, 0, 0, 1, 0, 0))
  const net = made()
  const x = pictures(2)
  near(net.forward(x, [1, 2], [5, 5]), net.forward(x, [1, 2]), 0)
  assert.not.equal(net.forward(x, [1, 2], [0, 5]).dataSync(), net.forward(x, [1, 2]).dataSync())
  const table = net.model.y_embedder!.embedding_table.weight
  near(
    net.model.y_embedder!.forward([3]),
    Array.from({ length: 16 }, (_, d) => table.dataSync()[d * 5 + 3]),
    0,
  )
})

test('options: no decoder, no classes, no reconstruction', () => {
  const names = (change: Partial<MaskDiTOptions>) => [...made(change).stateDict().keys()].join()
  assert.not.match(names({ decoder: null }), /decoder|mask_token/)
  assert.not.match(names({ maeLossCoef: 0 }), /mask_token/)
  assert.match(names({ maeLossCoef: 0 }), /decoder_blocks/)
  assert.not.match(names({ numClasses: 0 }), /y_embedder/)
  const net = made({ decoder: null, numClasses: 0 })
  const x = pictures(1)
  const mask = halfMask(1)
  const raw = net.model.forward(x, [0.1], null, mask).dataSync()
  raw.forEach((v, i) => {
    assert.is(v === 0, mask.mask.dataSync()[tokenAt(i)] === 1, `element ${i}`)
  })
})

// ---- masks ----------------------------------------------------------------------------------------------------------

test('a mask that keeps all tokens, in any order, changes nothing', () => {
  for (const net of [made(), made({ decoder: null })]) {
    const mask = tokenMask(rng(5).uniformArray(2 * T), [2, T], 0, f64)
    near(net.forward(pictures(2), [0.2, 3], [1, 2], mask), net.forward(pictures(2), [0.2, 3], [1, 2]), 1e-12)
  }
})

test('the network never sees removed patches', () => {
  const { model } = made()
  const x = pictures(2)
  const mask = halfMask(2)
  const removed = mask.mask.dataSync()
  const shifted = (which: number) =>
    tensor(
      x.dataSync().map((v, i) => (removed[Math.floor(i / 192) * T + tokenAt(i)] === which ? v + 3 : v)),
      { shape: x.shape, ...f64 },
    )
  const F = (input: Tensor) => model.forward(input, [0.1, -0.3], [1, 2], mask)
  near(F(shifted(1)), F(x), 0)
  assert.not.equal(F(shifted(0)).dataSync(), F(x).dataSync())
})

test('a masked pass works on fewer tokens in the encoder', () => {
  const net = made()
  const tokens = (mask: TokenMask | null) => {
    const seen: number[] = []
    observe(
      (op, [qkv]) => op.name === 'selfAttention' && seen.push(qkv.shape[1]),
      () => net.forward(pictures(2), [1, 2], [0, 1], mask),
    )
    return seen
  }
  assert.equal(tokens(null), [16, 16, 16, 16, 16])
  assert.equal(tokens(halfMask(2)), [8, 8, 8, 16, 16])
})

test('masks are drawn at the ratio that is asked for; none where nothing would be removed', () => {
  const net = made()
  assert.is(net.sampleMask(3, 0.5, rng(6))!.kept, 8)
  assert.is(net.sampleMask(3, 0.3, rng(6))!.kept, 11)
  assert.is(net.sampleMask(3, 0, rng(6)), null)
  assert.is(net.sampleMask(3, unmaskingTuning('cosine')(1), rng(6)), null)
  assert.equal(net.sampleMask(3, 0.5, rng(6))!.hostIdsKeep, net.sampleMask(3, 0.5, rng(6))!.hostIdsKeep)
})

// ---- the loss -------------------------------------------------------------------------------------------------------

/** The two terms of one masked step in plain loops, from D, y and the noised input. */
function naiveTerms(D: ArrayLike<number>, y: ArrayLike<number>, noised: ArrayLike<number>, mask: TokenMask, n: number) {
  const removed = mask.mask.dataSync()
  const terms = { visible: 0, mae: 0 }
  for (let token = 0; token < T; token++) {
    const at = Array.from({ length: 192 }, (_, i) => i).filter(i => tokenAt(i) === token)
    const values = at.map(i => noised[n * 192 + i])
    const average = values.reduce((a, b) => a + b, 0) / 12
    const variance = values.reduce((a, b) => a + (b - average) ** 2, 0) / 11
    at.forEach((i, j) => {
      const d = D[n * 192 + i]
      if (removed[n * T + token] === 0) terms.visible += (d - y[n * 192 + i]) ** 2 / 12 / mask.kept
      else terms.mae += (d - (values[j] - average) / Math.sqrt(variance + 1e-6)) ** 2 / 12 / (T - mask.kept)
    })
  }
  return terms
}

test('masked loss: λ(σ) · error on visible patches + 0.1 · reconstruction of removed ones', () => {
  const net = made()
  const y = pictures(3)
  const draws = sampleMaskDiTInputs(net, y, [0, 1, 2], 0.6, rng(7))
  const { dsm, mae, loss } = maskDiTLoss(net, y, draws)
  assert.is(draws.mask!.kept, 6)
  const noise = draws.noise.dataSync()
  const noised = Array.from(y.dataSync(), (v, i) => v + noise[i] * draws.sigma[Math.floor(i / 192)])
  const D = net.forward(tensor(noised, { shape: y.shape, ...f64 }), draws.sigma, draws.labels, draws.mask)
  const wanted = [0, 1, 2].map(n => naiveTerms(D.dataSync(), y.dataSync(), noised, draws.mask!, n))
  const weights = Array.from(draws.sigma, sigma => lossWeight(sigma))
  near(
    dsm,
    wanted.map(({ visible }, n) => visible * weights[n]),
    1e-12,
  )
  near(
    mae!,
    wanted.map(({ mae }) => mae),
    1e-12,
  )
  near(loss, add(dsm, mul(mae!, 0.1)), 0)
})

test('unmasked loss: every pixel, no reconstruction, and a gradient of 0 for the mask token', () => {
  const net = made()
  const y = pictures(2)
  const draws = sampleMaskDiTInputs(net, y, [0, 1], 0, rng(8))
  const { dsm, mae, loss } = maskDiTLoss(net, y, draws)
  assert.is(mae, null)
  near(loss, dsm, 0)
  const noised = add(y, mul(draws.noise, tensor(draws.sigma, { shape: [2, 1, 1, 1], ...f64 })))
  const errors = square(add(net.forward(noised, draws.sigma, draws.labels), mul(y, -1)))
  const perPicture = Array.from(mean(errors, [1, 2, 3]).dataSync())
  near(
    loss,
    perPicture.map((v, n) => v * lossWeight(draws.sigma[n])),
    1e-12,
  )

  const optimizer = new AdamW(net.namedParameters(), { lr: 1e-2, weightDecay: 0 })
  const token = net.model.mask_token!
  const step = (ratio: number) => {
    backward(mean(maskDiTLoss(net, y, sampleMaskDiTInputs(net, y, [0, 1], ratio, rng(9))).loss))
    const before = token.dataSync()
    const gradient = Array.from(token.grad!.dataSync())
    optimizer.step()
    optimizer.zeroGrad()
    return { gradient, moved: !before.every((v, i) => v === token.dataSync()[i]) }
  }
  assert.ok(step(0.5).gradient.some(v => v !== 0))
  const tuning = step(0)
  assert.ok(tuning.gradient.every(v => v === 0))
  assert.ok(tuning.moved, 'momentum goes on moving the mask token')
})

test('labels are dropped one by one, to the row of zeros', () => {
  const net = made({ classDropoutProb: 0.5 })
  const { labels } = sampleMaskDiTInputs(net, pictures(64), new Int32Array(64).fill(2), 0.5, rng(11))
  const dropped = Array.from(labels!).filter(label => label === 5).length
  assert.ok(dropped > 16 && dropped < 48, String(dropped))
  assert.ok(Array.from(labels!).every(label => label === 2 || label === 5))
  assert.is(sampleMaskDiTInputs(net, pictures(2), null, 0.5, rng(11)).labels, null)
})

// ---- unmasking tuning -----------------------------------------------------------------------------------------------

test('schedules of the mask ratio', () => {
  const at = (name: MaskRatioName, options?: { ratio?: number; least?: number }) =>
    [0, 0.5, 1].map(maskRatioSchedule(name, options))
  near(at('cosine2'), [0.5, 0.25, 0], 1e-15)
  near(at('cosine4'), [0.5, 0.125, 0], 1e-15)
  near(at('cosine6', { ratio: 0.8, least: 0.16 }), [0.8, 0.24, 0.16], 1e-15)
  near(at('cosine3'), [0.5, 0.5 * Math.SQRT1_2 ** 3, 0], 1e-15)
  near(at('exp', { ratio: 0.5, least: 0.1 }), [0.5, 0.1 + 0.4 * Math.exp(-3.5), 0.1 + 0.4 * Math.exp(-7)], 1e-15)
  near(at('linear', { ratio: 0.5, least: 0.1 }), [0.1, 0.3, 0.5], 1e-15)
  near(at('constant', { ratio: 0.5, least: 0.1 }), [0.5, 0.5, 0.5], 0)
  near([0, 0.5, 1].map(unmaskingTuning('zero')), [0, 0, 0], 0)
  near([0, 0.5, 1].map(unmaskingTuning('cosine')), [0.5, 0.125, 0], 1e-15)
  near([0, 0.5, 1].map(unmaskingTuning('cosine', 0.8)), [0.8, 0.2, 0], 1e-15)
})

// ---- bad arguments --------------------------------------------------------------------------------------------------

test('bad input is one line that says what was wanted and what came', () => {
  const make = (change: Partial<MaskDiTOptions>) => () => made(change)
  const net = made()
  const x = pictures(2)
  const none = tokenMask(new Float32Array(2 * T), [2, T], 0.95, f64)
  const all = tokenMask(new Float32Array(2 * T), [2, T], 0, f64)
  assert.is(none.kept, 0)
  const wrong: readonly [() => unknown, RegExp][] = [
    [make({ patchSize: 3 }), /^MaskDiT: expected inputSize: a multiple of patchSize 3, got 8$/],
    [make({ depth: 0 }), /^MaskDiT: expected depth: an integer from 1, got 0$/],
    [make({ decoder: { ...small.decoder!, depth: 0 } }), /^MaskDiT: expected decoder.depth: an integer from 1, got 0$/],
    [make({ decoder: { ...small.decoder!, numHeads: 5 } }), /divisible by 5 heads, got 12/],
    [make({ decoder: { ...small.decoder!, hiddenSize: 18 } }), /divisible by 4, got 18/],
    [make({ maeLossCoef: -1 }), /^MaskDiT: maeLossCoef: expected a number from 0, got -1$/],
    [() => net.forward(x, [1, 0]), /sigma: expected a number above 0, got 0$/],
    [() => net.forward(x, [-1, 1]), /sigma: expected a number above 0, got -1$/],
    [() => net.forward(x, [1]), /expected a value for each of 2 samples, got 1$/],
    [() => net.forward(x, [1, 1], [0, 6]), /^MaskDiT: labels: expected integers in \[0, 5\], got 6$/],
    [() => net.forward(x, [1, 1], [-1, 0]), /^MaskDiT: labels: .*got -1$/],
    [() => net.forward(x, [1, 1], [0.5, 0]), /^MaskDiT: labels: .*got 0\.5$/],
    [() => net.forward(x, [1, 1], [0]), /^MaskDiT: expected a label for each of 2 pictures, got 1$/],
    [() => net.model.forward(x, [1]), /^MaskDiT: expected a c_noise for each of 2 pictures, got 1$/],
    [
      () => made({ numClasses: 0 }).forward(x, [1, 1], [0, 0]),
      /^MaskDiT: expected no labels, as the model has no classes/,
    ],
    [() => net.forward(pictures(2), [1, 1], null, none), /^MaskDiT: expected a mask that keeps a token, got one/],
    [() => net.denoiser(null, 2), /^MaskDiT: guidance: expected labels, got none$/],
    [() => net.denoiser([0, 1], -1)(x, Float64Array.of(1, 1)), /scale: expected a number from 0, got -1$/],
    [() => net.sampleMask(2, 1, rng(0)), /ratio: expected a number in \[0, 1\), got 1$/],
    [() => sampleMaskDiTInputs(net, x, null, -0.1, rng(0)), /ratio: expected a number in \[0, 1\), got -0\.1$/],
    [
      () => maskedReconstruction(x, x, all, 2),
      /^maskedReconstruction: expected a mask that removes a token, got 16 kept$/,
    ],
    [
      () => maskRatioSchedule('cos4' as MaskRatioName),
      /name: expected one of constant, linear, .*cosine6, got 'cos4'$/,
    ],
    [() => maskRatioSchedule('cosine4', { ratio: 1 }), /ratio: expected a number in \[0, 1\), got 1$/],
    [() => maskRatioSchedule('cosine4', { least: -0.5 }), /least: expected a number in \[0, 1\), got -0\.5$/],
    [() => maskRatioSchedule('cosine4')(1.1), /progress: expected a number in \[0, 1\], got 1\.1$/],
  ]
  for (const [run, message] of wrong) assert.throws(run, message)
})

// ---- guidance ------------------------------------------------------------------------------------------

test('guidance: scale 1 is the labelled prediction, 0 the one without, others on the line through both', () => {
  const net = made()
  const [x, sigma] = [pictures(2), Float64Array.of(0.4, 9)]
  const at = (scale: number) => net.denoiser([1, 3], scale)(x, sigma)
  near(at(1), net.forward(x, sigma, [1, 3]), 1e-12)
  near(at(0), net.forward(x, sigma), 1e-12)
  near(at(3), add(mul(at(1), 3), mul(at(0), -2)), 1e-12)
})

test.run()
