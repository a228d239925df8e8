/** Solutions of docs/tour/9-samplers.md. */

import { test } from 'uvu'
import { sub } from '../../core/index.ts'
import {
  ddimStep,
  ddpmStep,
  eulerSample,
  gaussianDiffusion,
  linearBetas,
  type Network,
  sigmaSteps,
} from '../../diffusion/index.ts'
import { near, normal } from '../near.ts'

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

test.run()
