/**
 * Values of functions of numbers on one backend that the walk over all ops would not miss: infinite ones, small ones, whose
 * relative error is what counts, and angles of many turns. Against cpu in f64. Used by gpu.test.ts, webgpu/backend.test.ts
 * and webgl2-page.ts; only what runs in a browser is used here.
 */

import * as assert from 'uvu/assert'
import {
  atan2,
  type Backend,
  cos,
  cpu,
  div,
  erf,
  expm1,
  full,
  geluTanh,
  gradients,
  layerNorm,
  log,
  log1p,
  logSoftmax,
  mul,
  pow,
  remainder,
  round,
  scope,
  sign,
  sin,
  softplus,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'

const powersOfTen = Array.from({ length: 30 }, (_, i) => 10 ** -i)
const both = (values: readonly number[]) => values.flatMap(x => [x, -x])
const angles = both([0.7, 31, 1e3, 12_345.678, 1e5, 1e6, 1_234_567, 1e7, 16_777_213, 5e7])

/** The gradient of the sum of f(x). */
function slopeOf(f: (x: Tensor) => Tensor): (x: Tensor) => Tensor {
  return x => {
    const leaf = x.requireGrad()
    return gradients(sum(f(leaf)), [leaf])[0]
  }
}

/** A weight or bias of a layer norm over x. */
function affineOf(x: Tensor, value: number): Tensor {
  return full(x.shape, value, { dtype: x.dtype, backend: x.backend })
}

/** Functions and the values they are run on. */
const cases: Readonly<Record<string, readonly [f: (x: Tensor) => Tensor, values: readonly number[]]>> = {
  log: [log, [0, -0, 1e-30, 0.3, 1e30, Infinity, -1, Number.NaN]],
  log1p: [
    log1p,
    [
      ...both([...powersOfTen.slice(1), 0.3, 0.499, 0.5, 0.501, 0.999]),
      0,
      -0,
      1,
      1.01,
      7,
      1e9,
      3e38,
      -1,
      -2,
      Infinity,
      Number.NaN,
    ],
  ],
  expm1: [
    expm1,
    [
      ...both([...powersOfTen, 0.34, 0.35, 0.4999, 0.5, 0.5001, 0.7, 2, 5, 20, 88.5]),
      0,
      -0,
      1000,
      -1000,
      Infinity,
      -Infinity,
      Number.NaN,
    ],
  ],
  round: [round, [...both([0.5, 1.5, 2.5, 0.49999997, 8388609, 3e38]), 0, -0, Infinity, Number.NaN]],
  'remainder by 3': [x => remainder(x, 3), [...both([1, 3, 4.5, 1000, 1e6]), 0, Infinity, Number.NaN]],
  'remainder by -0.75': [x => remainder(x, -0.75), [...both([1, 3, 4.5, 1000, 1e6]), 0]],
  'atan2 of 1': [
    x => atan2(1, x),
    [...both([...powersOfTen, 2.4, 2.5, 0.41, 0.42, 1e30, 0]), Infinity, -Infinity, Number.NaN],
  ],
  'atan2 by -1': [
    x => atan2(x, -1),
    [...both([...powersOfTen, 2.4, 2.5, 0.41, 0.42, 1e30, 0]), Infinity, -Infinity, Number.NaN],
  ],
  'x^-1': [x => pow(x, -1), [0, 2, -2, Infinity]],
  'x^-0.5': [x => pow(x, -0.5), [0, 4]],
  '0^p': [x => pow(tensor([0], { backend: x.backend, dtype: x.dtype }), x), [-1, -0.5, -2, 0, 0.5, 2]],
  logSoftmax: [logSoftmax, [-Infinity, -Infinity, -Infinity]],
  erf: [erf, [...both(powersOfTen), 0, 0.3, 0.4999, 0.5, 0.5001, 0.8, -2, Infinity, -Infinity, Number.NaN]],
  'sign of zero': [x => div(tensor([1], { backend: x.backend, dtype: x.dtype }), sign(x)), [0, -0, 2, -2]],
  'x^3': [x => pow(x, 3), [0, -0, -2]],
  'geluTanh slope': [slopeOf(geluTanh), [...both([0, 0.3, 2, 5, 25, 1e8, 1e19, 3e19, 3e38]), Number.NaN]],
  layerNorm: [x => layerNorm(x, null, null, 1e-5), [1, -2, 4, 0.5, 1.5, 1e-3]],
  'layerNorm of large values': [x => layerNorm(x, null, null, 1e-5), [1e20, -2e20, 3e19, 4e17]],
  'layerNorm of the largest values': [x => layerNorm(x, null, null, 1e-5), [3e38, -3e38, 1e38, -5e37]],
  'layerNorm slope': [slopeOf(x => mul(square(layerNorm(x, null, null, 1e-5)), x)), [1, -2, 4, 0.5]],
  'layerNorm slope of large values': [
    slopeOf(x => pow(layerNorm(x, affineOf(x, 2), affineOf(x, 1), 1e-5), 3)),
    [1e20, -2e20, 3e19, 4e17],
  ],
  softplus: [softplus, [0, 1, -1, -3, -5, -10, -15, -17, -30, -80, 20, Infinity, -Infinity, Number.NaN]],
  sin: [sin, angles],
  cos: [cos, angles],
}

/** Relative: what these functions were measured to miss in f32, and a little. */
const tolerance = 2e-6

/** Runs all cases. Throws an assertion with a line for all that is wrong. */
export async function scalarValues(backend: Backend): Promise<void> {
  const found: string[] = []
  for (const [name, [f, list]] of Object.entries(cases)) {
    const values = Float32Array.from(list)
    const [y, exact] = scope(() => [
      f(tensor(values, { backend })),
      f(tensor(Float64Array.from(values), { backend: cpu, dtype: 'f64' })),
    ])
    const [got, wanted] = [await y.data(), exact.dataSync()]
    values.forEach((x, i) => {
      const near = Number.isFinite(wanted[i]) && Math.abs(got[i] - wanted[i]) <= tolerance * Math.abs(wanted[i])
      if (!near && !Object.is(got[i], wanted[i])) found.push(`${name} of ${x}: expected ${wanted[i]}, got ${got[i]}`)
    })
    for (const t of [y, exact]) t.dispose()
  }
  assert.ok(found.length === 0, `\n${found.join('\n')}`)
}
