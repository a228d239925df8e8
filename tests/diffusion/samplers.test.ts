/** Sampling loops: order, noise, what they free; DDIM backwards; preconditioning; guidance. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { concat, cpu, full, mul, rng, scope, slice, stats, type Tensor, tensor } from '../../core/index.ts'
import {
  classifierFreeGuidance,
  cosineBetas,
  ddimReverseStep,
  ddimSample,
  ddimStep,
  ddimSteps,
  ddpmSample,
  dpmSolverSample,
  eulerSample,
  fromNoise,
  type GaussianDiffusion,
  gaussianDiffusion,
  heunSample,
  linearBetas,
  logSnrTimesteps,
  type Network,
  powerCosineScale,
  precondition,
  preconditioning,
  respace,
  sigmaSteps,
  spaceTimesteps,
  timestepDenoiser,
  timestepSigmas,
} from '../../diffusion/index.ts'
import { f64, near, normal } from '../near.ts'

const linear = (T: number) => gaussianDiffusion({ betas: linearBetas(T) })

/** Depends on x and t without parameters: ε = ½ x, variance channel x t/1000. */
const simple: Network = (x, t) => {
  const shift = tensor(
    Float64Array.from(t, at => at / 1000),
    { dtype: x.dtype, backend: x.backend, shape: [t.length, ...x.shape.slice(1).map(() => 1)] },
  )
  return concat([mul(x, 0.5), mul(x, shift)], 1)
}

// ---- sampling loops -----------------------------------------------------------------------------------------------

test('loops: steps in order, callbacks, noise given or drawn, and no tensor left behind', () => {
  const d = respace(linear(1000), spaceTimesteps(1000, '7'))
  const xT = rng(1).normal([2, 1, 3, 3], { backend: cpu })
  const before = stats(cpu)
  const seen: [number, number][] = []
  const drawn = ddpmSample(d, simple, xT, {
    noise: rng(5),
    onStep: ({ step, t, x, predXStart }) => {
      assert.is(x.size, predXStart.size)
      seen.push([step, t])
    },
  })
  assert.equal(
    seen,
    [...d.timesteps].reverse().map((t, step) => [step, t]),
  )
  const stream = rng(5)
  const given = ddpmSample(d, simple, xT, { noise: () => stream.normal(xT.shape, { backend: cpu }) })
  near(drawn, given, 0, 'drawn and given')
  const other = ddpmSample(d, simple, xT, { noise: rng(6) })
  assert.ok(other.dataSync()[0] !== drawn.dataSync()[0])
  for (const x of [drawn, given, other]) x.dispose()

  const deterministic = ddimSample(d, simple, xT, {})
  let last: Tensor | null = null
  let count = 0
  for (const { x } of ddimSteps(d, simple, xT)) {
    count++
    if (count === 7) last = x.alias()
  }
  near(last!, deterministic, 0, 'generator and loop')
  for (const { step } of ddimSteps(d, simple, xT)) if (step === 2) break
  for (const x of [deterministic, last!]) x.dispose()

  // A network that hands back its very input.
  const same = ddimSample({ ...d, prediction: 'xStart', variance: 'fixedSmall' }, x => x, xT)
  const sigmas = sigmaSteps(4)
  const flat = heunSample(x => x, xT, sigmas)
  near(flat, xT, 0, 'D(x) = x')
  for (const x of [same, flat, dpmSolverSample(x => x, xT, sigmas)]) x.dispose()

  const after = stats(cpu)
  assert.is(after.tensors, before.tensors)
  assert.is(after.bytes, before.bytes)
  xT.dispose()
})

test('reverse DDIM undoes DDIM for a network that does not change along the way', () => {
  const d: GaussianDiffusion = { ...linear(200), variance: 'fixedSmall' }
  const constant: Network = x => full(x.shape, 0.3, f64)
  const x = normal(16, 1, 1, 2, 2)
  scope(() => {
    let z: Tensor = x
    for (let t = 20; t < 120; t++) z = ddimReverseStep(d, constant, z, [t]).x
    for (let t = 120; t > 20; t--) z = ddimStep(d, constant, z, [t], null).x
    near(z, x, 1e-12, 'there and back')
  })
})

test('keeping ε: clipping changes x_0 but not the direction', () => {
  const d: GaussianDiffusion = { ...linear(100), variance: 'fixedSmall' }
  const [x, epsilon] = [normal(17, 1, 1, 2, 2), normal(18, 1, 1, 2, 2)]
  scope(() => {
    const { x: next, predXStart } = ddimStep(d, () => epsilon, x, [90], null, { clip: true, keepEpsilon: true })
    assert.ok(Math.max(...predXStart.dataSync()) <= 1)
    const [a, b] = [Math.sqrt(d.alphaBar[89]), Math.sqrt(1 - d.alphaBar[89])]
    const want = predXStart.dataSync().map((x0, i) => a * x0 + b * epsilon.dataSync()[i])
    near(next, tensor(want, { ...f64, shape: x.shape }), 1e-14, 'kept')
    const derived = ddimStep(d, () => epsilon, x, [90], null, { clip: true }).x
    assert.ok(derived.dataSync().some((value, i) => Math.abs(value - want[i]) > 1e-6))
  })
})

test('preconditioning: D is c_skip x + c_out F(c_in x; c_noise), sample by sample', () => {
  const sigma = Float64Array.of(0.01, 3)
  const x = normal(19, 2, 1, 2, 2)
  scope(() => {
    const seen: number[][] = []
    const D = precondition((input, cNoise) => {
      seen.push([...cNoise])
      return mul(input, 2)
    })(x, sigma)
    assert.equal(seen, [[Math.log(0.01) / 4, Math.log(3) / 4]])
    const want = x.dataSync().map((value, i) => {
      const c = preconditioning(sigma[Math.floor(i / 4)])
      return c.skip * value + c.out * 2 * c.in * value
    })
    near(D, tensor(want, { ...f64, shape: x.shape }), 1e-14, 'D')
  })
})

// ---- guidance -----------------------------------------------------------------------------------------------------

test('guidance: which channels it touches, and what happens to the second half', () => {
  const output = normal(20, 4, 8, 2, 2)
  const x = normal(21, 4, 4, 2, 2)
  const t = Int32Array.of(0, 999, 500, 500) // the scale is that of the first half
  scope(() => {
    let given: Tensor | null = null
    const network: Network = z => {
      given = z
      return output
    }
    const got = classifierFreeGuidance(network, { scale: 3 })(x, t)
    near(given!, concat([slice(x, 0, 0, 2), slice(x, 0, 0, 2)], 0), 0, 'the first half twice')
    const o = output.dataSync()
    got.dataSync().forEach((value, i) => {
      const channel = Math.floor(i / 4) % 8
      const inHalf = i % 64
      const want = channel < 3 ? o[64 + inHalf] + 3 * (o[inHalf] - o[64 + inHalf]) : o[i]
      assert.ok(Math.abs(value - want) < 1e-14, `element ${i}`)
    })
    near(slice(classifierFreeGuidance(network, { scale: 1 })(x, t), 0, 0, 2), slice(output, 0, 0, 2), 1e-14, 'scale 1')
    const all = classifierFreeGuidance(network, { scale: 3, channels: 'all' })(x, t)
    near(slice(all, 0, 0, 2), slice(all, 0, 2, 4), 0, 'all channels: both halves')
    // With a power, t = 0 is guided fully and t = 999 hardly.
    const timed = classifierFreeGuidance(network, { scale: 3, power: 4 })(x, t)
    // A network of fewer channels is guided on all it has.
    const grey = classifierFreeGuidance(() => slice(output, 1, 0, 1), { scale: 3 })(x, t)
    near(grey, slice(got, 1, 0, 1), 0, 'one channel')
    near(slice(timed, 0, 0, 1), slice(got, 0, 0, 1), 1e-14, 't = 0')
    near(slice(timed, 0, 1, 2), slice(output, 0, 1, 2), 1e-9, 't = 999')
  })
  assert.is(powerCosineScale(4, 4, 1000), 1)
  assert.is(powerCosineScale(4, 4, 0), 4)
  assert.ok(Math.abs(powerCosineScale(4, 1, 500) - 2.5) < 1e-14)
})

// ---- timesteps as noise levels ------------------------------------------------------------------------------------

test("Euler's method over the levels of timesteps is DDIM; second-order samplers come closer to its limit", () => {
  // ε of data of variance 1/4, for which the flow from noise to data is known.
  const d = linear(1000)
  const best: Network = (x, t) => {
    const factor = Float64Array.from(t, i => Math.sqrt(1 - d.alphaBar[i]) / (1 - 0.75 * d.alphaBar[i]))
    return mul(x, tensor(factor, { shape: [t.length, 1, 1, 1], dtype: 'f64', backend: cpu }))
  }
  const xT = normal(3, 2, 1, 2, 2)
  const fixed = (kept: Int32Array) => ({ ...respace(d, kept), variance: 'fixedSmall' as const })
  const even = fixed(spaceTimesteps(1000, '10'))
  const error: Record<string, number> = {}
  for (const [name, sample] of Object.entries({ eulerSample, heunSample, dpmSolverSample })) {
    const it = name === 'dpmSolverSample' ? fixed(logSnrTimesteps(d, 10)) : even
    const got = sample(timestepDenoiser(it, best), fromNoise(it, xT), timestepSigmas(it))
    if (name === 'eulerSample') near(got, ddimSample(it, best, xT), 1e-13, 'Euler and DDIM')
    // The flow keeps x̃/√(σ² + 1/4) as it is.
    const first = timestepSigmas(it)[0]
    const limit = mul(fromNoise(it, xT), 0.5 / Math.hypot(first, 0.5))
    error[name] = Math.max(...got.dataSync().map((v, i) => Math.abs(v - limit.dataSync()[i])))
  }
  assert.ok(
    error.heunSample < error.eulerSample / 3 && error.dpmSolverSample < error.eulerSample / 8,
    JSON.stringify(error),
  )
  assert.throws(
    () => timestepDenoiser(even, best)(xT, Float64Array.of(1, 1)),
    /timestepDenoiser: sigma: expected one of the 10 steps' levels, got 1/,
  )
})

test('levels spread over ln σ: as many as are asked for, rising, from the first to the last', () => {
  for (const betas of [linearBetas(1000), cosineBetas(1000)])
    for (const steps of [2, 5, 12, 25, 100, 200, 999, 1000]) {
      const kept = [...logSnrTimesteps(gaussianDiffusion({ betas }), steps)]
      assert.is(kept.length, steps)
      assert.equal([kept[0], kept.at(-1)], [0, 999])
      assert.ok(kept.every((t, i) => i === 0 || t > kept[i - 1]))
    }
})

test.run()
