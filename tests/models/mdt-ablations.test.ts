/**
 * The MDT paper's ablations: each row changes what it should (parameters, graph, or a value worked out by hand) and
 * nothing else; with all of them as in the paper's model, it is that model, byte for byte. Needs Node.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, cpu, mean, observe, rng, type Tensor } from '../../core/index.ts'
import { linearBetas } from '../../diffusion/betas.ts'
import { gaussianDiffusion } from '../../diffusion/gaussian.ts'
import type { LossTerms } from '../../diffusion/losses.ts'
import { MDT, type MDTOptions } from '../../models/mdt.ts'
import { AblatedMDT, ablatedLoss, type MDTAblation } from '../../models/mdt-ablations.ts'
import { type MDTInputs, mdtLoss, sampleMDTInputs } from '../../models/mdt-loss.ts'
import { mdtPreset } from '../../models/presets.ts'
import { type Module, shapesOnly } from '../../nn/index.ts'
import { close, values } from '../near.ts'

const options: MDTOptions = {
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
const [N, T, D, P, C] = [2, 16, 16, 2, 3]
const place = { backend: cpu, dtype: 'f64' } as const
const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
const t = [4, 600]
const labels = [1, 2]

/** Weights and biases that a new model has at 0, from a normal distribution by name, so that no path is closed. */
function opened<M extends Module>(model: M): M {
  for (const [name, p] of model.namedParameters())
    if (values(p).every(v => v === 0)) {
      const data = rng(1).fork(name).normalArray(p.size)
      p.backend.write(
        p.storage,
        Float64Array.from(data, z => 0.3 * z),
      )
    }
  return model
}

const paper = () => opened(new MDT(options, { rng: rng(1), ...place }))
const ablated = (ablation: MDTAblation) => opened(new AblatedMDT(options, ablation, { rng: rng(1), ...place }))
const picture = () => rng(2).normal([N, C, 8, 8], place)
const full = (model: MDT) => model.forward(picture(), t, labels)
const masked = (model: MDT) => model.forward(picture(), t, labels, model.sampleMask(N, rng(3)))

/** Names of the ops of a run, in order. */
function ops(run: () => unknown): string[] {
  const names: string[] = []
  observe(({ name }) => names.push(name), run)
  return names
}

/** Tokens in each attention of a run. */
function attended(run: () => unknown): number[] {
  const seen: number[] = []
  observe((op, [qkv]) => op.name === 'selfAttention' && seen.push(qkv.shape[1]), run)
  return seen
}

/** Checks that parameters kept from the paper's model have its values, that `gone` matches removed and `come` new ones. */
function stateDiffers(model: Module, { gone = /^$/, come = /^$/ }: { gone?: RegExp; come?: RegExp }): void {
  const [before, after] = [paper().stateDict(), model.stateDict()]
  let [lost, got] = [0, 0]
  for (const [name, { shape }] of before) {
    const now = after.get(name)
    if (gone.test(name)) lost++
    assert.is(now === undefined, gone.test(name), name)
    if (now === undefined) continue
    assert.equal(now.shape, shape)
    assert.equal(values(now), values(before.get(name)!), name)
  }
  for (const name of after.keys())
    if (!before.has(name)) {
      assert.match(name, come)
      got++
    }
  assert.is(lost > 0, gone.source !== '^$')
  assert.is(got > 0, come.source !== '^$')
}

const same = (a: Tensor, b: Tensor) => assert.equal(values(a), values(b))
const differ = (a: Tensor, b: Tensor) => assert.not.equal(values(a), values(b))
const countOf = (model: Module) => model.countParameters()
/** Parameters of a block: attention, its bias table of 7·7 + 3 rows, MLP, adaLN. */
const blockSize = 4 * D * D + 4 * D + 52 * 2 + (8 * D * D + 5 * D) + (6 * D * D + 6 * D)

// ---- the default ----------------------------------------------------------------------------------------------------

test('with no row chosen it is the paper’s model: state, ops, outputs, loss, gradients', () => {
  const [one, two] = [paper(), ablated({})]
  assert.equal([...one.stateDict().keys()], [...two.stateDict().keys()])
  stateDiffers(two, {})
  assert.equal(countOf(two), countOf(one))
  same(full(two), full(one))
  same(masked(two), masked(one))
  const passes = (model: MDT) => sampleMDTInputs(model, picture(), labels, rng(4))
  const run = (loss: () => Tensor) => {
    const seen = ops(() => backward(loss()))
    return seen
  }
  assert.equal(
    run(() => ablatedLoss(two, diffusion, picture(), t, passes(two)).loss),
    run(() => mdtLoss(one, diffusion, picture(), t, passes(one)).loss),
  )
  const gradients = (model: MDT) => model.parameters().map(p => values(p.grad!))
  assert.equal(gradients(two), gradients(one))
})

test('the official count of MDT-S/2, and what each row makes of it', () => {
  const S2 = mdtPreset('S/2', { inputSize: 32, inChannels: 4, numClasses: 1000 })
  const count = (ablation: MDTAblation) => countOf(new AblatedMDT(S2, ablation, shapesOnly))
  const [width, tokens, heads] = [384, 256, 6]
  const bias = (31 * 31 + 3) * heads
  const block = 18 * width * width + 15 * width + bias
  const { total, trainable, buffers } = countOf(new MDT(S2, shapesOnly))
  assert.equal(count({}), { total, trainable, buffers })
  assert.is(count({ asymmetricStructure: false }).total, total - block)
  assert.is(count({ sideInterpolator: false }).total, total - block)
  assert.is(count({ interpolatorBlocks: 3 }).total, total + 2 * block)
  assert.is(count({ interpolatorPosEmbed: false }).total, total - tokens * width)
  assert.equal(count({ learnablePos: false }), { total, trainable: trainable - 2 * tokens * width, buffers })
  assert.equal(count({ relativePosBias: false }), {
    total: total - 13 * bias,
    trainable: trainable - 13 * bias,
    buffers: 0,
  })
  for (const row of [
    { maskingRatio: 0.8 },
    { decoderPosition: 'Last6' },
    { maskedShortcut: false },
    { latentType: 'masked' },
    { supervisedParts: 'masked' },
  ] as const)
    assert.equal(count(row), { total, trainable, buffers })
})

// ---- table 3 and 4 --------------------------------------------------------------------------------------------------

test('table 3: the masking ratio decides how many tokens the encoder gets', () => {
  for (const [maskingRatio, kept] of [
    [0.1, 14],
    [0.3, 11],
    [0.8, 3],
  ]) {
    const model = ablated({ maskingRatio })
    stateDiffers(model, {})
    assert.equal(
      attended(() => masked(model)),
      [kept, kept, T, T, T],
    )
    same(full(model), full(paper()))
  }
})

test('table 4: the decoder position decides where the tokens are all there again', () => {
  const seen = { Last0: [8, 8, 8, 8, T], Last1: [8, 8, 8, T, T], Last2: [8, 8, T, T, T], Last4: [T, T, T, T, T] }
  for (const [decoderPosition, tokens] of Object.entries(seen) as ['Last0', number[]][]) {
    const model = ablated({ decoderPosition })
    stateDiffers(model, {})
    assert.equal(
      attended(() => masked(model)),
      tokens,
    )
  }
  same(masked(ablated({ decoderPosition: 'Last2' })), masked(paper()))
  // At the end of the network only the final layer comes after the interpolator's positions.
  const last0 = ablated({ decoderPosition: 'Last0' })
  const c = last0.condition(N, t, labels)
  const tokens = last0.blocks.items.reduce((y, block) => block.forward(y, c), last0.embed(picture()))
  const wanted = values(tokens).map((v, i) => v + values(last0.decoder_pos_embed)[i % (T * D)])
  close(values(last0.encodeFull(last0.embed(picture()), c)), wanted, 1e-12)
})

// ---- table 5: structure ---------------------------------------------------------------------------------------------

test('table 5a: a symmetric structure has mask tokens in the encoder', () => {
  const model = ablated({ asymmetricStructure: false })
  stateDiffers(model, { gone: /^sideblocks/ })
  assert.is(countOf(paper()).total - countOf(model).total, blockSize)
  assert.equal(
    attended(() => masked(model)),
    [T, T, T, T],
  )
  same(full(model), full(paper()))
  // By hand: the embedded tokens, of which removed ones are mask token plus position, through the unmasked model.
  const mask = model.sampleMask(N, rng(3))
  const [removed, token, positions] = [mask.mask, model.mask_token, model.pos_embed].map(values)
  const embedded = model.embed(picture())
  const filled = values(embedded).map((v, i) =>
    removed[Math.floor(i / D)] === 1 ? token[i % D] + positions[i % (T * D)] : v,
  )
  embedded.backend.write(embedded.storage, Float64Array.from(filled))
  const c = model.condition(N, t, labels)
  const all = model.decode(model.encodeFull(embedded, c), c)
  same(masked(model), model.unpatchify(model.final_layer.forward(all, c)))
})

test('table 5b: without side-interpolator the decoder gets mask tokens and positions', () => {
  const model = ablated({ sideInterpolator: false })
  stateDiffers(model, { gone: /^sideblocks/ })
  assert.is(countOf(paper()).total - countOf(model).total, blockSize)
  assert.equal(
    attended(() => masked(model)),
    [8, 8, T, T],
  )
  same(full(model), full(paper()))
  const mask = model.sampleMask(N, rng(3))
  const kept = rng(5).normal([N, 8, D], place)
  const q = values(model.sideInterpolator(kept, model.condition(N, t, labels), mask))
  const [order, token, positions] = [mask.idsRestore, model.mask_token, model.decoder_pos_embed].map(values)
  const wanted = q.map((_, i) => {
    const [n, at, d] = [Math.floor(i / (T * D)), order[Math.floor(i / D)], i % D]
    return (at < 8 ? values(kept)[(n * 8 + at) * D + d] : token[d]) + positions[i % (T * D)]
  })
  close(q, wanted, 1e-12)
})

test('table 5c: without masked shortcut kept tokens go through the interpolator too', () => {
  const model = ablated({ maskedShortcut: false })
  stateDiffers(model, {})
  same(full(model), full(paper()))
  const count = (m: MDT) => ops(() => masked(m)).filter(name => name === 'where').length
  assert.equal([count(paper()), count(model)], [1, 0])
  const run = (m: MDT) =>
    values(m.sideInterpolator(rng(5).normal([N, 8, D], place), m.condition(N, t, labels), m.sampleMask(N, rng(3))))
  const [with_, without] = [run(paper()), run(model)]
  const removed = values(model.sampleMask(N, rng(3)).mask)
  removed.forEach((gone, token) => {
    const of = (x: number[]) => x.slice(token * D, (token + 1) * D)
    if (gone === 1) assert.equal(of(without), of(with_))
    else assert.not.equal(of(without), of(with_))
  })
})

test('table 5f: more blocks in the side-interpolator', () => {
  for (const interpolatorBlocks of [2, 3]) {
    const model = ablated({ interpolatorBlocks })
    stateDiffers(model, { come: /^sideblocks\.[12]\./ })
    assert.is(countOf(model).total - countOf(paper()).total, (interpolatorBlocks - 1) * blockSize)
    assert.equal(
      attended(() => masked(model)),
      [8, 8, ...new Array<number>(interpolatorBlocks).fill(T), T, T],
    )
    same(full(model), full(paper()))
  }
})

test('table 5g: no position embedding in the side-interpolator, and none in its place', () => {
  const model = ablated({ interpolatorPosEmbed: false })
  stateDiffers(model, { gone: /^decoder_pos_embed$/ })
  // The same as the paper's model with that embedding at 0.
  const zero = paper()
  zero.decoder_pos_embed.backend.write(zero.decoder_pos_embed.storage, new Float64Array(T * D))
  close(values(full(model)), values(full(zero)), 1e-12)
  close(values(masked(model)), values(masked(zero)), 1e-12)
  differ(full(model), full(paper()))
})

test('table 5h: positions that are not learned stay as they are', () => {
  const model = ablated({ learnablePos: false })
  stateDiffers(model, {})
  assert.is(countOf(paper()).trainable - countOf(model).trainable, 2 * T * D)
  assert.is(countOf(model).total, countOf(paper()).total)
  same(full(model), full(paper()))
  same(masked(model), masked(paper()))
  const { loss } = ablatedLoss(model, diffusion, picture(), t, sampleMDTInputs(model, picture(), labels, rng(4)))
  backward(loss)
  const names = new Map(model.namedParameters())
  assert.is(names.get('pos_embed')!.grad, null)
  assert.is(names.get('decoder_pos_embed')!.grad, null)
  assert.ok(names.get('mask_token')!.grad !== null)
})

test('table 5i: no relative position bias in any block', () => {
  const model = ablated({ relativePosBias: false })
  stateDiffers(model, { gone: /rel_pos_bias/ })
  assert.is(countOf(paper()).total - countOf(model).total, 5 * 52 * 2)
  // The same as the paper's model with its tables at 0.
  const zero = paper()
  for (const [name, p] of zero.namedParameters())
    if (name.includes('relative_position_bias_table')) p.backend.write(p.storage, new Float64Array(p.size))
  close(values(full(model)), values(full(zero)), 1e-12)
  close(values(masked(model)), values(masked(zero)), 1e-12)
  differ(full(model), full(paper()))
  const biases = (m: MDT) => ops(() => full(m)).filter(name => name === 'permute').length
  assert.is(biases(paper()) - biases(model), 4)
})

// ---- table 5: training ----------------------------------------------------------------------------------------------

const passesOf = (model: MDT) => sampleMDTInputs(model, picture(), labels, rng(4))

test('table 5d: full, masked or both latents', () => {
  const lossOf = (ablation: MDTAblation) => {
    const model = ablated(ablation)
    stateDiffers(model, {})
    return ablatedLoss(model, diffusion, picture(), t, passesOf(model))
  }
  const both = mdtLoss(paper(), diffusion, picture(), t, passesOf(paper()))
  const [onlyFull, onlyMasked] = [lossOf({ latentType: 'full' }), lossOf({ latentType: 'masked' })]
  assert.is(onlyFull.masked, null)
  assert.is(onlyMasked.full, null)
  same(onlyFull.loss, mean(both.full.loss))
  same(onlyMasked.loss, mean(both.masked.loss))
  const [f, m] = [onlyFull, onlyMasked].map(({ loss }) => values(loss)[0])
  close(values(both.loss), [f + m], 1e-12)
  // One pass is one pass: half of the attention, and no interpolator without a mask.
  const seen = (latentType: 'full' | 'masked') => attended(() => lossOf({ latentType }))
  assert.equal(seen('full'), [T, T, T, T])
  assert.equal(seen('masked'), [8, 8, T, T, T])
})

test('table 5e: the masked pass is judged by removed tokens only', () => {
  const model = ablated({ supervisedParts: 'masked' })
  stateDiffers(model, {})
  const passes = passesOf(model)
  const [got, wanted] = [
    ablatedLoss(model, diffusion, picture(), t, passes),
    mdtLoss(paper(), diffusion, picture(), t, passes),
  ]
  same(got.full!.loss, wanted.full.loss)
  const { mse, vb, loss } = got.masked as LossTerms
  close(
    values(loss),
    [0, 1].map(n => values(mse)[n] + values(vb!)[n]),
    1e-12,
  )
  // By hand: mean of (ε − ε̂)² over the pixels of removed tokens.
  const { mask, noise } = passes.masked
  const xt = values(noise).map((e, i) => {
    const alphaBar = diffusion.alphaBar[t[Math.floor(i / (C * 64))]]
    return Math.sqrt(alphaBar) * values(picture())[i] + Math.sqrt(1 - alphaBar) * e
  })
  const x = picture()
  x.backend.write(x.storage, Float64Array.from(xt))
  const output = values(model.forward(x, t, passes.masked.labels, mask))
  const removed = values(mask!.mask)
  for (let n = 0; n < N; n++) {
    let [sum, pixels] = [0, 0]
    for (let c = 0; c < C; c++)
      for (let at = 0; at < 64; at++) {
        const token = Math.floor(Math.floor(at / 8) / P) * 4 + Math.floor((at % 8) / P)
        if (removed[n * T + token] === 0) continue
        pixels++
        sum += (values(noise)[(n * C + c) * 64 + at] - output[(n * 2 * C + c) * 64 + at]) ** 2
      }
    assert.is(pixels, 8 * P * P * C)
    close([values(mse)[n]], [sum / pixels], 1e-10)
  }
  const nothing: MDTInputs = { ...passes, masked: { ...passes.masked, mask: null } }
  assert.throws(() => ablatedLoss(model, diffusion, picture(), t, nothing), /supervisedParts.*removes a token/)
})

// ---- what is no row -------------------------------------------------------------------------------------------------

test('what contradicts itself or fits no model is refused', () => {
  const wrong: readonly [MDTAblation, RegExp][] = [
    [{ decoderPosition: 'Last5' }, /^AblatedMDT: decoderPosition: expected Last0 … Last4, got Last5$/],
    [{ decoderPosition: 'Last1.5' as 'Last1' }, /decoderPosition/],
    [{ interpolatorBlocks: 0 }, /^AblatedMDT: interpolatorBlocks: expected an integer from 1, got 0$/],
    [{ maskingRatio: 1 }, /maskRatio: expected a number in \[0, 1\)/],
    [{ sideInterpolator: false, interpolatorBlocks: 2 }, /sideInterpolator: false leaves no side-interpolator/],
    [{ asymmetricStructure: false, maskedShortcut: false }, /asymmetricStructure: false leaves/],
  ]
  for (const [ablation, message] of wrong) assert.throws(() => ablated(ablation), message)
})

test('rows can be taken together: no positions beyond sinusoids, no bias', () => {
  const model = ablated({ relativePosBias: false, learnablePos: false, interpolatorPosEmbed: false })
  stateDiffers(model, { gone: /rel_pos_bias|^decoder_pos_embed$/ })
  const passes = sampleMDTInputs(model, picture(), labels, rng(6))
  backward(ablatedLoss(model, diffusion, picture(), t, passes).loss)
  assert.ok(model.parameters().every(p => p.grad !== null))
})

test.run()
