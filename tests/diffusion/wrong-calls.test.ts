/**
 * Every public function of diffusion answers wrong calls in one line that begins with its name. A function that has no right
 * call here fails the test.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng, type Tensor } from '../../core/index.ts'
import * as diffusion from '../../diffusion/index.ts'
import { floats, ints, type RightCall, testCalls } from '../core/wrong-calls.ts'

const x = () => floats(2, 1, 2, 2)
const d = diffusion.gaussianDiffusion({ betas: diffusion.linearBetas(40), variance: 'fixedSmall' })
const t = () => [0, 19]
const network = (z: Tensor) => z
const place = { backend: cpu }
const gaussian = () => ({ mean: x(), logVariance: x() })
const clip = { clip: true }
const onStep = () => {}
const sigmas = Float64Array.of(2, 1, 0)
const churn = () => ({ churn: 1, churnMin: 0.5, churnMax: 1.5, churnNoise: 1.25, noise: rng(0) })
const noise = () => rng(0)
/** Numbers that may be fractions, or NaN. */
const any = (...at: number[]) => at.flatMap(i => [`${i} fraction`, `${i} NaN`])

/** Arguments of a right call, and the wrong ones that are right. */
const calls: Record<string, readonly [args: () => readonly unknown[], accepts?: readonly string[]]> = {
  classifierFreeGuidance: [() => [network, { scale: 1.5, power: 0.5, channels: 3, timesteps: 1000 }]],
  cosineBetas: [() => [20]],
  cropSize: [() => [[4, 4], 0.5]],
  ddimReverseStep: [() => [d, network, x(), t(), clip]],
  ddimSample: [() => [d, network, x(), { clip: true, eta: 0.5, keepEpsilon: true, noise: noise(), onStep }]],
  ddimStep: [() => [d, network, x(), t(), x(), { clip: true, eta: 0.5, keepEpsilon: true }]],
  ddimSteps: [() => [d, network, x(), { clip: true, eta: 0.5, keepEpsilon: true, noise: noise() }]],
  ddpmSample: [() => [d, network, x(), { clip: true, noise: noise(), onStep }]],
  ddpmStep: [() => [d, network, x(), t(), x(), clip]],
  ddpmSteps: [() => [d, network, x(), { clip: true, noise: noise() }]],
  discretizedLogLikelihood: [() => [x(), gaussian()]],
  dpmSolverSample: [() => [network, x(), sigmas, { onStep }]],
  dpmSolverSteps: [() => [network, x(), sigmas]],
  epsilonOf: [() => [d, x(), x(), t()]],
  eulerSample: [() => [network, x(), sigmas, { ...churn(), onStep }]],
  eulerSteps: [() => [network, x(), sigmas, churn()]],
  fromNoise: [() => [d, x()]],
  gaussianDiffusion: [() => [{ betas: [0.1, 0.2], prediction: 'v', variance: 'fixedLarge' }]],
  gaussianKl: [() => [gaussian(), gaussian()]],
  heunSample: [() => [network, x(), sigmas, { ...churn(), onStep }]],
  heunSteps: [() => [network, x(), sigmas, churn()]],
  hybridLoss: [() => [d, x(), { x0: x(), xt: x(), noise: x(), t: t() }, { weighting: 'min-snr-5', rescaleVb: true }]],
  inpaintSteps: [() => [d, network, x(), { known: x(), hole: x(), rng: noise(), jump: 5, resamplings: 2, clip: true }]],
  keepLeast: [() => [[1, 2], [1, 2], 1, place], ['0 ofNaN', '3 object']],
  keptPatches: [() => [{ way: 'block', ratio: 0.5, size: 2 }, [4, 4]]],
  keptTokens: [() => [4, 0.5]],
  linearBetas: [() => [20]],
  logNormalSigma: [() => [[1, 2], { mean: 0.5, std: 0.5 }], ['0 ofNaN']],
  logSnrTimesteps: [() => [d, 5]],
  lossWeight: [() => [0.5, 0.25]],
  maskdmTimesteps: [() => [20, 5]],
  meanPerSample: [() => [x()]],
  minSnrWeight: [() => [d, 3, 2.5]],
  pMeanVariance: [() => [d, x(), x(), t(), clip]],
  perSample: [() => [x(), [1, 2], Math.sqrt], ['1 ofNaN']],
  powerCosineScale: [() => [1.5, 2, 3, 1000], any(1, 2, 3)],
  precondition: [() => [network, 0.5]],
  preconditioning: [() => [0.5, 0.25]],
  predictionTarget: [() => [d, x(), x(), t()]],
  priorTerm: [() => [d, x()]],
  qPosterior: [() => [d, x(), x(), t()]],
  qSample: [() => [d, x(), t(), x()]],
  removedBlocks: [() => [[4, 4], 0.5, 2]],
  removedTokens: [() => [4, 0.5]],
  repaintLevels: [() => [20, { jump: 5, resamplings: 2 }]],
  respace: [() => [d, [0, 5]]],
  reverseStep: [() => [d, { predicted: x(), range: null }, x(), t(), clip]],
  sampleMask: [() => [{ way: 'block', ratio: 0.5, size: 2 }, 2, [4, 4], noise(), place], ['4 object']],
  scaled: [() => [x(), [1, 2], Math.sqrt], ['1 ofNaN']],
  scheduleOf: [() => [[0.1, 0.2], 1e-20], ['1 arguments']],
  shiftedCosineBetas: [() => [20, 64]],
  sigmaSteps: [() => [5, { sigmaMin: 0.5, sigmaMax: 2, rho: 7 }]],
  spaceTimesteps: [() => [20, '5']],
  timestepDenoiser: [() => [d, network, clip]],
  timestepSigmas: [() => [d]],
  tokenMask: [() => [[1, 2], [1, 2], 0.5, place], ['0 ofNaN', '3 object']],
  trainingLoss: [() => [d, network, x(), t(), x(), { weighting: 'min-snr-5', rescaleVb: true }]],
  vlbTerms: [() => [d, x(), x(), x(), t(), clip]],
  xStartOf: [() => [d, x(), x(), t()]],
}

const named = diffusion as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(
  test,
  Object.fromEntries(
    Object.entries(calls).map(([name, [args, accepts]]) => [name, { call: named[name], args, accepts }]),
  ),
)

test('every public function has a right call', () => {
  const missing = Object.entries(diffusion)
    .filter(([, value]) => typeof value === 'function')
    .map(([name]) => name)
  assert.equal(
    missing.filter(name => !(name in calls)),
    [],
  )
})

test('values that fit no batch are refused', () => {
  assert.throws(() => diffusion.priorTerm(d, floats()), /^priorTerm: expected x0 \[N, \.\.\.\], got \[\]$/)
  assert.throws(() => diffusion.meanPerSample(floats()), /^meanPerSample: expected x \[N, \.\.\.\], got a scalar$/)
  assert.throws(() => diffusion.keepLeast([1, 2], [1, 2], 3), /^keepLeast: expected at most 2 kept tokens, got 3$/)
})

test('a network that returns something else than its predictions is named by the function that called it', () => {
  const wrong = (value: unknown) => () =>
    diffusion.ddpmStep(d, (() => value) as unknown as diffusion.Network, x(), t(), x())
  assert.throws(wrong(undefined), /^ddpmStep: expected the result of the network to be a tensor, got undefined$/)
  assert.throws(
    wrong(floats(2, 1)),
    /^ddpmStep: expected a network with variance 'fixedSmall' to return \[2, 1, 2, 2\]/,
  )
  assert.throws(wrong(ints(2, 1, 2, 2)), /^ddpmStep: expected operands of one backend and dtype, got f32 on cpu, i32/)
})

test.run()
