/** Diffusion: schedules, respacing, the equations of q and p, losses, and what bad arguments say. */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradcheck } from '../../core/gradcheck.ts'
import { backward, concat, div, full, mul, scope, slice, sum, type Tensor, tensor } from '../../core/index.ts'
import {
  classifierFreeGuidance,
  cosineBetas,
  ddimSample,
  ddimStep,
  ddpmStep,
  discretizedLogLikelihood,
  epsilonOf,
  type GaussianDiffusion,
  gaussianDiffusion,
  heunSample,
  hybridLoss,
  linearBetas,
  maskdmTimesteps,
  meanPerSample,
  minSnrWeight,
  type Network,
  type Prediction,
  pMeanVariance,
  preconditioning,
  qSample,
  respace,
  scheduleOf,
  shiftedCosineBetas,
  sigmaSteps,
  spaceTimesteps,
  tokenMask,
  trainingLoss,
  vlbTerms,
  xStartOf,
} from '../../diffusion/index.ts'
import { f64, near, normal } from '../near.ts'

/** A network whose output is stored, and which remembers what it was asked. */
function stored(output: Tensor, asked: number[][] = []): Network {
  return (_, t) => {
    asked.push([...t])
    return output
  }
}

const linear = (T: number) => gaussianDiffusion({ betas: linearBetas(T) })

// ---- schedules and respacing --------------------------------------------------------------------------------------

test('schedules: ends of the linear one, the cap of the cosine one, and MaskDM’s cosine is the same', () => {
  const betas = linearBetas(250)
  assert.ok(Math.abs(betas[0] - 4e-4) < 1e-18 && betas[249] === 0.08)
  assert.is(cosineBetas(100)[99], 0.999)
  const T = 1000
  const wave = (t: number) => Math.cos((((t / T + 0.008) / 1.008) * Math.PI) / 2) ** 2
  cosineBetas(T).forEach((beta, t) => {
    const theirs = Math.min(Math.max(1 - wave(t + 1) / wave(0) / (wave(t) / wave(0)), 0), 0.999)
    assert.ok(Math.abs(beta - theirs) < 1e-15, `t = ${t}`)
  })
})

test('the shifted cosine schedule: SNR times (64/size)², nothing at 64 pixels', () => {
  const snr = (betas: Float64Array) => scheduleOf(betas).alphaBar.map(a => a / (1 - a))
  shiftedCosineBetas(100, 64).forEach((beta, t) => {
    assert.ok(Math.abs(beta - cosineBetas(100)[t]) < 1e-13)
  })
  for (const size of [8, 32, 128, 512]) {
    // Both schedules divide ᾱ by its value at 0, which is nearly 1: compare before that.
    const alphaBar = (u: number) => Math.cos((((u + 0.008) / 1.008) * Math.PI) / 2) ** 2
    const first = 1 / (1 + 1 / ((64 / size) ** 2 * (alphaBar(0) / (1 - alphaBar(0)))))
    const found = snr(shiftedCosineBetas(100, size))
    for (const t of [0, 20, 60, 97]) {
      const shifted = (64 / size) ** 2 * (alphaBar((t + 1) / 100) / (1 - alphaBar((t + 1) / 100)))
      const divided = 1 / (1 + 1 / shifted) / first
      assert.ok(Math.abs(found[t] / (divided / (1 - divided)) - 1) < 1e-8, `${size} at ${t}`)
    }
  }
})

test('tables: one step of the posterior undoes one of q, for any betas', () => {
  const betas = fc.array(fc.double({ min: 1e-4, max: 0.999, noNaN: true }), { minLength: 1, maxLength: 30 })
  fc.assert(
    fc.property(betas, values => {
      const s = scheduleOf(values)
      for (let t = 0; t < values.length; t++) {
        assert.ok(Math.abs(s.alphaBar[t] - s.alphaBarPrev[t] * (1 - values[t])) < 1e-15)
        // The mean of q(x_{t−1} | x_t, x_0) at x_t = √ᾱ_t x_0 is √ᾱ_{t−1} x_0.
        const back = s.posteriorMeanX0[t] + s.posteriorMeanXt[t] * Math.sqrt(s.alphaBar[t])
        assert.ok(Math.abs(back - Math.sqrt(s.alphaBarPrev[t])) < 1e-9)
        assert.ok(Number.isFinite(s.posteriorLogVariance[t]))
      }
      assert.is(s.posteriorVariance[0], 0)
      assert.is(scheduleOf(values, 1e-20).posteriorLogVariance[0], Math.log(1e-20))
    }),
  )
})

test('respacing: timesteps as the official code chooses them', () => {
  assert.equal([...spaceTimesteps(6, '3')], [0, 2, 5]) // 2.5 is rounded to even
  assert.equal([...spaceTimesteps(8, '3')], [0, 4, 7]) // 3.5 too
  assert.equal([...spaceTimesteps(10, '1')], [0])
  assert.equal([...spaceTimesteps(11, '2,3,1')], [0, 3, 4, 6, 7, 8])
  assert.equal([...spaceTimesteps(10, 'ddim4')], [0, 3, 6, 9])
  assert.equal([...spaceTimesteps(3, '')], [0, 1, 2])
  assert.equal([...maskdmTimesteps(1000, 5)], [199, 399, 599, 799, 999])
  assert.equal([...maskdmTimesteps(10, 3)], [2, 5, 9]) // −1, 2.33, 5.67, 9
  assert.equal([...maskdmTimesteps(7, 7)], [0, 1, 2, 3, 4, 5, 6])
})

test('respacing keeps ᾱ, the order of steps, and their original numbers, also twice', () => {
  const spacing = fc.integer({ min: 20, max: 300 }).chain(T =>
    fc.integer({ min: 1, max: 4 }).chain(sections =>
      fc.tuple(
        fc.constant(T),
        fc.array(fc.integer({ min: 1, max: Math.floor(T / sections) }), {
          minLength: sections,
          maxLength: sections,
        }),
      ),
    ),
  )
  fc.assert(
    fc.property(spacing, ([T, counts]) => {
      const kept = spaceTimesteps(T, counts.join(','))
      assert.is(
        kept.length,
        counts.reduce((a, b) => a + b),
      )
      assert.is(kept[0], 0)
      const d = respace(linear(T), kept)
      kept.forEach((t, i) => {
        assert.ok(i === 0 || t > kept[i - 1])
        assert.ok(t < T)
        const { alphaBar } = linear(T)
        assert.ok(Math.abs(d.alphaBar[i] - alphaBar[t]) <= 1e-14)
      })
      assert.equal(d.timesteps, kept)
      const half = respace(
        d,
        kept.map((_, i) => i).filter(i => i % 2 === 0),
      )
      assert.equal(
        half.timesteps,
        kept.filter((_, i) => i % 2 === 0),
      )
    }),
    { numRuns: 40 },
  )
  const stride = fc
    .integer({ min: 2, max: 500 })
    .chain(T => fc.tuple(fc.constant(T), fc.integer({ min: 1, max: T - 1 })))
  fc.assert(
    fc.property(stride, ([T, k]) => {
      const count = Math.ceil(T / k)
      const kept = spaceTimesteps(T, `ddim${count}`)
      assert.is(kept.length, count)
      assert.ok(kept.every((t, i) => t === i * (kept[1] ?? 0) && t < T))
    }),
  )
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }).chain(T => fc.tuple(fc.constant(T), fc.integer({ min: 1, max: T }))),
      ([T, steps]) => {
        const kept = maskdmTimesteps(T, steps)
        assert.ok(kept.every((t, i) => t >= 0 && t < T && (i === 0 || t > kept[i - 1])))
        assert.is(kept[steps - 1], T - 1)
      },
    ),
  )
})

test('a respaced diffusion tells the network original timesteps', () => {
  const d = respace(linear(1000), spaceTimesteps(1000, '10,15,20'))
  const asked: number[][] = []
  const x = normal(1, 2, 1, 2, 2)
  scope(() => ddpmStep(d, stored(normal(2, 2, 2, 2, 2), asked), x, [44, 9], x))
  assert.equal(asked, [[999, 333]])
})

// ---- q, p and the losses ------------------------------------------------------------------------------------------

test('the network’s prediction as ε, x_0 or v gives the same x_0, ε and posterior mean', () => {
  const [x0, noise] = [normal(3, 4, 2, 3, 3), normal(4, 4, 2, 3, 3)]
  const t = [0, 1, 50, 99]
  scope(() => {
    const at = (prediction: Prediction) =>
      gaussianDiffusion({ betas: linearBetas(100), prediction, variance: 'fixedSmall' })
    const xt = qSample(at('v'), x0, t, noise)
    const signal = t.map(i => Math.sqrt(at('v').alphaBar[i]))
    const v = tensor(
      noise.dataSync().map((e, i) => {
        const s = signal[Math.floor(i / 18)]
        return s * e - Math.sqrt(1 - s * s) * x0.dataSync()[i]
      }),
      { ...f64, shape: x0.shape },
    )
    for (const [prediction, output] of [
      ['epsilon', noise],
      ['xStart', x0],
      ['v', v],
    ] as const) {
      const d = at(prediction)
      near(xStartOf(d, output, xt, t), x0, 1e-9, `x_0 from ${prediction}`)
      near(epsilonOf(d, xStartOf(d, output, xt, t), xt, t), noise, 1e-9, `ε from ${prediction}`)
      near(hybridLoss(d, output, { x0, xt, noise, t }).mse, full([4], 0, f64), 1e-20, `loss of ${prediction}`)
    }
  })
})

test('rows at t = 0 get no noise and the decoder’s term; other rows do not notice', () => {
  const d = linear(50)
  const x = normal(5, 3, 1, 4, 4)
  const output = normal(6, 3, 2, 4, 4)
  const z = normal(7, 3, 1, 4, 4)
  scope(() => {
    const t = [0, 20, 0]
    const rows = (f: (t: number[]) => Tensor, row: number) => slice(f([t[row], t[row], t[row]]), 0, row, row + 1)
    const step = (at: number[]) => ddpmStep(d, stored(output), x, at, z).x
    const ddim = (at: number[]) => ddimStep(d, stored(output), x, at, z, { eta: 1 }).x
    const bound = (at: number[]) => vlbTerms(d, output, mul(z, 0.3), x, at)
    for (const f of [step, ddim, bound])
      for (const row of [0, 1, 2]) near(slice(f(t), 0, row, row + 1), rows(f, row), 0, `row ${row}`)
    const p = pMeanVariance(d, output, x, t)
    const { mean: mu, predXStart } = p
    const decoder = div(meanPerSample(discretizedLogLikelihood(mul(z, 0.3), p)), -Math.LN2)
    for (const row of [0, 2]) near(slice(bound(t), 0, row, row + 1), slice(decoder, 0, row, row + 1), 0, 'decoder')
    near(slice(step(t), 0, 0, 1), slice(mu, 0, 0, 1), 0, 'DDPM at t = 0')
    near(slice(ddim(t), 0, 2, 3), slice(predXStart, 0, 2, 3), 1e-15, 'DDIM at t = 0')
    assert.ok(step(t).dataSync()[16] !== mu.dataSync()[16])
  })
})

test('clipping bounds the predicted x_0, and only where asked', () => {
  const d = linear(50)
  const [x, output] = [normal(8, 2, 1, 4, 4), normal(9, 2, 2, 4, 4)]
  scope(() => {
    const worst = (clip: boolean) =>
      Math.max(...pMeanVariance(d, output, x, [40, 40], { clip }).predXStart.dataSync().map(Math.abs))
    assert.is(worst(true), 1)
    assert.ok(worst(false) > 1)
  })
})

test('clipping does not hide an overflow: what is not finite becomes NaN', () => {
  const d = linear(50)
  const x = normal(8, 1, 1, 1, 4)
  for (const [value, is] of [
    [Number.POSITIVE_INFINITY, Number.NaN],
    [Number.NEGATIVE_INFINITY, Number.NaN],
    [Number.NaN, Number.NaN],
    [1e300, -1],
  ] as const)
    scope(() => {
      const output = tensor([0, value, 0, 0, 0, 0, 0, 0], { shape: [1, 2, 1, 4], ...f64 })
      const [first, second] = pMeanVariance(d, output, x, [40], { clip: true }).predXStart.dataSync()
      assert.ok(Math.abs(first) <= 1)
      assert.ok(Object.is(second, is))
    })
})

test('the hybrid loss: its gradient is right, and the bound does not reach the prediction', () => {
  const d = linear(50)
  const [x0, noise, output] = [
    mul(normal(10, 3, 1, 2, 2), 0.3),
    normal(11, 3, 1, 2, 2),
    mul(normal(12, 3, 2, 2, 2), 0.5),
  ]
  const t = [0, 7, 49]
  const xt = qSample(d, x0, t, noise)
  const bound = (y: Tensor) => hybridLoss(d, y, { x0, xt, noise, t }).vb!
  const range = slice(output, 1, 1, 2)
  const error = gradcheck(r => bound(concat([slice(output, 1, 0, 1), r], 1)), [range])
  assert.ok(error! < 1e-6, `gradient of the bound by the variances: ${error}`)
  const leaf = output.requireGrad()
  backward(sum(bound(leaf)))
  const g = leaf.grad!
  assert.ok(
    slice(g, 1, 0, 1)
      .dataSync()
      .every(v => v === 0),
  )
  assert.ok(
    slice(g, 1, 1, 2)
      .dataSync()
      .every(v => v !== 0),
  )
  leaf.grad = null
  const errorAll = gradcheck(y => hybridLoss(d, y, { x0, xt, noise, t }).mse, [output])
  assert.ok(errorAll! < 1e-6, `gradient of the squared error: ${errorAll}`)
})

test('the hybrid loss: weights and fixed variances', () => {
  const d = respace(linear(1000), spaceTimesteps(1000, '25'))
  const [x0, noise, output] = [normal(13, 3, 1, 2, 2), normal(14, 3, 1, 2, 2), normal(15, 3, 2, 2, 2)]
  const t = [1, 12, 24]
  scope(() => {
    const xt = qSample(d, x0, t, noise)
    const plain = trainingLoss(d, stored(output), x0, t, noise)
    const weighted = hybridLoss(d, output, { x0, xt, noise, t }, { weighting: 'min-snr-5', rescaleVb: true })
    const weights = tensor(
      t.map(i => minSnrWeight(d, i)),
      f64,
    )
    near(weighted.mse, mul(plain.mse, weights), 1e-12, 'min-SNR')
    near(weighted.vb!, mul(plain.vb!, 0.025), 1e-12, 'rescaled bound')
    near(
      plain.loss,
      tensor(
        plain.mse.dataSync().map((m, n) => m + plain.vb!.dataSync()[n]),
        f64,
      ),
      1e-12,
      'sum',
    )
    const fixed: GaussianDiffusion = { ...d, variance: 'fixedSmall' }
    const terms = trainingLoss(fixed, stored(noise), x0, t, noise)
    assert.is(terms.vb, null)
    assert.equal([...terms.loss.dataSync()], [0, 0, 0])
  })
  const snr = (i: number) => d.alphaBar[i] / (1 - d.alphaBar[i])
  assert.ok(snr(0) > 5 && snr(24) < 5)
  assert.is(minSnrWeight(d, 0), 5 / snr(0))
  assert.is(minSnrWeight(d, 24), 1)
  assert.is(minSnrWeight({ ...d, prediction: 'xStart' }, 0), 5)
})

/** Depends on x and t without parameters: ε = ½ x, variance channel x t/1000. */
const simple: Network = (x, t) => {
  const shift = tensor(
    Float64Array.from(t, at => at / 1000),
    { dtype: x.dtype, backend: x.backend, shape: [t.length, ...x.shape.slice(1).map(() => 1)] },
  )
  return concat([mul(x, 0.5), mul(x, shift)], 1)
}

// ---- errors -------------------------------------------------------------------------------------------------------

test('bad arguments are named, with their value and range', () => {
  const d = linear(50)
  const x = normal(22, 2, 1, 2, 2)
  const output = normal(23, 2, 2, 2, 2)
  const fails = (f: () => unknown, message: RegExp) => assert.throws(() => scope(() => void f()), message)
  fails(() => linearBetas(19), /linearBetas: T: expected an integer from 20, got 19/)
  fails(() => cosineBetas(0.5), /cosineBetas: T: expected an integer from 1, got 0.5/)
  fails(() => shiftedCosineBetas(0, 64), /shiftedCosineBetas: T: expected an integer from 1, got 0/)
  fails(() => shiftedCosineBetas(10, 0), /shiftedCosineBetas: size: expected an integer from 1, got 0/)
  fails(() => scheduleOf([0.1, 0]), /betas: expected numbers in \(0, 1\], got 0 at 1/)
  fails(() => qSample(d, x, [0, 50], x), /qSample: t: expected integers in \[0, 50\), got 50 for sample 1/)
  fails(() => qSample(d, x, [0.5, 0], x), /got 0.5 for sample 0/)
  fails(() => qSample(d, x, [0], x), /qSample: expected a timestep for each of 2 samples, got 1/)
  fails(() => pMeanVariance(d, x, x, [0, 0]), /'learnedRange' to return \[2, 2, 2, 2\], got \[2, 1, 2, 2\]/)
  fails(() => spaceTimesteps(10, '11'), /steps of section 1 of '11': expected an integer in \[1, 10\], got 11/)
  fails(() => spaceTimesteps(1000, 'ddim300'), /no stride k keeps .* 300 of T = 1000/)
  fails(() => spaceTimesteps(10, '5;5'), /spacing: expected .*got '5;5'/)
  fails(() => maskdmTimesteps(10, 11), /steps: expected an integer in \[1, 10\], got 11/)
  fails(() => respace(d, [0, 50]), /step 1: expected an integer in \[1, 49\], got 50/)
  fails(() => respace(d, [3, 3]), /step 1: expected an integer in \[4, 49\], got 3/)
  fails(
    () => ddimStep(d, stored(output), x, [0, 0], null, { eta: -0.1 }),
    /eta: expected a number in \[0, 1\], got -0.1/,
  )
  fails(
    () => ddimStep(d, stored(output), x, [9, 9], null, { eta: 1 }),
    /noise: expected a tensor, as eta is 1, got null/,
  )
  fails(() => ddimSample(d, simple, x, { eta: 1 }), /noise/)
  fails(() => classifierFreeGuidance(simple, { scale: -1 }), /scale: expected a number from 0, got -1/)
  fails(() => classifierFreeGuidance(simple, { scale: 1, channels: 0 }), /channels: expected an integer from 1, got 0/)
  fails(() => classifierFreeGuidance(simple, { scale: 1 })(slice(x, 0, 0, 1), Int32Array.of(0)), /doubled batch/)
  for (const ratio of [1, -0.1, Number.NaN])
    fails(() => tokenMask([0.5], [1, 1], ratio), new RegExp(`ratio: expected a number in \\[0, 1\\), got ${ratio}`))
  fails(() => tokenMask([0.5], [1, 2], 0.5), /expected noise for 1 samples of 2 tokens, got 1 numbers/)
  fails(() => preconditioning(0), /sigma: expected a number above 0, got 0/)
  fails(() => sigmaSteps(0), /steps: expected an integer from 1, got 0/)
  fails(() => sigmaSteps(5, { sigmaMin: -1 }), /sigmaMin: expected a number above 0, got -1/)
  fails(() => sigmaSteps(5, { sigmaMax: 0.001 }), /sigmaMax: expected a number above sigmaMin = 0.002, got 0.001/)
  fails(() => heunSample(z => z, x, Float64Array.of(1, 2)), /expected falling levels above 0.*got 2 at 1/)
  fails(() => heunSample(z => z, x, Float64Array.of(2, 1), { churn: 1 }), /noise: expected a source, as churn is 1/)
})

test.run()
