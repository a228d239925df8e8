/**
 * MaskDM's network beyond parity: official sizes, names and settings, its tokens and options. Its masks are
 * block-masks.test.ts, loss, sampling and training maskdm-diffusion.test.ts, checkpoints maskdm-transfer.test.ts. Needs
 * Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { observe, rng, scope, tensor } from '../../core/index.ts'
import { cropSize, type Masking, maskOfFlags, sampleMask } from '../../diffusion/block-masks.ts'
import { tokenMask } from '../../diffusion/masking.ts'
import { type MaskDMOptions, MaskedUViT, UViTAttention } from '../../models/maskdm.ts'
import {
  maskdmDiffusion,
  maskdmSample,
  maskedDenoisingScoreMatching,
  sampleMaskDMInputs,
} from '../../models/maskdm-diffusion.ts'
import { maskDM, maskingOf } from '../../models/maskdm-family.ts'
import { maskdmOptimizer, maskdmPreset, maskdmPresets } from '../../models/maskdm-presets.ts'
import { Attention, shapesOnly } from '../../nn/index.ts'
import { close, values } from '../near.ts'
import { f64, labelled, make, pictures, small } from './maskdm-models.ts'
import { opened } from './opened.ts'

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures', name), 'utf8'))

// ---- official sizes, names and settings -----------------------------------------------------------------------------

interface Official {
  readonly hyper: Readonly<Record<string, unknown>> & {
    readonly train: Readonly<Record<string, unknown>>
    readonly mask: Readonly<Record<string, unknown>>
  }
}

const official: Record<string, Official> = read('param-counts.json').MaskDM

for (const [file, { hyper }] of Object.entries(official))
  test(`settings of ${file}`, () => {
    const { network, masking, schedule, training } = maskdmPreset(file.replace(/\.yml$/, ''))
    assert.equal(
      [network.inputSize, network.patchSize, network.inChannels, network.hiddenSize, network.depth, network.numHeads],
      ['img_size', 'patch_size', 'in_chans', 'encoder_embed_dim', 'encoder_depth', 'encoder_heads'].map(n => hyper[n]),
    )
    const { train, mask } = hyper
    assert.equal([train.lr, train.batch_size, train.ema_decay], [training.lr, training.batch, training.emaDecay])
    assert.equal([train.clip_grad, train.warmup_steps ?? 0], [training.maxNorm, training.warmUpSteps])
    assert.equal([train.beta_schedule, train.adam_betas], [schedule, maskdmOptimizer.betas])
    assert.is(train.weight_decay, maskdmOptimizer.weightDecay)
    assert.equal(masking, mask.MASK_RATIO === 0 ? null : officialMasking(mask))
  })

function officialMasking({
  MASK_TYPE,
  MASK_RATIO,
  MASK_BLOCK_SIZE,
  MASK_CROP_SIZE,
}: Official['hyper']['mask']): Masking {
  const ratio = Number(MASK_RATIO)
  if (MASK_TYPE === 'patch') return { way: 'patch', ratio }
  if (MASK_TYPE === 'block') return { way: 'block', ratio, size: Number(MASK_BLOCK_SIZE) }
  assert.is(cropSize([16, 16], ratio), MASK_CROP_SIZE)
  return { way: 'crop', size: Number(MASK_CROP_SIZE) }
}

test('every preset but the tiny ones is an official one', () => {
  const files = Object.keys(official).map(file => file.replace(/\.yml$/, ''))
  const tiny = ['tiny', 'tiny/4', 'tiny/8']
  assert.equal(Object.keys(maskdmPresets).sort(), [...files, ...tiny].sort())
  const flipped = Object.keys(maskdmPresets).filter(name => maskdmPreset(name).training.flip)
  assert.equal(flipped, [...tiny, 'church256_base', 'transfer/celebahq_small_0.1', 'transfer/celebahq_small_0.01'])
  assert.equal(maskdmPreset('tiny').masking, { way: 'block', size: 2, ratio: 0.5 })
  assert.throws(() => maskdmPreset('celebahq'), /^maskdmPreset: expected one of tiny, .*got 'celebahq'$/)
  assert.throws(() => maskdmPreset('constructor'), RangeError)
})

test('patches are embedded with weights that are uniform within one over the square root of what goes in', () => {
  const model = new MaskedUViT(maskdmPreset('tiny').network, { rng: rng(1), ...f64 })
  const bound = 1 / Math.sqrt(3 * 2 * 2)
  const largest = Math.max(...model.encoder.patch_embed.proj.weight.dataSync().map(Math.abs))
  assert.ok(largest > 0.99 * bound && largest <= bound, `largest ${largest}, bound ${bound}`)
})

test('settings: a stage refuses those of the other; a crop is sized by its ratio; the mask of a step', () => {
  const base = {
    preset: 'tiny',
    size: 16,
    stage: 'pretrain',
    mask: 'block',
    maskRatio: 0.5,
    maskSize: 2,
    from: undefined,
  }
  const settle = (given: object, change: object = {}, resumed = false) =>
    maskDM.training.settle!({ ...base, ...change, ...given } as never, given, resumed)
  assert.equal(settle({ maskRatio: 0.25 }), { ...base, maskRatio: 0.25 })
  assert.is(settle({ mask: 'crop', maskRatio: 0.5 }).maskSize, 5) // 25 of 64 patches
  const given = { mask: 'crop', maskRatio: 0.5 } as const
  const latents = maskDM.training.settle!({ ...base, size: 64, ...given } as never, given, false, 16)
  assert.is(latents.maskSize, 5) // of 8 × 8 patches of latents, whatever the size of the pictures
  assert.is(settle({ mask: 'crop', maskSize: 3 }).maskSize, 3)
  assert.is(settle({ mask: 'crop', maskRatio: 0.5 }, {}, true).maskSize, 2) // as the run has it
  const crop = { preset: 'ablation/pretrain/crop/celeba_10p', size: 64, mask: 'crop', maskSize: 15 }
  assert.is(settle({}, crop).maskSize, 15)
  const wrong: readonly (readonly [object, object, RegExp])[] = [
    [{ from: 'run' }, {}, /^--from: expected none in pretrain, got run$/],
    [{ mask: 'crop' }, { stage: 'finetune' }, /^--mask: expected none in finetune, got crop$/],
    [{ maskRatio: 0.5 }, { stage: 'finetune' }, /^--mask-ratio: expected none in finetune, got 0\.5$/],
    [{ mask: 'patch', maskSize: 2 }, {}, /^--mask-size: expected none for patches, got 2$/],
    [
      { mask: 'crop', maskRatio: 0.5, maskSize: 2 },
      {},
      /^--mask-ratio: expected a crop's ratio or its --mask-size, got both$/,
    ],
  ]
  for (const [given, change, message] of wrong) assert.throws(() => settle(given, change), message)

  const mask = (change: object) => maskingOf({ ...base, ...change } as never)
  assert.equal(mask({}), { way: 'block', ratio: 0.5, size: 2 })
  assert.equal(mask({ mask: 'patch' }), { way: 'patch', ratio: 0.5 })
  assert.equal(mask({ mask: 'crop' }), { way: 'crop', size: 2 })
  assert.is(mask({ stage: 'finetune' }), null)
})

// ---- the network ----------------------------------------------------------------------------------------------------

test('names of what only some configurations have', () => {
  const model = make(labelled)
  const names = [...model.stateDict().keys()]
  assert.equal(
    names.filter(name => !/blocks?\./.test(name)),
    [
      'encoder.uncond_embed',
      'encoder.encoder_pos_embed',
      'encoder.patch_embed.proj.weight',
      'encoder.patch_embed.proj.bias',
      'encoder.label_emb.weight',
      'encoder.time_embed.0.weight',
      'encoder.time_embed.0.bias',
      'encoder.time_embed.2.weight',
      'encoder.time_embed.2.bias',
      'encoder.norm.weight',
      'encoder.norm.bias',
      'encoder_to_output.weight',
      'encoder_to_output.bias',
    ],
  )
  assert.equal(
    names.filter(name => name.startsWith('encoder.mid_block.attn')).map(name => name.split('attn.')[1]),
    ['q_bias', 'v_bias', 'qkv.weight', 'proj.weight', 'proj.bias'],
  )
})

test('an even depth has one block more', () => {
  for (const [depth, halves] of [
    [1, 0],
    [2, 1],
    [4, 2],
    [5, 2],
  ]) {
    const { encoder } = new MaskedUViT({ ...small, depth }, shapesOnly)
    assert.equal([encoder.in_blocks.length, encoder.out_blocks.length], [halves, halves])
  }
})

test('sizes of all kinds', () => {
  fc.assert(
    fc.property(
      fc.record({
        patchSize: fc.constantFrom(1, 2, 3, 4),
        tokens: fc.integer({ min: 1, max: 4 }),
        inChannels: fc.integer({ min: 1, max: 5 }),
        numHeads: fc.constantFrom(1, 2, 3),
        headSize: fc.integer({ min: 1, max: 5 }),
        depth: fc.integer({ min: 1, max: 5 }),
        mlpRatio: fc.constantFrom(1, 2.3, 4),
        numClasses: fc.constantFrom(0, 1, 7),
        qkvBias: fc.boolean(),
        mlpTimeEmbed: fc.boolean(),
        N: fc.integer({ min: 1, max: 3 }),
      }),
      ({ tokens, headSize, N, ...rest }) => {
        const o = { ...rest, inputSize: tokens * rest.patchSize, hiddenSize: headSize * rest.numHeads }
        scope(() => {
          const model = make(o)
          const y = o.numClasses > 0 ? new Array<number>(N).fill(o.numClasses - 1) : null
          const x = pictures(N, o)
          const whole = model.forward(x, new Int32Array(N).fill(7), y)
          assert.equal(whole.shape, x.shape)
          assert.ok(values(whole).every(Number.isFinite))
          const mask = sampleMask({ way: 'patch', ratio: 0.9 }, N, [tokens, tokens], rng(3), f64)
          const part = model.patches(x, new Int32Array(N).fill(7), y, mask)
          assert.equal(part.shape, [N, mask.kept, o.patchSize ** 2 * o.inChannels])
          model.dispose()
        })
      },
    ),
    { numRuns: 25, seed: 5 },
  )
})

test('a bias on queries and values, none on keys', () => {
  const D = 6
  const ours = opened(new UViTAttention({ ...small, hiddenSize: D, qkvBias: true }, { rng: null, ...f64 }), rng(4), 0.3)
  const plain = new Attention(D, 2, { rng: null, ...f64 })
  const { q_bias, v_bias, qkv, proj } = ours
  const bias = [...values(q_bias!), ...new Array<number>(D).fill(0), ...values(v_bias!)]
  plain.loadStateDict(
    new Map([
      ['qkv.weight', qkv.weight],
      ['qkv.bias', tensor(bias, f64)],
      ['proj.weight', proj.weight],
      ['proj.bias', proj.bias!],
    ]),
  )
  const x = rng(5).normal([2, 4, D], f64)
  close(values(ours.forward(x)), values(plain.forward(x)), 1e-14)
})

test('without a label the token is uncond_embed, and with one it is not', () => {
  const model = make(labelled)
  const [x, t] = [pictures(2, labelled), [3, 900]]
  const before = values(model.forward(x, t))
  const given = values(model.forward(x, t, [0, 4]))
  const state = new Map(model.stateDict())
  state.set('encoder.uncond_embed', tensor(new Float64Array(16), { shape: [1, 16], ...f64 }))
  model.loadStateDict(state)
  assert.not.equal(values(model.forward(x, t)), before)
  assert.equal(values(model.forward(x, t, [0, 4])), given)
})

test('a mask in any order that keeps all changes nothing; removed patches play no part', () => {
  const model = make(labelled)
  const [N, T] = [2, 16]
  const [x, t, y] = [pictures(N, labelled), [3, 900], [1, 2]]
  const whole = model.patches(x, t, y, null)
  const all = tokenMask(rng(6).uniformArray(N * T), [N, T], 0, f64)
  const shuffled = values(model.patches(x, t, y, all))
  const width = whole.shape[2]
  const back = values(all.idsRestore).flatMap((from, i) => {
    const row = Math.floor(i / T) * T + from
    return shuffled.slice(row * width, (row + 1) * width)
  })
  close(back, values(whole), 1e-12)

  const mask = sampleMask({ way: 'block', ratio: 0.75, size: 2 }, N, [4, 4], rng(7), f64)
  const removed = values(mask.mask)
  const changed = values(x).map((v, i) => {
    const [n, row, column] = [Math.floor(i / 192), Math.floor((i % 64) / 8), i % 8]
    return removed[n * T + Math.floor(row / 2) * 4 + Math.floor(column / 2)] === 1 ? v + 100 : v
  })
  const other = tensor(changed, { shape: x.shape, ...f64 })
  assert.equal(values(model.patches(other, t, y, mask)), values(model.patches(x, t, y, mask)))
})

test('a masked step works on the visible tokens only', () => {
  const counted = (o: MaskDMOptions, masking: Masking | null, y: number[] | null) => {
    const model = make(o)
    const [x, d] = [pictures(2, o), maskdmDiffusion()]
    const seen = new Set<number>()
    observe(
      (op, [qkv]) => op.name === 'selfAttention' && seen.add(qkv.shape[1]),
      () => {
        const draws = sampleMaskDMInputs(model, x, masking, rng(8))
        maskedDenoisingScoreMatching(model, d, x, [10, 500], draws, { labels: y })
      },
    )
    return [...seen]
  }
  assert.equal(counted(small, null, null), [17])
  assert.equal(counted(small, { way: 'patch', ratio: 0.9 }, null), [1 + 2])
  assert.equal(counted(labelled, { way: 'block', ratio: 0.5, size: 2 }, [0, 1]), [2 + 8])
  assert.equal(counted(labelled, { way: 'crop', size: 3 }, [0, 1]), [2 + 9])
})

test('bad input is one line that says what was wanted and what came', () => {
  const init = { rng: null, ...f64 }
  const built = (change: Partial<MaskDMOptions>) => () => new MaskedUViT({ ...small, ...change }, init)
  const model = make(labelled)
  const plain = make(small)
  const x = pictures(2, small)
  const d = maskdmDiffusion({ T: 50 })
  const draw = (masking: Masking) => () => sampleMaskDMInputs(plain, x, masking, rng(0))
  const sample = (steps: number) => () => maskdmSample(d, z => z, x, { steps, noise: rng(0) })
  const wrong: readonly [() => unknown, RegExp][] = [
    [built({ patchSize: 3 }), /^MaskDM: expected inputSize: a multiple of patchSize 3, got 8$/],
    [built({ depth: 0 }), /^MaskDM: expected depth: an integer from 1, got 0$/],
    [built({ numHeads: 3 }), /^MaskDM: expected a width divisible by 3 heads, got 16$/],
    [() => model.forward(x, [1]), /^MaskDM: expected a timestep for each of 2 pictures, got 1$/],
    [() => model.forward(x, [1, 2], [1]), /^MaskDM: expected a label for each of 2 pictures, got 1$/],
    [() => model.forward(x, [1, 2], [0, 5]), /^MaskDM: labels: expected integers in \[0, 4\], got 5$/],
    [() => model.forward(x, [1, 2], [-1, 0]), /labels: expected integers in \[0, 4\], got -1$/],
    [() => model.forward(x, [1, 2], [0.5, 0]), /got 0\.5$/],
    [() => plain.forward(x, [1, 2], [0, 0]), /^MaskDM: expected no labels, as the model has no classes, got some$/],
    [() => plain.forward(pictures(2, { ...small, inputSize: 4 }), [1, 2]), /^MaskDM: expected x \[N, 3, 8, 8\], got/],
    [
      () => plain.patches(x, [1, 2], null, maskOfFlags(new Int32Array(8), [2, 4], f64)),
      /^MaskDM: expected a mask \[2, 16\], got \[2, 4\]$/,
    ],
    [draw({ way: 'patch', ratio: 1 }), /^sampleMaskDMInputs: ratio: expected a number in \[0, 1\), got 1$/],
    [
      draw({ way: 'block', ratio: 0.5, size: 5 }),
      /^sampleMaskDMInputs: block size: expected an integer in \[1, 4\], got 5$/,
    ],
    [
      () => maskedDenoisingScoreMatching(plain, d, x, [0, 50], sampleMaskDMInputs(plain, x, null, rng(0))),
      /t: expected integers in \[0, 50\), got 50 for sample 1$/,
    ],
    [sample(51), /^maskdmSample: steps: expected an integer in \[1, 50\], got 51$/],
    [sample(0), /steps: expected an integer in \[1, 50\], got 0$/],
    [() => maskdmSample(d, z => z, x, { steps: 5 }), /^maskdmSample: noise: expected a source, as eta is 1, got none$/],
    [() => maskdmDiffusion({ schedule: 'linear', T: 10 }), /^linearBetas: T: expected an integer from 20, got 10$/],
  ]
  for (const [run, message] of wrong) assert.throws(run, message)
})

test.run()
