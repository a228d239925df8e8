/**
 * The variational bound on the negative log-likelihood, term by term, in bits per dimension. [DDPM eq. 5, iDDPM §2.2]
 * A term is the KL divergence between two Gaussians, or at t = 0 the likelihood of 8-bit pixels under the last Gaussian.
 * The official code subtracts two nearly equal probabilities there, which in f32 loses all digits of a poor prediction;
 * here the difference is written as a product.
 */

import { anObject, check, checkFloats, checkOptions } from '../core/arguments.ts'
import {
  add,
  affine,
  clamp,
  div,
  exp,
  full,
  less,
  log,
  mul,
  neg,
  sigmoid,
  square,
  sub,
  type Tensor,
  tanh,
  tensor,
  where,
} from '../core/index.ts'
import { checkAlike, checkBatch, checkDiffusion, clipKinds } from './arguments.ts'
import {
  type ClipOption,
  type Gaussian,
  type GaussianDiffusion,
  qPosterior,
  reverseStepOf,
  splitOutput,
} from './gaussian.ts'
import { meanPerSample, type Timesteps } from './per-sample.ts'

/** Throws unless a Gaussian has a mean and a logarithm of its variance, floats both. */
function checkGaussian(op: string, name: string, gaussian: Gaussian): void {
  check(op, name, gaussian, anObject)
  const { mean, logVariance } = gaussian
  checkFloats(op, { [`${name}.mean`]: mean, [`${name}.logVariance`]: logVariance })
}

/** KL(p ‖ q) of elementwise Gaussians in nats; shapes broadcast. */
export function gaussianKl(p: Gaussian, q: Gaussian): Tensor {
  for (const [name, each] of Object.entries({ p, q })) checkGaussian('gaussianKl', name, each)
  checkFloats('gaussianKl', { 'p.mean': p.mean, 'q.mean': q.mean })
  // ½ (log σ_q² − log σ_p² + σ_p²/σ_q² + (μ_p − μ_q)²/σ_q² − 1)
  const logRatio = sub(q.logVariance, p.logVariance)
  const distance = mul(square(sub(p.mean, q.mean)), exp(neg(q.logVariance)))
  return affine(add(add(logRatio, exp(neg(logRatio))), distance), 0.5, -0.5)
}

const slope = Math.sqrt(8 / Math.PI)
const bend = 0.044715

/** Φ(z) ≈ sigmoid(logit(z)), within 5e-4: the official code's approximation, ½ (1 + tanh(√(2/π) (z + 0.044715 z³))). */
function logit(z: Tensor): Tensor {
  return mul(z, affine(square(z), slope * bend, slope))
}

/**
 * log P(x) in nats where x is one of 256 levels from −1 to 1 and P the share of the Gaussian within half a level of it;
 * the outermost levels take the tails. P is not taken below 1e-12. x (N, …) → (N, …). [DDPM eq. 13]
 */
export function discretizedLogLikelihood(x: Tensor, gaussian: Gaussian): Tensor {
  checkGaussian('discretizedLogLikelihood', 'gaussian', gaussian)
  const { mean, logVariance } = gaussian
  checkAlike('discretizedLogLikelihood', { x, mean })
  const centred = sub(x, mean)
  const precision = exp(mul(logVariance, -0.5))
  const above = mul(precision, affine(centred, 1, 1 / 255))
  const below = mul(precision, affine(centred, 1, -1 / 255))
  const lower = sigmoid(logit(above)) // P(level ≤ x)
  const upper = sigmoid(neg(logit(below))) // P(level ≥ x)
  // P(level = x) = Φ(above) − Φ(below), where digits would cancel: sigmoid(a) − sigmoid(b) is
  // sigmoid(a) sigmoid(−b) (1 − e^(b−a)), and a − b = (above − below)(1 + 0.044715 (above² + above·below + below²))√(8/π)
  const cubes = add(add(square(above), mul(above, below)), square(below))
  const gap = mul(mul(precision, 2 / 255), affine(cubes, slope * bend, slope))
  const tau = tanh(mul(gap, 0.5))
  const inside = mul(mul(lower, upper), div(mul(tau, 2), add(tau, 1)))
  const bound = (value: number) => full([], value, { dtype: x.dtype, backend: x.backend })
  const share = where(less(x, bound(-0.999)), lower, where(less(bound(0.999), x), upper, inside))
  return log(clamp(share, 1e-12, Infinity))
}

/** Nats per element → bits per dimension, one number per sample: (N, …) → (N). */
function bitsPerDim(nats: Tensor): Tensor {
  return div(meanPerSample(nats), Math.LN2) // (N)
}

/**
 * The bound's term at step t of each sample, from the network's output at (x_t, t): KL(q(x_{t−1} | x_t, x_0) ‖
 * p(x_{t−1} | x_t)), and −log p(x_0 | x_1) where t = 0. (N), bits per dimension. [DDPM eq. 5] Throws ShapeError.
 */
export function vlbTerms(
  d: GaussianDiffusion,
  output: Tensor,
  x0: Tensor,
  xt: Tensor,
  t: Timesteps,
  options: ClipOption = {},
): Tensor {
  checkBatch('vlbTerms', d, { x0, xt }, t)
  checkOptions('vlbTerms', options, clipKinds)
  const parts = splitOutput('vlbTerms', d, output, xt)
  return vlbTermsOf(d, reverseStepOf('vlbTerms', d, parts, xt, t, options), x0, xt, t)
}

/** The same from p(x_{t−1} | x_t), x0 and x_t (N, …). */
export function vlbTermsOf(d: GaussianDiffusion, p: Gaussian, x0: Tensor, xt: Tensor, t: Timesteps): Tensor {
  const kl = bitsPerDim(gaussianKl(qPosterior(d, x0, xt, t), p)) // (N)
  const decoder = bitsPerDim(neg(discretizedLogLikelihood(x0, p))) // (N)
  const atStart = tensor(
    Int32Array.from(t, i => (i === 0 ? 1 : 0)),
    { dtype: 'i32', backend: x0.backend },
  )
  return where(atStart, decoder, kl)
}

/** KL(q(x_T | x_0) ‖ N(0, 1)), which no network can change: x0 (N, …) → (N), bits per dimension. [DDPM eq. 5] */
export function priorTerm(d: GaussianDiffusion, x0: Tensor): Tensor {
  checkDiffusion('priorTerm', d)
  checkAlike('priorTerm', { x0 })
  // ½ (ᾱ_T x_0² − ᾱ_T − log(1−ᾱ_T)): gaussianKl with its constants, which nearly cancel, summed in f64
  const signal = d.alphaBar[d.steps - 1]
  return bitsPerDim(affine(square(x0), signal / 2, -(signal + Math.log1p(-signal)) / 2))
}
