/**
 * The variational bound on the negative log-likelihood, term by term, in bits per dimension. [DDPM eq. 5, iDDPM §2.2]
 * A term is the KL divergence between two Gaussians, or at t = 0 the likelihood of 8-bit pixels under the last Gaussian.
 * In f32 the t = 0 term of a poor prediction subtracts two nearly equal probabilities and loses digits; so it does in the
 * official code. Next: losses.ts.
 */

import {
  add,
  affine,
  clamp,
  exp,
  full,
  less,
  log,
  mul,
  neg,
  square,
  sub,
  type Tensor,
  tanh,
  tensor,
  where,
} from '../core/index.ts'
import { type ClipOption, type Gaussian, type GaussianDiffusion, pMeanVariance, qPosterior } from './gaussian.ts'
import { meanPerSample, perSample, scaled, type Timesteps } from './per-sample.ts'

/** KL(p ‖ q) of elementwise Gaussians in nats; shapes broadcast. */
export function gaussianKl(p: Gaussian, q: Gaussian): Tensor {
  // ½ (log σ_q² − log σ_p² + σ_p²/σ_q² + (μ_p − μ_q)²/σ_q² − 1)
  const logRatio = sub(q.logVariance, p.logVariance)
  const distance = mul(square(sub(p.mean, q.mean)), exp(neg(q.logVariance)))
  return affine(add(add(logRatio, exp(neg(logRatio))), distance), 0.5, -0.5)
}

/** Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³))), within 5e-4: the official code's, which GELU's approximation is made of. */
function normalCdf(x: Tensor): Tensor {
  return affine(tanh(mul(x, affine(square(x), Math.sqrt(2 / Math.PI) * 0.044715, Math.sqrt(2 / Math.PI)))), 0.5, 0.5)
}

/**
 * log P(x) in nats where x is one of 256 levels from −1 to 1 and P the share of the Gaussian within half a level of it;
 * the outermost levels take the tails. x (N, …) → (N, …). [DDPM eq. 13]
 */
export function discretizedLogLikelihood(x: Tensor, { mean, logVariance }: Gaussian): Tensor {
  const centred = sub(x, mean)
  const precision = exp(mul(logVariance, -0.5))
  const below = normalCdf(mul(precision, affine(centred, 1, 1 / 255)))
  const above = normalCdf(mul(precision, affine(centred, 1, -1 / 255)))
  const safeLog = (p: Tensor) => log(clamp(p, 1e-12, Infinity))
  const bound = (value: number) => full([], value, { dtype: x.dtype, backend: x.backend })
  const inside = safeLog(sub(below, above))
  const upperTail = where(less(bound(0.999), x), safeLog(affine(above, -1, 1)), inside)
  return where(less(x, bound(-0.999)), safeLog(below), upperTail)
}

/** Nats per element → bits per dimension, one number per sample: (N, …) → (N). */
function bitsPerDim(nats: Tensor): Tensor {
  return mul(meanPerSample(nats), 1 / Math.LN2) // (N)
}

/**
 * The bound's term at step t of each sample, from the network's output at (x_t, t): KL(q(x_{t−1} | x_t, x_0) ‖
 * p(x_{t−1} | x_t)), and −log p(x_0 | x_1) where t = 0. (N), bits per dimension. [DDPM eq. 5]
 */
export function vlbTerms(
  d: GaussianDiffusion,
  output: Tensor,
  x0: Tensor,
  xt: Tensor,
  t: Timesteps,
  options: ClipOption = {},
): Tensor {
  const p = pMeanVariance(d, output, xt, t, options)
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
  const last = new Int32Array(x0.shape[0]).fill(d.steps - 1)
  const q = {
    mean: scaled(x0, last, i => Math.sqrt(d.alphaBar[i])),
    logVariance: perSample(x0, last, i => Math.log(1 - d.alphaBar[i])),
  }
  const zero = full([], 0, { dtype: x0.dtype, backend: x0.backend })
  return bitsPerDim(gaussianKl(q, { mean: zero, logVariance: zero }))
}
