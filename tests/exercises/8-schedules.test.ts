/** Solutions of docs/tour/8-schedules.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { add, mul, rng, sub, type Tensor } from '../../core/index.ts'
import { epsilonOf } from '../../diffusion/gaussian.ts'
import { gaussianDiffusion, linearBetas, preconditioning } from '../../diffusion/index.ts'
import { predictionTarget } from '../../diffusion/losses.ts'
import { near, normal } from '../near.ts'

test('1: a thousand small steps are one large one', () => {
  const d = gaussianDiffusion({ betas: linearBetas(1000) })
  const [N, start] = [4000, 3]
  const random = rng(1)
  const x = new Float64Array(N).fill(start)
  for (let t = 0; t < 1000; t++) {
    const z = random.normalArray(N)
    for (let i = 0; i < N; i++) x[i] = Math.sqrt(1 - d.betas[t]) * x[i] + Math.sqrt(d.betas[t]) * z[i]
    if (t !== 249 && t !== 999) continue
    const mean = x.reduce((a, b) => a + b) / N
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / (N - 1)
    // Four standard errors of a mean and of a variance.
    const deviation = Math.sqrt(1 - d.alphaBar[t])
    assert.ok(Math.abs(mean - Math.sqrt(d.alphaBar[t]) * start) < (4 * deviation) / Math.sqrt(N), `mean ${mean}`)
    assert.ok(Math.abs(variance / deviation ** 2 - 1) < 4 * Math.sqrt(2 / N), `variance ${variance}`)
  }
})

test('2: for Gaussian data nothing is left for F', () => {
  // E[y | x] = σ_d² x / (σ² + σ_d²), which is c_skip x: so F = (D − c_skip x) / c_out = 0.
  const [N, sigmaData] = [100_000, 0.5]
  for (const sigma of [0.02, 0.5, 10]) {
    const { skip, out, in: scale } = preconditioning(sigma, sigmaData)
    const [y, n] = [rng(2).normalArray(N), rng(3).normalArray(N)]
    let product = 0
    for (let i = 0; i < N; i++) {
      const clean = sigmaData * y[i]
      const x = clean + sigma * n[i]
      product += (scale * x * (clean - skip * x)) / out // input of F times its target
    }
    // Both have variance 1 and are independent, so their mean product is 0 within a few 1/√N.
    assert.ok(Math.abs(product / N) < 4 / Math.sqrt(N), `σ ${sigma}: slope of the best line ${product / N}`)
  }
})

test('3: an error of x_0 is √(ᾱ/(1−ᾱ)) times as large in ε, and 1/√(1−ᾱ) times in v', () => {
  // At fixed x_t: ε = (x_t − √ᾱ x_0)/√(1−ᾱ), and v = √ᾱ ε − √(1−ᾱ) x_0 = (√ᾱ x_t − x_0)/√(1−ᾱ).
  const d = gaussianDiffusion({ betas: [0.5] })
  const [xt, x0] = [normal(1, 1, 3), normal(2, 1, 3)]
  const wrong = add(x0, 0.1)
  const epsilon = (x: Tensor) => epsilonOf(d, x, xt, [0])
  near(sub(epsilon(x0), epsilon(wrong)), sub(wrong, x0), 1e-12, 'ε at ᾱ = 0.5: factor 1')
  const v = (x: Tensor) => predictionTarget({ ...d, prediction: 'v' }, x, epsilon(x), [0])
  near(sub(v(x0), v(wrong)), mul(sub(wrong, x0), Math.SQRT2), 1e-12, 'v at ᾱ = 0.5: factor √2')
})

test.run()
