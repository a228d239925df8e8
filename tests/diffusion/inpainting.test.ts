/**
 * In-painting: the levels that RePaint visits, what stays of the known part, and Gaussian data, whose best denoiser and
 * whose answer are formulas: of two correlated pixels one is known, and the other must come out as it then is distributed.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, full, matmul, mul, rng, stats, tensor } from '../../core/index.ts'
import { linearBetas } from '../../diffusion/betas.ts'
import { gaussianDiffusion, type Network, respace, spaceTimesteps } from '../../diffusion/index.ts'
import { inpaintSteps, repaintLevels } from '../../diffusion/inpainting.ts'
import { values } from '../near.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

test('levels go down once where nothing is resampled, and jump as often as asked', () => {
  assert.equal(repaintLevels(4, { resamplings: 1 }), [3, 2, 1, 0, -1])
  // Jumps of 2 at levels 2 and 0, but not from where it begins.
  assert.equal(repaintLevels(5, { jump: 2, resamplings: 2 }), [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1])
  assert.equal(repaintLevels(3, { jump: 1, resamplings: 3 }), [2, 1, 2, 1, 2, 1, 0, 1, 0, 1, 0, -1])
  assert.equal(repaintLevels(3, { jump: 10, resamplings: 5 }), [2, 1, 0, -1])
  // The paper's setting: T = 250, jumps of 10, 10 times. Jumps begin at 0, 10, …, 230.
  const levels = repaintLevels(250)
  assert.is(levels.length - 1, 250 + 2 * 24 * 9 * 10)
  for (let i = 1; i < levels.length; i++) assert.is(Math.abs(levels[i] - levels[i - 1]), 1)
  for (const options of [{ jump: 0 }, { resamplings: 0 }, { jump: 1.5 }])
    assert.throws(() => repaintLevels(10, options), /repaintLevels: (jump|resamplings): expected an integer from 1/)
})

const rho = 0.9
const steps = 50
const diffusion = respace(
  gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedLarge' }),
  spaceTimesteps(1000, String(steps)),
)

/** The best ε for two pixels, both N(0, 1), of correlation ρ: ε̂ = √(1−ᾱ) (ᾱΣ + (1−ᾱ) I)⁻¹ x. */
const network: Network = (x, original) => {
  const alphaBar = diffusion.alphaBar[diffusion.timesteps.indexOf(original[0])]
  const off = alphaBar * rho
  const [inside, outside] = [1 / (1 - off ** 2), -off / (1 - off ** 2)]
  const flat = matmul(x, tensor([inside, outside, outside, inside], { shape: [2, 2], ...f64 }))
  return mul(flat, Math.sqrt(1 - alphaBar))
}

const N = 1500
const a = 1.5

/** Mean and variance of the second pixel where the first is `a`. */
function fill(resamplings: number): { mean: number; variance: number; first: number[] } {
  const random = rng(1)
  const known = tensor(
    Float64Array.from({ length: 2 * N }, (_, i) => (i % 2 === 0 ? a : 1e3)),
    { shape: [N, 2], ...f64 },
  )
  const hole = tensor([0, 1], { dtype: 'i32', backend: cpu })
  const xT = random.normal([N, 2], f64)
  let last: number[] = []
  for (const { x } of inpaintSteps(diffusion, network, xT, { known, hole, rng: random, jump: 2, resamplings }))
    last = values(x)
  const second = last.filter((_, i) => i % 2 === 1)
  const mean = second.reduce((sum, v) => sum + v, 0) / N
  const variance = second.reduce((sum, v) => sum + (v - mean) ** 2, 0) / N
  return { mean, variance, first: last.filter((_, i) => i % 2 === 0) }
}

test('RePaint reaches the conditional distribution, plain replacement falls short of it', () => {
  const [plain, jumping] = [1, 10].map(fill)
  assert.ok(plain.first.every(v => v === a) && jumping.first.every(v => v === a), 'what is known stays')
  const [mean, variance] = [rho * a, 1 - rho ** 2]
  assert.ok(Math.abs(jumping.mean - mean) < 0.1, `mean ${jumping.mean}, wanted ${mean}`)
  assert.ok(Math.abs(jumping.variance - variance) < 0.06, `variance ${jumping.variance}, wanted ${variance}`)
  assert.ok(mean - plain.mean > 0.35 && plain.variance - variance > 0.1, `${plain.mean}, ${plain.variance}`)
})

test('a step up adds the noise of the level it goes to', () => {
  const d = gaussianDiffusion({ betas: [0.1, 0.5, 0.9], variance: 'fixedLarge' })
  const count = 20_000
  const known = full([count, 1], 2, f64)
  const options = { known, hole: full([], 0, f64), rng: rng(3), jump: 1, resamplings: 2 }
  const ups: number[] = []
  for (const { x, from, to } of inpaintSteps(d, z => mul(z, 0), rng(4).normal([count, 1], f64), options)) {
    if (to < from) continue
    ups.push(to)
    // All is known, so x is q(x_t | x_0) at either level.
    const mean = values(x).reduce((sum, v) => sum + v, 0) / count
    const variance = values(x).reduce((sum, v) => sum + (v - mean) ** 2, 0) / count
    const alphaBar = d.alphaBar[to]
    assert.ok(Math.abs(mean - 2 * Math.sqrt(alphaBar)) < 0.03, `mean ${mean} at ${to}`)
    assert.ok(Math.abs(variance / (1 - alphaBar) - 1) < 0.05, `variance ${variance} at ${to}`)
  }
  assert.equal(ups, [2, 1])
})

test('every step leaves what is known as noisy as the rest, and nothing behind', () => {
  const bytes = stats(cpu).bytes
  const known = tensor([2, 2], { shape: [1, 2], ...f64 })
  const hole = tensor([0, 1], { dtype: 'i32', backend: cpu })
  const xT = tensor([0, 0], { shape: [1, 2], ...f64 })
  const options = { known, hole, rng: rng(2), jump: 2, resamplings: 2 }
  const seen: number[] = []
  for (const { x, from, to, predXStart } of inpaintSteps(diffusion, network, xT, options)) {
    seen.push(to)
    if (to > from) continue
    assert.is(values(predXStart)[0], 2)
    const alphaBar = to < 0 ? 1 : diffusion.alphaBar[to]
    assert.ok(Math.abs(values(x)[0] - 2 * Math.sqrt(alphaBar)) <= 6.4 * Math.sqrt(1 - alphaBar))
  }
  assert.equal(seen, repaintLevels(steps, { jump: 2, resamplings: 2 }).slice(1))
  for (const x of [known, hole, xT]) x.dispose()
  assert.is(stats(cpu).bytes, bytes)
  const short = tensor([1], { shape: [1, 1], ...f64 })
  assert.throws(
    () => inpaintSteps(diffusion, network, tensor([0, 0], { shape: [1, 2], ...f64 }), { ...options, known: short }),
    /^inpaintSteps: expected known \[1, 2\], got \[1, 1\]$/,
  )
})

test.run()
