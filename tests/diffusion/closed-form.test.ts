/**
 * Samplers and bounds against what is known exactly. Where the data are Gaussian the best denoiser is a formula, and
 * every step of every sampler is linear in x and in the noise it adds. So one run over a batch of unit vectors gives the
 * sampler's map, and with it the exact mean and variance of its samples: no sampling error, no loose bounds.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { add, affine, concat, cpu, full, mul, rng, scope, slice, sub, type Tensor, tensor } from '../../core/index.ts'
import {
  type Denoiser,
  ddimSample,
  ddpmSample,
  discretizedLogLikelihood,
  dpmSolverSample,
  eulerSample,
  type GaussianDiffusion,
  gaussianDiffusion,
  gaussianKl,
  heunSample,
  linearBetas,
  logNormalSigma,
  lossWeight,
  type Network,
  perSample,
  preconditioning,
  respace,
  scaled,
  sigmaSteps,
  spaceTimesteps,
  vlbTerms,
} from '../../diffusion/index.ts'
import { near } from '../near.ts'

const f64 = { dtype: 'f64', backend: cpu } as const
/** Mean and standard deviation of the data. */
const mu = 0.7
const sd = 0.4

// ---- DDPM and DDIM ------------------------------------------------------------------------------------------------

/** Of q(x_0 | x_t) for data N(mu, sd²): the share of x_t's surprise that is believed, and the variance. */
function belief(alphaBar: number): { gain: number; variance: number } {
  const total = alphaBar * sd ** 2 + 1 - alphaBar
  return { gain: (Math.sqrt(alphaBar) * sd ** 2) / total, variance: (sd ** 2 * (1 - alphaBar)) / total }
}

/** The best network: E[ε | x_t], and the variance channel that makes each reverse step the true q(x_{t−1} | x_t). */
function bestNetwork(d: GaussianDiffusion): Network {
  return (x, original) => {
    const t = new Int32Array(original.length).fill(d.timesteps.indexOf(original[0])) // samplers give one t to all
    const gain = (i: number) => belief(d.alphaBar[i]).gain
    const surprise = sub(
      x,
      perSample(x, t, i => Math.sqrt(d.alphaBar[i]) * mu),
    )
    const x0 = affine(scaled(surprise, t, gain), 1, mu)
    const rest = sub(
      x,
      scaled(x0, t, i => Math.sqrt(d.alphaBar[i])),
    )
    const epsilon = scaled(rest, t, i => 1 / Math.sqrt(1 - d.alphaBar[i]))
    // The variance of x_{t−1} is that of the posterior, and what x_0's own uncertainty adds to its mean.
    const range = (i: number) => {
      const variance = d.posteriorVariance[i] + d.posteriorMeanX0[i] ** 2 * belief(d.alphaBar[i]).variance
      const low = d.posteriorLogVariance[i]
      return (2 * (Math.log(variance) - low)) / (Math.log(d.betas[i]) - low) - 1
    }
    const channel = perSample(x, t, range)
    return concat([epsilon, add(mul(x, 0), channel)], 1)
  }
}

/** (N, 1): 1 in one row, else 0. */
function unitVector(N: number, row: number): Tensor {
  return tensor(
    Float64Array.from({ length: N }, (_, n) => (n === row ? 1 : 0)),
    { ...f64, shape: [N, 1] },
  )
}

/** Mean and variance of what a sampler makes of x_T ~ N(mean, variance), from its map of unit vectors. */
function moments(
  d: GaussianDiffusion,
  sample: (xT: Tensor, noise: (step: number) => Tensor) => Tensor,
): { mean: number; variance: number } {
  // Row 0: x_T = 0 without noise. Row 1: x_T = 1. Row 2 + k: noise 1 in step k alone.
  const N = 2 + d.steps
  const unit = (row: number) => unitVector(N, row)
  const out = scope(() => sample(unit(1), step => unit(2 + step))).dataSync()
  const last = d.alphaBar[d.steps - 1]
  const varianceT = last * sd ** 2 + 1 - last
  let variance = (out[1] - out[0]) ** 2 * varianceT
  for (let k = 0; k < d.steps; k++) variance += (out[2 + k] - out[0]) ** 2
  return { mean: out[0] + (out[1] - out[0]) * Math.sqrt(last) * mu, variance }
}

test('DDPM with the true reverse variances reaches the data, with any number of steps', () => {
  for (const steps of ['8', '20,5,25', '100']) {
    const all = gaussianDiffusion({ betas: linearBetas(1000) })
    const d = respace(all, spaceTimesteps(1000, steps))
    const got = moments(d, (xT, noise) => ddpmSample(d, bestNetwork(d), xT, { noise }))
    near(got.mean, mu, 1e-9, `mean with ${steps} steps`)
    // The last step adds no noise: it gives E[x_0 | x_1], which lacks the variance of q(x_0 | x_1).
    near(got.variance, sd ** 2 - belief(d.alphaBar[0]).variance, 1e-9, `variance with ${steps} steps`)
  }
})

function withFixedVariance(variance: 'fixedSmall' | 'fixedLarge', T: number): { mean: number; variance: number } {
  const d = gaussianDiffusion({ betas: linearBetas(T) })
  const fixed = { ...d, variance }
  const network: Network = (x, t) => slice(bestNetwork(d)(x, t), 1, 0, 1)
  return moments(fixed, (xT, noise) => ddpmSample(fixed, network, xT, { noise }))
}

function withDdim(eta: number, T: number): { mean: number; variance: number } {
  const d = gaussianDiffusion({ betas: linearBetas(T) })
  return moments(d, (xT, noise) => ddimSample(d, bestNetwork(d), xT, { eta, noise }))
}

test('DDPM with fixed variances and DDIM with eta 0.5 reach the data in the limit, with error 1/steps', () => {
  const samplers = {
    fixedLarge: (T: number) => withFixedVariance('fixedLarge', T),
    'eta 0.5': (T: number) => withDdim(0.5, T),
  }
  for (const [name, sample] of Object.entries(samplers)) {
    const [a, b, c] = [60, 120, 240].map(T => {
      const { mean, variance } = sample(T)
      near(mean, mu, 1e-9, `${name}: mean`)
      return Math.abs(variance - sd ** 2)
    })
    assert.ok(c < 0.007, `${name}: error ${c}`)
    for (const ratio of [a / b, b / c]) assert.ok(ratio > 1.7 && ratio < 2.3, `${name}: error ratio ${ratio}`)
  }
})

test('DDIM with eta 1 is DDPM with the smaller of the fixed variances', () => {
  const [ddim, ddpm] = [withDdim(1, 60), withFixedVariance('fixedSmall', 60)]
  near(ddim.mean, ddpm.mean, 1e-12, 'mean')
  near(ddim.variance, ddpm.variance, 1e-12, 'variance')
})

test('DDIM with eta 0 follows the probability flow: exact solution, error 1/steps', () => {
  const all = gaussianDiffusion({ betas: linearBetas(1000) })
  const start = 1.3
  const errors = ['ddim25', 'ddim50', 'ddim100', 'ddim200'].map(spacing => {
    const d = respace(all, spaceTimesteps(1000, spacing))
    // In x/√ᾱ and σ² = (1−ᾱ)/ᾱ the flow keeps (x − mu)/√(sd² + σ²).
    const last = d.alphaBar[d.steps - 1]
    const exact = mu + ((start / Math.sqrt(last) - mu) * sd) / Math.sqrt(sd ** 2 + (1 - last) / last)
    const out = scope(() => ddimSample(d, bestNetwork(d), full([1, 1], start, f64)))
    return Math.abs(out.dataSync()[0] - exact)
  })
  for (let i = 1; i < errors.length; i++) {
    const ratio = errors[i - 1] / errors[i]
    assert.ok(ratio > 1.7 && ratio < 2.3, `error ratio ${ratio} of ${errors}`)
  }
})

test('samples drawn by rng have the mean and the variance of the data', () => {
  const d = respace(gaussianDiffusion({ betas: linearBetas(1000) }), spaceTimesteps(1000, '40'))
  const n = 10_000
  for (const dtype of ['f32', 'f64'] as const) {
    const random = rng(3)
    const out = scope(() => {
      const xT = random.normal([n, 1], { dtype, backend: cpu })
      return ddpmSample(d, bestNetwork(d), xT, { noise: random })
    }).dataSync()
    let [sum, square] = [0, 0]
    for (const x of out) {
      sum += x
      square += x * x
    }
    const variance = square / n - (sum / n) ** 2
    near(sum / n, mu, (4 * sd) / Math.sqrt(n), `${dtype}: mean`) // four standard errors
    near(variance, sd ** 2, 4 * sd ** 2 * Math.sqrt(2 / n), `${dtype}: variance`)
  }
})

// ---- EDM ----------------------------------------------------------------------------------------------------------

const bestDenoiser: Denoiser = (x, sigma) => {
  const gain = (s: number) => sd ** 2 / (sd ** 2 + s ** 2)
  return affine(scaled(affine(x, 1, -mu), sigma, gain), 1, mu)
}

/** The flow from level `from` to level `to`: (x − mu)/√(sd² + σ²) is kept. */
function exactFlow(x: number, from: number, to: number): number {
  return mu + (x - mu) * Math.sqrt((sd ** 2 + to ** 2) / (sd ** 2 + from ** 2))
}

test('Heun and DPM-Solver++(2M) converge to the exact solution with order 2, Euler with order 1', () => {
  const solvers = { heun: heunSample, dpmSolver: dpmSolverSample, euler: eulerSample }
  const orders = { heun: 2, dpmSolver: 2, euler: 1 }
  for (const name of ['heun', 'dpmSolver', 'euler'] as const) {
    const errors = [32, 64, 128, 256].map(steps => {
      const sigmas = sigmaSteps(steps).subarray(0, steps) // without the last step to 0
      const start = 40
      const out = scope(() => solvers[name](bestDenoiser, full([1, 1], start, f64), sigmas))
      return Math.abs(out.dataSync()[0] - exactFlow(start, sigmas[0], sigmas[steps - 1]))
    })
    for (let i = 1; i < errors.length; i++) {
      const order = Math.log2(errors[i - 1] / errors[i])
      assert.ok(Math.abs(order - orders[name]) < 0.25, `${name}: order ${order} of errors ${errors}`)
    }
  }
})

test('Heun with churn keeps the distribution, with an error that more steps reduce', () => {
  const errors = [32, 64, 128].map(steps => {
    const sigmas = sigmaSteps(steps, { sigmaMax: 10 })
    const N = 2 + steps
    const unit = (row: number) => unitVector(N, row)
    const options = { churn: 20, churnMin: 0.05, churnMax: 5, noise: (step: number) => unit(2 + step) }
    const out = scope(() => heunSample(bestDenoiser, unit(1), sigmas, options)).dataSync()
    let added = 0
    for (let k = 0; k < steps; k++) added += (out[2 + k] - out[0]) ** 2
    const variance = (out[1] - out[0]) ** 2 * (sd ** 2 + 100) + added
    assert.ok(added > 0.5 * variance, `churn makes ${added} of the variance ${variance}`)
    near(out[0] + (out[1] - out[0]) * mu, mu, 1e-9, 'mean')
    return Math.abs(variance - sd ** 2)
  })
  assert.ok(errors[0] > 2.5 * errors[1] && errors[1] > 2.5 * errors[2] && errors[2] < 0.001, `errors ${errors}`)
})

test('preconditioning: input and target of the network have variance 1, and the loss weight undoes c_out', () => {
  for (const [sigma, sigmaData] of [
    [0.002, 0.5],
    [1, 0.5],
    [80, 0.3],
  ]) {
    const c = preconditioning(sigma, sigmaData)
    near(c.in ** 2 * (sigmaData ** 2 + sigma ** 2), 1, 1e-12, 'variance of the input')
    // The target of F is (y − c_skip (y + σ n))/c_out.
    const target = ((1 - c.skip) ** 2 * sigmaData ** 2 + (c.skip * sigma) ** 2) / c.out ** 2
    near(target, 1, 1e-9, 'variance of the target')
    near(lossWeight(sigma, sigmaData) * c.out ** 2, 1, 1e-12, 'weight of the loss of F')
    near(c.noise, Math.log(sigma) / 4, 0, 'c_noise')
  }
  const sigma = logNormalSigma(rng(1).normalArray(50_000))
  const logs = Array.from(sigma, Math.log)
  const mean = logs.reduce((a, b) => a + b) / logs.length
  near(mean, -1.2, (4 * 1.2) / Math.sqrt(logs.length), 'mean of ln σ')
})

// ---- the variational bound ----------------------------------------------------------------------------------------

/** ∫ f over [a, b] by Simpson's rule. */
function integral(f: (x: number) => number, a: number, b: number, n = 20_000): number {
  const h = (b - a) / n
  let total = f(a) + f(b)
  for (let i = 1; i < n; i++) total += (i % 2 === 0 ? 2 : 4) * f(a + i * h)
  return (total * h) / 3
}

const logDensity = (x: number, mean: number, variance: number) =>
  -((x - mean) ** 2) / (2 * variance) - Math.log(2 * Math.PI * variance) / 2

const one = (value: number) => full([1, 1], value, f64)

test('the bound above t = 0 is the KL divergence, integrated numerically from the definition of q', () => {
  const d = gaussianDiffusion({ betas: linearBetas(100) })
  for (const [t, x0, xt, epsilon, v] of [
    [1, 0.3, 0.35, 0.5, -0.5],
    [20, -0.8, 0.2, 1.5, 0.3],
    [99, 1, -1.4, -1.1, 1.2],
  ]) {
    // q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1}) q(x_{t−1} | x_0), straight from Bayes.
    const [beta, before] = [d.betas[t], d.alphaBarPrev[t]]
    const logJoint = (x: number) =>
      logDensity(xt, Math.sqrt(1 - beta) * x, beta) + logDensity(x, Math.sqrt(before) * x0, 1 - before)
    const logMass = Math.log(integral(x => Math.exp(logJoint(x)), -6, 6))
    // p's mean by the network's ε [DDPM eq. 11], its variance by the range [iDDPM eq. 15].
    const mean = (xt - (beta / Math.sqrt(1 - d.alphaBar[t])) * epsilon) / Math.sqrt(1 - beta)
    const f = (v + 1) / 2
    const variance = Math.exp(f * Math.log(beta) + (1 - f) * Math.log((beta * (1 - before)) / (1 - d.alphaBar[t])))
    const logQ = (x: number) => logJoint(x) - logMass
    const kl = integral(x => Math.exp(logQ(x)) * (logQ(x) - logDensity(x, mean, variance)), -6, 6)
    const output = tensor([[epsilon, v]], f64)
    const [got] = scope(() => vlbTerms(d, output, one(x0), one(xt), [t])).dataSync()
    near(got, kl / Math.LN2, 1e-7 * Math.max(1, kl), `t = ${t}`)
  }
})

test('the bound at t = 0 is the likelihood of a pixel: integrated numerically, and 1 over all levels', () => {
  for (const [mean, sigma] of [
    [0.1, 0.02],
    [-0.99, 0.005],
    [0.4, 0.5],
  ]) {
    const gaussian = { mean: one(mean), logVariance: one(Math.log(sigma ** 2)) }
    let total = 0
    for (let level = 0; level < 256; level++) {
      const x = level / 127.5 - 1
      const got = Math.exp(scope(() => discretizedLogLikelihood(one(x), gaussian)).dataSync()[0])
      total += got
      const from = level === 0 ? mean - 10 * sigma - 1 : x - 1 / 255
      const to = level === 255 ? mean + 10 * sigma + 1 : x + 1 / 255
      const want = integral(y => Math.exp(logDensity(y, mean, sigma ** 2)), from, to, 400)
      near(got, want, 1e-3, `level ${level}`) // the approximate Φ is within 5e-4
    }
    near(total, 1, 1e-9, 'sum over all levels')
  }
})

test('the likelihood of a pixel keeps its digits in f32, where the prediction is far off too', () => {
  for (const miss of [0, 0.01, 0.03, 0.04]) {
    const [wide, narrow] = (['f64', 'f32'] as const).map(dtype => {
      const at = (value: number) => full([1, 1], Math.fround(value), { dtype, backend: cpu })
      return scope(() =>
        discretizedLogLikelihood(at(0.2), { mean: at(0.2 + miss), logVariance: at(-10) }),
      ).dataSync()[0]
    })
    near(narrow, wide, 1e-4 * Math.max(1, Math.abs(wide)), `${miss} off`)
  }
})

test('the KL divergence of Gaussians is 0 for equal ones and as integrated for others', () => {
  const [m1, v1, m2, v2] = [0.3, 0.5, -0.2, 1.7]
  const p = { mean: one(m1), logVariance: one(Math.log(v1)) }
  const q = { mean: one(m2), logVariance: one(Math.log(v2)) }
  const want = integral(x => Math.exp(logDensity(x, m1, v1)) * (logDensity(x, m1, v1) - logDensity(x, m2, v2)), -8, 8)
  near(scope(() => gaussianKl(p, q)).dataSync()[0], want, 1e-9, 'KL')
  near(scope(() => gaussianKl(p, p)).dataSync()[0], 0, 1e-15, 'KL of equals')
})

test.run()
