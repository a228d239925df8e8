/** Schedules that end in pure noise, ᾱ = 0: samplers, losses and weights in closed form, and what is refused. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { concat, rng, type Tensor, tensor, zeros } from '../../core/index.ts'
import {
  ddimReverseStep,
  ddimSample,
  ddimStep,
  ddpmSample,
  dpmSolverSample,
  epsilonOf,
  fromNoise,
  type GaussianDiffusion,
  gaussianDiffusion,
  linearBetas,
  logSnrTimesteps,
  minSnrWeight,
  type Network,
  type Prediction,
  respace,
  spaceTimesteps,
  timestepDenoiser,
  timestepSigmas,
  trainingLoss,
  type Variance,
} from '../../diffusion/index.ts'
import { f64, near, normal } from '../near.ts'

/** β of the linear schedule with √ᾱ shifted and scaled so that it ends at 0 [Lin alg. 1]. */
function zeroTerminalBetas(T: number): Float64Array {
  let product = 1
  const roots = Array.from(linearBetas(T), beta => {
    product *= 1 - beta
    return Math.sqrt(product)
  })
  const [first, last] = [roots[0], roots[T - 1]]
  const alphaBar = roots.map(root => (((root - last) * first) / (first - last)) ** 2)
  return Float64Array.from(alphaBar, (each, t) => 1 - each / (t === 0 ? 1 : alphaBar[t - 1]))
}

const shape = [1, 1, 2, 2]
const x0 = tensor([0.5, -0.25, 0.75, 0.1], { shape, ...f64 })

/** Predicts for data that are always x0, without an error. The channels of the variance, if any, are 0. */
function perfect(d: GaussianDiffusion): Network {
  return (x, t) => {
    const at = d.timesteps.indexOf(t[0])
    const [a, s] = [Math.sqrt(d.alphaBar[at]), Math.sqrt(1 - d.alphaBar[at])]
    const clean = x0.dataSync()
    const predicted = Array.from(x.dataSync(), (value, i) => {
      const epsilon = (value - a * clean[i]) / s
      return { xStart: clean[i], v: a * epsilon - s * clean[i], epsilon }[d.prediction]
    })
    const output = tensor(predicted, { shape, ...f64 })
    return d.variance === 'learnedRange' ? concat([output, zeros(shape, f64)], 1) : output
  }
}

const diffusion = (prediction: Prediction, variance: Variance = 'fixedSmall', betas = zeroTerminalBetas(1000)) =>
  gaussianDiffusion({ betas, prediction, variance })

test('with a perfect network every sampler returns the data, by v and by x_0', () => {
  const xT = normal(1, ...shape)
  for (const prediction of ['v', 'xStart'] as const)
    for (const variance of ['fixedSmall', 'fixedLarge', 'learnedRange'] as const) {
      const all = diffusion(prediction, variance)
      assert.is(all.alphaBar[999], 0)
      for (const steps of [1, 2, 10]) {
        const d = respace(all, steps === 1 ? [999] : spaceTimesteps(1000, String(steps)))
        const what = `${prediction}, ${variance}, ${steps} steps`
        for (const eta of [0, 0.5, 1])
          near(ddimSample(d, perfect(d), xT, { eta, noise: rng(2) }), x0, 1e-9, `DDIM, η ${eta}, ${what}`)
        near(ddpmSample(d, perfect(d), xT, { noise: rng(5) }), x0, 1e-9, `DDPM, ${what}`)
      }
    }
})

test('one step from pure noise: √ᾱ x_0 + √(1 − ᾱ − σ²) x_T + σ z, and back', () => {
  const d = diffusion('v')
  const [xT, z] = [normal(3, ...shape), normal(4, ...shape)]
  const T = d.steps - 1
  const alphaBar = d.alphaBarPrev[T]
  const mixed = (a: number, b: number, c: number) =>
    tensor(
      Array.from(x0.dataSync(), (value, i) => a * value + b * xT.dataSync()[i] + c * z.dataSync()[i]),
      { shape, ...f64 },
    )
  for (const eta of [0, 0.5, 1]) {
    const variance = eta ** 2 * (1 - alphaBar) // β = 1 and ᾱ_T = 0
    const { x } = ddimStep(d, perfect(d), xT, [T], z, { eta })
    near(x, mixed(Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar - variance), Math.sqrt(variance)), 1e-12, `η ${eta}`)
  }
  near(epsilonOf(d, x0, xT, [T]), xT, 0, 'ε of pure noise')
  const before = ddimStep(d, perfect(d), xT, [T], null).x
  near(ddimReverseStep(d, perfect(d), before, [T - 1]).x, xT, 1e-9, 'to the last level')
})

test('β = 1 before the end: the levels after it are noise too', () => {
  const d = diffusion('xStart', 'fixedSmall', Float64Array.of(0.1, 0.3, 1, 0.2, 0.5))
  assert.equal([...d.alphaBar.subarray(2)], [0, 0, 0])
  const xT = normal(1, ...shape)
  for (const kept of [
    [0, 1, 2, 3, 4],
    [0, 3, 4],
    [1, 4],
  ])
    for (const eta of [0, 1]) {
      const few = respace(d, kept)
      near(ddimSample(few, perfect(few), xT, { eta, noise: rng(2) }), x0, 1e-12, `${kept}, η ${eta}`)
    }
})

test('losses and min-SNR weights at ᾱ = 0', () => {
  const noise = normal(6, ...shape)
  for (const [prediction, weight] of [
    ['v', 1],
    ['epsilon', 1],
    ['xStart', 0],
  ] as const) {
    const d = diffusion(prediction)
    assert.is(minSnrWeight(d, 999), weight, prediction)
    const network: Network = () => zeros(shape, f64)
    const target = prediction === 'epsilon' ? noise : x0 // v is −x_0
    const square = (t: Tensor) => Array.from(t.dataSync()).reduce((sum, value) => sum + value ** 2, 0) / 4
    const loss = (options = {}) => trainingLoss(d, network, x0, [999], noise, options).loss.dataSync()[0]
    assert.ok(Math.abs(loss() - square(target)) < 1e-12, prediction)
    assert.ok(Math.abs(loss({ weighting: 'min-snr-5' }) - weight * square(target)) < 1e-12, prediction)
  }
  const learned = diffusion('v', 'learnedRange')
  const { vb } = trainingLoss(learned, perfect(learned), x0, [999], noise)
  assert.ok(Math.abs(vb!.dataSync()[0]) < 1) // the variance lies between β̃ and β, the mean is exact
})

test('a network of ε at ᾱ = 0, and noise levels without an end, are refused in words', () => {
  const d = diffusion('epsilon')
  const words = (op: string) =>
    new RegExp(`^${op}: expected a network that predicts v or xStart where ᾱ is 0, got epsilon at step 999: pure noise`)
  const xT = normal(1, ...shape)
  assert.throws(() => ddimSample(d, perfect(d), xT), words('ddimSample'))
  assert.throws(() => ddimSample(d, perfect(d), xT, { keepEpsilon: true }), words('ddimSample'))
  assert.throws(() => ddpmSample(d, perfect(d), xT, { noise: rng(1) }), words('ddpmSample'))
  const v = diffusion('v')
  const level = (where: string) =>
    new RegExp(`^${where}: expected a schedule with ᾱ above 0, got 0 at the last step: its`)
  assert.throws(() => timestepSigmas(v), level('timestepSigmas'))
  assert.throws(() => timestepDenoiser(v, perfect(v)), level('timestepDenoiser'))
  assert.throws(() => fromNoise(v, xT), level('fromNoise'))
  assert.throws(() => logSnrTimesteps(v, 10), level('logSnrTimesteps'))
  // Without the last step the other samplers go.
  const kept = respace(v, spaceTimesteps(999, '10'))
  const sample = dpmSolverSample(timestepDenoiser(kept, perfect(kept)), fromNoise(kept, xT), timestepSigmas(kept))
  near(sample, x0, 1e-9, 'DPM-Solver++')
})

test.run()
