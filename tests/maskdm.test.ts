/**
 * MaskDM beyond parity: official sizes, names and settings, the network's tokens and options, the loss, sampling, both
 * stages of training and the way between them. Its masks are block-masks.test.ts. Needs Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  affine,
  backward,
  cpu,
  type DType,
  mean,
  noGrad,
  observe,
  type Rng,
  rng,
  scope,
  stats,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { ready } from '../core/ready.ts'
import { cropSize, drawMask, type Masking, maskOfFlags } from '../diffusion/block-masks.ts'
import { type Prediction, qSample } from '../diffusion/gaussian.ts'
import { tokenMask } from '../diffusion/masking.ts'
import { type MaskDMOptions, MaskedUViT, UViTAttention } from '../models/maskdm.ts'
import {
  drawMaskDM,
  maskdmDiffusion,
  maskdmSample,
  maskdmSteps,
  maskedDenoisingScoreMatching,
} from '../models/maskdm-diffusion.ts'
import { maskdmOptimizer, maskdmPreset, maskdmPresets } from '../models/maskdm-presets.ts'
import { loadPretrained, networkState, resizePositions } from '../models/maskdm-transfer.ts'
import { AdamW, Attention, Ema, type HostState, type Module, powerDecay, shapesOnly } from '../nn/index.ts'
import { close, values } from './helpers.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, 'fixtures', name), 'utf8'))

// ---- official sizes, names and settings -----------------------------------------------------------------------------

interface Official {
  readonly total: number
  readonly trainable: number
  readonly buffers: number
  readonly hyper: Readonly<Record<string, unknown>> & {
    readonly train: Readonly<Record<string, unknown>>
    readonly mask: Readonly<Record<string, unknown>>
  }
}

const official: Record<string, Official> = read('param-counts.json').MaskDM

for (const [file, { total, trainable, buffers, hyper }] of Object.entries(official))
  test(`parameters and settings of ${file}`, () => {
    const { network, masking, schedule, training } = maskdmPreset(file.replace(/\.yml$/, ''))
    const model = new MaskedUViT(network, shapesOnly)
    assert.equal(model.countParameters(), { total, trainable, buffers })
    model.dispose()
    assert.equal(
      [network.inputSize, network.patchSize, network.inChannels, network.hiddenSize, network.depth, network.numHeads],
      ['img_size', 'patch_size', 'in_chans', 'encoder_embed_dim', 'encoder_depth', 'encoder_heads'].map(n => hyper[n]),
    )
    const { train, mask } = hyper
    assert.equal([train.lr, train.batch_size, train.ema_decay], [training.lr, training.batch, training.emaDecay])
    assert.equal([train.clip_grad, train.warmup_steps ?? 0], [training.maxNorm, training.warmUpSteps])
    assert.equal([train.beta_schedule, train.adam_betas], [schedule, maskdmOptimizer.betas])
    assert.is(train.weight_decay, maskdmOptimizer.weightDecay)
    assert.equal(masking, mask.MASK_RATIO === 0 ? null : maskingOf(mask))
  })

function maskingOf({ MASK_TYPE, MASK_RATIO, MASK_BLOCK_SIZE, MASK_CROP_SIZE }: Official['hyper']['mask']): Masking {
  const ratio = Number(MASK_RATIO)
  if (MASK_TYPE === 'patch') return { way: 'patch', ratio }
  if (MASK_TYPE === 'block') return { way: 'block', ratio, size: Number(MASK_BLOCK_SIZE) }
  assert.is(cropSize([16, 16], ratio), MASK_CROP_SIZE)
  return { way: 'crop', size: Number(MASK_CROP_SIZE) }
}

test('every preset but tiny is an official one', () => {
  const files = Object.keys(official).map(file => file.replace(/\.yml$/, ''))
  assert.equal(Object.keys(maskdmPresets).sort(), [...files, 'tiny'].sort())
  assert.throws(() => maskdmPreset('celebahq'), /^MaskDM: preset: wanted one of tiny, .*got 'celebahq'$/)
  assert.throws(() => maskdmPreset('constructor'), RangeError)
})

test('names, shapes and order of the state of celebahq_base', () => {
  const model = new MaskedUViT(maskdmPreset('celebahq_base').network, shapesOnly)
  const wanted: { name: string; shape: number[] }[] = read('state-dicts.json')['MaskDM MaskedUViT celebahq_base']
  assert.equal(
    Array.from(model.stateDict(), ([name, { shape }]) => ({ name, shape: [...shape] })),
    wanted.map(({ name, shape }) => ({ name, shape })),
  )
  model.dispose()
})

// ---- small models ---------------------------------------------------------------------------------------------------

const small: MaskDMOptions = {
  inputSize: 8,
  patchSize: 2,
  inChannels: 3,
  hiddenSize: 16,
  depth: 3,
  numHeads: 2,
  numClasses: 0,
}
const labelled = { ...small, numClasses: 5, qkvBias: true, mlpTimeEmbed: true }

interface Place {
  readonly backend: typeof cpu
  readonly dtype: DType
}
const f64: Place = { backend: cpu, dtype: 'f64' }
const f32: Place = { backend: wasm, dtype: 'f32' }

/** Every weight from a normal distribution, so that biases too play a part. */
function opened<M extends Module>(model: M, random: Rng): M {
  const drawn = [...model.stateDict()].map(([name, { shape, size }]) => {
    const spread = shape.length > 1 ? 0.8 / Math.sqrt(shape.slice(1).reduce((n, d) => n * d, 1)) : 0.3
    return [name, { shape, data: random.normalArray(size).map(z => z * spread) }] as const
  })
  model.loadStateDict(new Map(drawn))
  return model
}

const make = (options: MaskDMOptions, seed = 1) => opened(new MaskedUViT(options, { rng: null, ...f64 }), rng(seed))
const pictures = (N: number, { inChannels, inputSize }: MaskDMOptions, place = f64, seed = 2) =>
  rng(seed).normal([N, inChannels, inputSize, inputSize], place)

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
          const mask = drawMask({ way: 'patch', ratio: 0.9 }, N, [tokens, tokens], rng(3), f64)
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
  const ours = opened(new UViTAttention({ ...small, hiddenSize: D, qkvBias: true }, { rng: null, ...f64 }), rng(4))
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

  const mask = drawMask({ way: 'block', ratio: 0.75, size: 2 }, N, [4, 4], rng(7), f64)
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
        const draws = drawMaskDM(model, x, masking, rng(8))
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
  const draw = (masking: Masking) => () => drawMaskDM(plain, x, masking, rng(0))
  const sample = (steps: number) => () => maskdmSample(d, z => z, x, { steps, noise: rng(0) })
  const wrong: readonly [() => unknown, RegExp][] = [
    [built({ patchSize: 3 }), /^MaskDM: wanted inputSize: a multiple of patchSize 3, got 8$/],
    [built({ depth: 0 }), /^MaskDM: wanted depth: an integer from 1, got 0$/],
    [built({ numHeads: 3 }), /^MaskDM: wanted a width divisible by 3 heads, got 16$/],
    [() => model.forward(x, [1]), /^MaskDM: wanted a timestep for each of 2 pictures, got 1$/],
    [() => model.forward(x, [1, 2], [1]), /^MaskDM: wanted a label for each of 2 pictures, got 1$/],
    [() => model.forward(x, [1, 2], [0, 5]), /^MaskDM: labels: wanted integers in \[0, 4\], got 5$/],
    [() => model.forward(x, [1, 2], [-1, 0]), /labels: wanted integers in \[0, 4\], got -1$/],
    [() => model.forward(x, [1, 2], [0.5, 0]), /got 0\.5$/],
    [() => plain.forward(x, [1, 2], [0, 0]), /^MaskDM: wanted no labels, as the model has no classes, got some$/],
    [() => plain.forward(pictures(2, { ...small, inputSize: 4 }), [1, 2]), /^MaskDM: wanted x \[N, 3, 8, 8\], got/],
    [
      () => plain.patches(x, [1, 2], null, maskOfFlags(new Int32Array(8), [2, 4], f64)),
      /^MaskDM: wanted a mask \[2, 16\], got \[2, 4\]$/,
    ],
    [draw({ way: 'patch', ratio: 1 }), /^masking: ratio: wanted a number in \[0, 1\), got 1$/],
    [draw({ way: 'block', ratio: 0.5, size: 5 }), /^masking: block size: wanted an integer in \[1, 4\], got 5$/],
    [
      () => maskedDenoisingScoreMatching(plain, d, x, [0, 50], drawMaskDM(plain, x, null, rng(0))),
      /t: wanted integers in \[0, 50\), got 50 for sample 1$/,
    ],
    [sample(51), /^maskdmTimesteps: steps: wanted an integer in \[1, 50\], got 51$/],
    [sample(0), /steps: wanted an integer in \[1, 50\], got 0$/],
    [() => maskdmSample(d, z => z, x, { steps: 5 }), /^ddimStep: noise: wanted a tensor, as eta is 1, got null$/],
    [() => maskdmDiffusion({ schedule: 'linear', T: 10 }), /^linearBetas: T: wanted an integer from 20, got 10$/],
  ]
  for (const [run, message] of wrong) assert.throws(run, message)
})

// ---- loss and sampling ----------------------------------------------------------------------------------------------

test('the loss: ε, x_0 and v, squared and absolute, over the visible patches', () => {
  const model = make(labelled)
  const [N, T, C, P] = [2, 16, 3, 2]
  const [x0, t, y] = [pictures(N, labelled), [40, 700], [1, 4]]
  const noise = pictures(N, labelled, f64, 9)
  const mask = drawMask({ way: 'patch', ratio: 0.6 }, N, [4, 4], rng(10), f64)
  for (const prediction of ['epsilon', 'xStart', 'v'] as const satisfies readonly Prediction[]) {
    const d = maskdmDiffusion({ prediction, schedule: 'linear' })
    const predicted = values(model.patches(qSample(d, x0, t, noise), t, y, mask))
    const [signal, eps] = [values(x0), values(noise)]
    /** What the network should say for channel c of pixel (i, j) of a patch, which unpatchify reads by (i, j, c). */
    const wanted = (n: number, token: number, at: number) => {
      const [i, j, c] = [Math.floor(at / (P * C)), Math.floor(at / C) % P, at % C]
      const pixel = ((n * C + c) * 8 + Math.floor(token / 4) * P + i) * 8 + (token % 4) * P + j
      const a = d.alphaBar[t[n]]
      const v = Math.sqrt(a) * eps[pixel] - Math.sqrt(1 - a) * signal[pixel]
      return prediction === 'v' ? v : prediction === 'xStart' ? signal[pixel] : eps[pixel]
    }
    for (const error of ['l1', 'l2'] as const) {
      const loss = maskedDenoisingScoreMatching(model, d, x0, t, { noise, mask }, { labels: y, error })
      const size = P * P * C
      const byHand = Array.from({ length: N }, (_, n) => {
        let total = 0
        for (let k = 0; k < mask.kept; k++)
          for (let at = 0; at < size; at++) {
            const got = predicted[(n * mask.kept + k) * size + at]
            const difference = Math.abs(got - wanted(n, mask.hostIdsKeep[n * mask.kept + k], at))
            total += error === 'l1' ? difference : difference ** 2
          }
        return total / (mask.kept * size)
      })
      close(values(loss), byHand, 1e-12, `${prediction} ${error}`)
    }
  }
  assert.ok(mask.kept < T)
})

test('fine-tuning is the same loss without a mask', () => {
  const model = make(small)
  const [x0, t, d] = [pictures(2, small), [40, 700], maskdmDiffusion()]
  const draws = drawMaskDM(model, x0, null, rng(11))
  assert.is(draws.mask, null)
  const everything = maskOfFlags(new Int32Array(32), [2, 16], f64)
  const [whole, masked] = [draws, { ...draws, mask: everything }].map(some =>
    values(maskedDenoisingScoreMatching(model, d, x0, t, some)),
  )
  close(masked, whole, 1e-13)
})

test('sampling: pictures in [0, 1], clipped, from the same seeds the same', () => {
  const model = make(small)
  const d = maskdmDiffusion({ T: 60 })
  const network = (x: Tensor, t: ArrayLike<number>) => model.forward(x, t)
  const run = (steps: number, seed: number, eta?: number) => {
    const pictures = scope(() =>
      maskdmSample(d, network, rng(1).normal([2, 3, 8, 8], f64), { steps, eta, noise: rng(seed) }),
    )
    return values(pictures)
  }
  const sample = run(10, 2)
  assert.ok(sample.every(v => v >= 0 && v <= 1))
  assert.equal(run(10, 2), sample)
  assert.not.equal(run(10, 3), sample) // η is 1 unless said
  assert.equal(run(10, 3, 0), run(10, 2, 0))
  assert.equal(run(60, 2).length, sample.length) // as many steps as timesteps
  const visited = scope(() =>
    Array.from(maskdmSteps(d, network, rng(1).normal([1, 3, 8, 8], f64), { steps: 7, noise: rng(2) }), ({ t }) => t),
  )
  // −1 + 60 i/7, cut to integers
  assert.equal(visited, [59, 50, 41, 33, 24, 16, 7])
})

test('sampling keeps the ε that the network said, where the x_0 beside it is clipped', () => {
  // One step from t = 59 to t = 29 with η = 0: x = √ᾱ clip(x̂_0) + √(1 − ᾱ) ε.
  const d = maskdmDiffusion({ T: 60 })
  const eps = 0.25
  const x = tensor([3], { shape: [1, 1, 1, 1], ...f64 })
  const [first] = scope(() =>
    Array.from(
      maskdmSteps(d, z => affine(z, 0, eps), x, { steps: 2, eta: 0 }),
      step => values(step.x)[0],
    ),
  )
  const [a, next] = [d.alphaBar[59], d.alphaBar[29]]
  assert.ok((3 - Math.sqrt(1 - a) * eps) / Math.sqrt(a) > 1)
  close([first], [Math.sqrt(next) + Math.sqrt(1 - next) * eps], 1e-12)
})

// ---- from pre-training to fine-tuning -------------------------------------------------------------------------------

test('positions: bicubic, as PyTorch interpolates; extra tokens and an equal grid stay as they are', () => {
  const at = (S: number, f: (row: number, column: number) => number, extra: number[]) =>
    tensor([...extra, ...Array.from({ length: S * S }, (_, i) => f(Math.floor(i / S), i % S))], {
      shape: [1, extra.length + S * S, 1],
      ...f64,
    })
  const [extra, same] = resizePositions(
    at(3, (r, c) => 10 * r + c, [-1, -2]),
    2,
    3,
  )
  assert.equal(
    [values(extra), values(same)],
    [
      [-1, -2],
      [0, 1, 2, 10, 11, 12, 20, 21, 22],
    ],
  )
  // torch.nn.functional.interpolate([[1, 2], [4, 8]], size=3, mode='bicubic'), and of arange(9) to 2 × 2
  const [, up] = resizePositions(
    at(2, (r, c) => [1, 2, 4, 8][2 * r + c], [-1]),
    1,
    3,
  )
  close(values(up), [0.675383, 1.109375, 1.543367, 2.282986, 3.75, 5.217014, 3.890589, 6.390625, 8.890661], 1e-6)
  const [, down] = resizePositions(
    at(3, (r, c) => 3 * r + c, [-1]),
    1,
    2,
  )
  close(values(down), [0.765625, 2.382812, 5.617188, 7.234375], 1e-6)
  const [, constant] = resizePositions(
    at(5, () => 7, []),
    0,
    9,
  )
  close(values(constant), new Array<number>(81).fill(7), 1e-12)
  assert.throws(
    () =>
      resizePositions(
        at(3, () => 0, [1]),
        2,
        3,
      ),
    /^resizePositions: wanted positions of a square grid, got 8 beside 2 extra tokens$/,
  )
})

test('a checkpoint loads into the same model byte by byte, whatever the prefix of its names', () => {
  const from = make(labelled, 20)
  const wanted = [...from.stateDict()].map(([name, p]) => [name, values(p)] as const)
  for (const prefix of ['', 'model.', 'ema_model.model.']) {
    const into = make(labelled, 21)
    const named = [...from.stateDict()].map(([name, p]) => [prefix + name, p] as const)
    const checkpoint = new Map<string, Tensor | HostState>(named)
    if (prefix !== '') checkpoint.set('betas', { shape: [3], data: [1, 2, 3] })
    loadPretrained(into, checkpoint)
    assert.equal(
      [...into.stateDict()].map(([name, p]) => [name, values(p)] as const),
      wanted,
    )
  }
  assert.throws(() => networkState(new Map([['x', { shape: [1], data: [1] }]])), /wanted a checkpoint with 'encoder\./)
})

test('a checkpoint loads into a model for other pictures', () => {
  const positions = (model: MaskedUViT) => values(model.encoder.encoder_pos_embed)
  const D = 16
  const row = (model: MaskedUViT, i: number) => positions(model).slice(i * D, (i + 1) * D)
  const from = make(labelled, 22)
  const sixteen = { ...labelled, inputSize: 16 }

  const larger = make(sixteen, 23)
  loadPretrained(larger, from.stateDict())
  assert.equal([row(larger, 0), row(larger, 1)], [row(from, 0), row(from, 1)])
  const [, wanted] = resizePositions(from.encoder.encoder_pos_embed, 2, 8)
  assert.equal(positions(larger).slice(2 * D), values(wanted))
  assert.equal(larger.forward(pictures(1, sixteen), [5], [0]).shape, [1, 3, 16, 16])
  assert.equal(values(larger.encoder.label_emb!.weight), values(from.encoder.label_emb!.weight))

  const other = make({ ...labelled, numClasses: 3 }, 24)
  const fresh = values(other.encoder.label_emb!.weight)
  loadPretrained(other, from.stateDict())
  assert.equal(values(other.encoder.label_emb!.weight), fresh)
  assert.equal(positions(other), positions(from))

  const none = make({ ...labelled, numClasses: 0 }, 25)
  loadPretrained(none, from.stateDict())
  assert.equal(positions(none), positions(from).slice(D)) // all but the label's

  const back = make(labelled, 26)
  const [label, token] = [row(back, 0), values(back.encoder.uncond_embed!)]
  loadPretrained(back, none.stateDict())
  assert.equal([row(back, 0), values(back.encoder.uncond_embed!)], [label, token])
  assert.equal(positions(back).slice(D), positions(none))

  assert.throws(() => loadPretrained(make({ ...labelled, patchSize: 4 }), from.stateDict()), /of another shape: .*proj/)
  const f32Model = new MaskedUViT(labelled, { rng: rng(27), ...f32 })
  loadPretrained(f32Model, from.stateDict()) // from f64 on cpu
  close(positions(f32Model), positions(from), 1e-6)
})

const eight = { ...small, hiddenSize: 32, numHeads: 4 }

test('learns 8 pictures by heart, masked and then whole, in constant memory and without fallbacks', async () => {
  const model = new MaskedUViT(eight, { rng: rng(30), ...f32 })
  const ema = new Ema(model, new MaskedUViT(eight, { rng: null, ...f32 }), { decay: powerDecay(0.999) })
  const N = 8
  const x0 = pictures(N, eight, f32)
  const d = maskdmDiffusion()
  const t = Array.from({ length: N }, (_, n) => 100 + 110 * n)
  const fallbacks = stats(wasm).fallbacks
  const bytes: number[] = []

  async function train(masking: Masking | null, steps: number): Promise<number[]> {
    const optimizer = new AdamW(model.namedParameters(), { lr: 3e-3, ...maskdmOptimizer })
    const losses: number[] = []
    for (let step = 0; step < steps; step++) {
      const loss = scope(() => {
        // The same draws at every step: nothing but learning lowers the loss.
        const loss = mean(maskedDenoisingScoreMatching(model, d, x0, t, drawMaskDM(model, x0, masking, rng(31))))
        backward(loss)
        const { finite } = optimizer.step({ maxNorm: 1 })
        optimizer.zeroGrad()
        ema.update(finite)
        return loss
      })
      losses.push(await loss.item())
      loss.dispose()
      bytes.push(stats(wasm).bytes)
    }
    optimizer.dispose()
    return losses
  }

  const masked = await train({ way: 'block', ratio: 0.5, size: 2 }, 80)
  assert.ok(masked[79] < 0.2 * masked[0], `masked: ${masked[0]} → ${masked[79]}`)
  const whole = await train(null, 100)
  assert.ok(whole[99] < 0.2 * masked[0], `whole: ${whole[0]} → ${whole[99]}`)
  assert.is(stats(wasm).fallbacks - fallbacks, 0)
  assert.ok(new Set(bytes.slice(5, 80)).size === 1, `bytes: ${[...new Set(bytes)].join(', ')}`)

  const drawn = noGrad(() =>
    scope(() => maskdmSample(d, (x, t) => ema.average.forward(x, t), x0, { steps: 3, noise: rng(32) })),
  )
  assert.ok(values(drawn).every(v => v >= 0 && v <= 1))
})

test('a step with labels leaves the token for none alone', () => {
  const model = make(labelled)
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-2, ...maskdmOptimizer })
  const before = values(model.encoder.uncond_embed!)
  const [x, d] = [pictures(2, labelled), maskdmDiffusion()]
  const draws = drawMaskDM(model, x, { way: 'crop', size: 2 }, rng(33))
  backward(mean(maskedDenoisingScoreMatching(model, d, x, [10, 900], draws, { labels: [0, 1] })))
  assert.is(model.encoder.uncond_embed!.grad, null)
  optimizer.step()
  assert.equal(values(model.encoder.uncond_embed!), before)
})

test.run()
