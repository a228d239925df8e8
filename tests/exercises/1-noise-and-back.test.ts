/** Solutions of docs/tour/1-noise-and-back.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng, tensor } from '../../core/index.ts'
import { gaussianDiffusion, linearBetas, qSample } from '../../diffusion/index.ts'
import { f64, values } from '../near.ts'

const d = gaussianDiffusion({ betas: linearBetas(1000) })

test('1: variance 1 at every timestep', () => {
  // Variances of independent numbers add: ᾱ · 1 + (1 − ᾱ) · 1 = 1.
  const N = 10_000
  const [x0, noise] = [rng(1).normal([N, 1], f64), rng(2).normal([N, 1], f64)]
  const x = values(qSample(d, x0, new Int32Array(N).fill(300), noise))
  const variance = x.reduce((sum, v) => sum + v * v, 0) / N
  assert.ok(Math.abs(variance - 1) < 4 * Math.sqrt(2 / N), `variance ${variance}`)
  const pixel = qSample(
    gaussianDiffusion({ betas: [0.75] }), // one step, ᾱ = 0.25
    tensor([[0.8]], f64),
    [0],
    tensor([[-0.4]], f64),
  )
  assert.is(values(pixel)[0].toFixed(3), '0.054')
})

test('2: half of the power is noise at t = 259, and a guess is magnified a hundredfold from t = 954 on', () => {
  const first = (holds: (alphaBar: number) => boolean) => d.alphaBar.findIndex(holds)
  assert.is(
    first(a => a < 0.5),
    259,
  )
  assert.is(
    first(a => 1 / Math.sqrt(a) > 100),
    954,
  )
})

test.run()
