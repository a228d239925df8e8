/** Solutions of docs/tour/11-samplers.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { sub, tensor } from '../../core/index.ts'
import {
  ddimStep,
  ddpmStep,
  eulerSample,
  eulerSteps,
  gaussianDiffusion,
  heunSteps,
  linearBetas,
  type Network,
  sigmaSteps,
} from '../../diffusion/index.ts'
import { exactDenoiser, pathsOf, ring } from '../../site/figures/samplers.ts'
import { f64, near, normal, tensor64, values } from '../near.ts'

test('1: one Euler step, when there is only one place to go', () => {
  // x = y + σ n is a straight line in σ, and Euler's method follows straight lines exactly.
  const [y, n] = [normal(1, 2, 3), normal(2, 2, 3)]
  near(
    eulerSample(() => y, n, Float64Array.of(80, 0)),
    y,
    1e-12,
    'one step',
  )
  near(
    eulerSample(() => y, n, sigmaSteps(10)),
    y,
    1e-12,
    'ten',
  )
})

test('2: DDIM with η = 1 draws from what DDPM draws from', () => {
  const d = gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedSmall' })
  const network: Network = x => x // any prediction of ε will do
  const [x, t] = [normal(3, 2, 1, 3, 3), [400, 1]]
  const zero = sub(x, x)
  const mean = (z = zero) => ddpmStep(d, network, x, t, z).x
  const other = (z = zero) => ddimStep(d, network, x, t, z, { eta: 1 }).x
  near(other(), mean(), 1e-12, 'mean')
  const z = normal(4, 2, 1, 3, 3)
  near(sub(other(z), other()), sub(mean(z), mean()), 1e-12, 'what noise adds')
})

test('3: halving the steps halves the error of Euler and quarters that of Heun', () => {
  const ends = (loop: typeof eulerSteps, steps: number) => pathsOf(loop, exactDenoiser(), ring(9), steps).at(-2)!
  const exact = ends(heunSteps, 4000)
  const ratio = (loop: typeof eulerSteps) => {
    const error = (steps: number) =>
      ends(loop, steps).reduce((sum, at, n) => sum + Math.hypot(at[0] - exact[n][0], at[1] - exact[n][1]), 0)
    return error(100) / error(200)
  }
  assert.ok(Math.abs(ratio(eulerSteps) - 2) < 0.2, `Euler ${ratio(eulerSteps)}`)
  assert.ok(Math.abs(ratio(heunSteps) - 4) < 0.6, `Heun ${ratio(heunSteps)}`)
})

test("the chapter's numbers by hand", () => {
  const odds = Math.exp(-0.5)
  assert.is((1 / (1 + odds)).toFixed(3), '0.622')
  const d = { ...gaussianDiffusion({ betas: [0.36, 0.5], variance: 'fixedSmall' }) } // ᾱ = 0.64, 0.32
  const xt = tensor64([[Math.sqrt(0.32) * 0.6 - Math.sqrt(0.68)]])
  near(values(ddimStep(d, () => tensor([[-1]], f64), xt, [1], null).x), [-0.12], 1e-12)
})

test.run()
