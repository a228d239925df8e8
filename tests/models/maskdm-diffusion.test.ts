/**
 * MaskDM's loss and sampler against their definitions, and both stages of training.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { affine, backward, mean, noGrad, rng, scope, stats, type Tensor, tensor } from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import { type Masking, maskOfFlags, sampleMask } from '../../diffusion/block-masks.ts'
import { type Prediction, qSample } from '../../diffusion/gaussian.ts'
import { MaskedUViT } from '../../models/maskdm.ts'
import {
  maskdmDiffusion,
  maskdmSample,
  maskdmSteps,
  maskedDenoisingScoreMatching,
  sampleMaskDMInputs,
} from '../../models/maskdm-diffusion.ts'
import { maskdmOptimizer } from '../../models/maskdm-presets.ts'
import { AdamW, Ema, powerDecay } from '../../nn/index.ts'
import { close, values } from '../near.ts'
import { learn } from './by-heart.ts'
import { f64, labelled, make, type Place, pictures, small } from './maskdm-models.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

const f32: Place = { backend: wasm, dtype: 'f32' }

test('the loss: ε, x_0 and v, squared and absolute, over the visible patches', () => {
  const model = make(labelled)
  const [N, T, C, P] = [2, 16, 3, 2]
  const [x0, t, y] = [pictures(N, labelled), [40, 700], [1, 4]]
  const noise = pictures(N, labelled, f64, 9)
  const mask = sampleMask({ way: 'patch', ratio: 0.6 }, N, [4, 4], rng(10), f64)
  for (const prediction of ['epsilon', 'xStart', 'v'] as const satisfies readonly Prediction[]) {
    const d = maskdmDiffusion({ prediction, schedule: 'linear' })
    const predicted = values(model.patches(qSample(d, x0, t, noise), t, y, mask))
    const [signal, eps] = [values(x0), values(noise)]
    /** Expected output for channel c of pixel (i, j) of a patch, which unpatchify reads by (i, j, c). */
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
  const draws = sampleMaskDMInputs(model, x0, null, rng(11))
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
  assert.not.equal(run(10, 3), sample) // η is 1 by default
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

test('with the exact ε of Gaussian pictures, sampling draws such pictures', () => {
  // Data N(μ, s²): ε = √(1−ᾱ) (x − √ᾱ μ)/(ᾱ s² + 1 − ᾱ)
  const [mu, s, d] = [0.2, 0.25, maskdmDiffusion()]
  const exact = (x: Tensor, t: ArrayLike<number>) => {
    const a = d.alphaBar[t[0]]
    const slope = Math.sqrt(1 - a) / (a * s * s + 1 - a)
    return affine(x, slope, -slope * Math.sqrt(a) * mu)
  }
  for (const eta of [0, 1]) {
    const drawn = scope(() =>
      values(maskdmSample(d, exact, rng(3).normal([1, 1, 64, 64], f64), { steps: 250, eta, noise: rng(4) })),
    )
    const pixels = drawn.map(v => 2 * v - 1)
    const average = pixels.reduce((a, b) => a + b, 0) / pixels.length
    const spread = Math.sqrt(pixels.reduce((a, b) => a + (b - average) ** 2, 0) / pixels.length)
    assert.ok(Math.abs(average - mu) < 0.02 && Math.abs(spread - s) < 0.02, `η = ${eta}: ${average} ± ${spread}`)
  }
})

// ---- training -------------------------------------------------------------------------------------------------------

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

  async function train(masking: Masking | null, steps: number): Promise<readonly number[]> {
    const optimizer = new AdamW(model.namedParameters(), { lr: 3e-3, ...maskdmOptimizer })
    const lossOf = () =>
      mean(maskedDenoisingScoreMatching(model, d, x0, t, sampleMaskDMInputs(model, x0, masking, rng(31))))
    const learned = await learn(wasm, steps, lossOf, () => {
      const { finite } = optimizer.step({ maxNorm: 1 })
      optimizer.zeroGrad()
      ema.update(finite)
    })
    optimizer.dispose()
    bytes.push(...learned.bytes)
    return learned.losses
  }

  const masked = await train({ way: 'block', ratio: 0.5, size: 2 }, 80)
  assert.ok(masked[79] < 0.2 * masked[0], `masked: ${masked[0]} → ${masked[79]}`)
  const whole = await train(null, 100)
  assert.ok(whole[0] < 0.8 * masked[0], `whole pictures begin with what the masked ones taught: ${whole[0]}`)
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
  const draws = sampleMaskDMInputs(model, x, { way: 'crop', size: 2 }, rng(33))
  backward(mean(maskedDenoisingScoreMatching(model, d, x, [10, 900], draws, { labels: [0, 1] })))
  assert.is(model.encoder.uncond_embed!.grad, null)
  optimizer.step()
  assert.equal(values(model.encoder.uncond_embed!), before)
})

test.run()
