/**
 * Values that are easy to get wrong, one test per kind, on every backend: integers, division, selection, the extremum of
 * NaN, degenerate divisors, limits of i32, the sign of zero. The right values are those of PyTorch or of arithmetic.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  adaLayerNorm,
  add,
  arange,
  attention,
  avgPool2d,
  broadcastTo,
  cast,
  clamp,
  convTranspose2d,
  cpu,
  createShapes,
  crossEntropy,
  div,
  erf,
  exp,
  floor,
  full,
  gelu,
  gradients,
  groupNorm,
  interpolate,
  l1,
  layerNorm,
  linear,
  max,
  maximum,
  maxPool2d,
  mean,
  min,
  minimum,
  mse,
  mul,
  neg,
  ones,
  pad,
  patchify,
  pow,
  reshape,
  scatterAdd,
  scope,
  selfAttention,
  sigmoid,
  sin,
  smoothL1,
  softmax,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  to,
  variance,
  zeros,
} from '../../core/index.ts'
import { everywhere, gradientOf, inf, type Make, nan, type Place, places, refused } from './everywhere.ts'

// ---- integers -------------------------------------------------------------------------------------------------------

everywhere('ops that are exact on i32 keep it', ({ i }) => {
  const [a, b] = [i([7, -3, 2 ** 20]), i([2, 5, 3])]
  const results: [Tensor, number[]][] = [
    [add(a, b), [9, 2, 2 ** 20 + 3]],
    [add(a, 1), [8, -2, 2 ** 20 + 1]],
    [sub(a, 1), [6, -4, 2 ** 20 - 1]],
    [mul(a, -2), [-14, 6, -(2 ** 21)]],
    [maximum(a, 3), [7, 3, 2 ** 20]],
    [minimum(a, 3), [3, -3, 3]],
    [clamp(a, -1, 8), [7, -1, 8]],
    [floor(a), [7, -3, 2 ** 20]],
    [linear(i([0, 2, 4, 1, 3, 0], [2, 3]), i([0, 2, 4, 1, 3, 0], [2, 3]), i([1, 1])), [21, 7, 7, 11]],
    [linear(i([4, 4], [1, 2]), i([4, 4], [1, 2])), [32]],
    [maxPool2d(i([1, 2, 3, 4], [1, 1, 2, 2]), 2), [4]],
    [interpolate(i([1, 2], [1, 1, 1, 2]), [1, 4], 'nearest'), [1, 1, 2, 2]],
    [to(i([1, 2]), { dtype: 'f32' }), [1, 2]],
  ]
  assert.equal([...new Set(results.slice(0, -1).map(([y]) => y.dtype))], ['i32'])
  return results
})

const floatsOnly: Readonly<Record<string, (make: Make) => unknown>> = {
  exp: ({ i }) => exp(i(1)),
  sigmoid: ({ i }) => sigmoid(i([1, 2])),
  div: ({ i }) => div(i([7, 2]), i([2, 2])),
  pow: ({ i }) => pow(i([7, 2]), 2),
  mean: ({ i }) => mean(i([1, 2])),
  variance: ({ i }) => variance(i([1, 2])),
  softmax: ({ i }) => softmax(i([1, 2])),
  layerNorm: ({ i }) => layerNorm(i([1, 2]), null, null, 1e-5),
  groupNorm: ({ i }) => groupNorm(i([1, 2], [1, 2, 1, 1]), 1, i([1, 1]), i([0, 0]), 1e-5),
  selfAttention: ({ i }) => selfAttention(i([1, 2, 3], [1, 1, 3]), null, 1),
  avgPool2d: ({ i }) => avgPool2d(i([1, 2, 3, 4], [1, 1, 2, 2]), 2),
  interpolate: ({ i }) => interpolate(i([1, 2, 3, 4], [1, 1, 2, 2]), [4, 4], 'bilinear'),
  convTranspose2d: ({ i }) => convTranspose2d(i(1, [1, 1, 1, 1]), i(1, [1, 1, 1, 1])),
  crossEntropy: ({ i }) => crossEntropy(i([1, 2], [1, 2]), i([1])),
  attention: ({ i }) => attention(i([1], [1, 1]), i([1], [1, 1]), i([1], [1, 1])),
  mse: ({ i }) => mse(i([1]), i([2])),
  l1: ({ i }) => l1(i([1]), i([2])),
  smoothL1: ({ i }) => smoothL1(i([1]), i([2])),
}
for (const [name, f] of Object.entries(floatsOnly))
  refused(
    `${name} refuses integers and names itself`,
    `${name}: expected a float dtype, got i32; convert with to(x, { dtype: 'f32' })`,
    f,
  )
for (const [name, f] of Object.entries({ add, sub, mul, maximum, minimum }))
  for (const value of [0.5, nan, inf, 2 ** 31])
    refused(
      `${name} of i32 and ${value} is refused`,
      `${name}: expected an integer in [−2³¹, 2³¹) beside i32, got ${value}; convert with to(x, { dtype: 'f32' })`,
      ({ i }) => f(i([3]), value),
    )
refused('i32 divided by 0.5 is refused', /^div: expected a float dtype, got i32;/, ({ i }) => div(i([3]), 0.5))
refused('clamp of i32 takes integers', /^clamp: expected an integer .*, got 0.5;/, ({ i }) => clamp(i([3]), 0.5, 2))

refused(
  'gradients by an integer tensor are refused',
  'gradients: expected tensors of f32 or f64 to differentiate by, got i32 of shape [1]',
  ({ f, i }) => gradients(sum(f([1]).requireGrad()), [i([3])]),
)

// ---- division -------------------------------------------------------------------------------------------------------

everywhere('division by a number is division, not a product with its reciprocal', ({ f, place }) => [
  [mean(ones([41], place)), [1]],
  [floor(div(f([41, 82, 123]), 41)), [1, 2, 3]],
  [div(f([0]), 1e-39), [0]],
  [div(f([1, -1, 0]), 0), [inf, -inf, nan]],
  [
    div(f([49, 98, -7]), 49),
    [1, 2, Math.fround(-1 / 7)].map((v, k) => (k === 2 && place.dtype === 'f64' ? -1 / 7 : v)),
  ],
  [gradientOf(x => div(x, 49), f([49])), [place.dtype === 'f64' ? 1 / 49 : Math.fround(1 / 49)]],
  [avgPool2d(ones([1, 1, 5, 5], place), 3, 2, 1), new Array(9).fill(1)],
  [variance(f([1, 2]), 0, { ddof: 3 }), [inf]],
  [variance(f([1, 2]), 0, { ddof: 2 }), [inf]],
  [variance(f([2, 2]), 0, { ddof: 2 }), [nan]],
  [variance(zeros([0], place), 0, { ddof: 1 }), [nan]],
  [variance(zeros([0], place)), [nan]],
])

// ---- selection ------------------------------------------------------------------------------------------------------

everywhere('selection is no product with 0: infinity stays in its place', ({ f }) => {
  const x = f([inf, 2, 3, 4], [1, 1, 2, 2])
  return [
    [interpolate(x, [2, 2], 'nearest'), [inf, 2, 3, 4]],
    [interpolate(x, [2, 2], 'bilinear'), [inf, 2, 3, 4]],
    [interpolate(x, [4, 4], 'nearest'), [inf, inf, 2, 2, inf, inf, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]],
    [interpolate(f([1, 2, 5, inf], [1, 1, 1, 4]), [1, 2], 'bilinear'), [1.5, inf]],
    [interpolate(f([1, 2, inf], [1, 1, 1, 3]), [1, 1], 'bilinear'), [2]],
    [interpolate(f([1, 3, inf], [1, 1, 1, 3]), [1, 6], 'bilinear').detach(), [1, 1.5, 2.5, inf, inf, inf]],
    [gradientOf(x => mul(interpolate(x, [1, 1], 'bilinear'), inf), f([1, 2, 3], [1, 1, 1, 3])), [0, inf, 0]],
    [gradientOf(x => interpolate(x, [1, 6], 'nearest'), f([1, 2, 3], [1, 1, 1, 3])), [2, 2, 2]],
  ]
})

everywhere('where protects the gradient, not only the value', ({ f }) => [
  [gradientOf(x => smoothL1(x, f([0, 0])), f([3e38, 0])), [0.5, 0]],
  [gradientOf(x => smoothL1(x, f([0, 0])), f([-3e38, 0.5])), [-0.5, 0.25]],
  [gradientOf(x => smoothL1(x, f([0, 0]), { beta: 1e-30 }), f([1, -1])), [0.5, -0.5]],
  [gradientOf(x => smoothL1(x, f([0]), { beta: 2 }), f([1])), [0.5]],
  [smoothL1(f([3, -0.5]), f([0, 0])), [(2.5 + 0.125) / 2]],
  [smoothL1(f([nan]), f([0])), [nan]],
])

everywhere('a power is flat where it is constant: x⁰ in x, 0ˣ in x ≥ 0', ({ f }) => {
  const by = (which: 0 | 1, a: number[], b: number[]) => {
    const leaves = [f(a).requireGrad(), f(b).requireGrad()]
    return gradients(sum(pow(leaves[0], leaves[1])), leaves)[which]
  }
  return [
    [by(0, [0, -0, 2, nan], [0, 0, 0, 0]), [0, 0, 0, 0]],
    [by(1, [0, 0, 0, 1], [2, 0, 0.5, 3]), [0, 0, 0, 0]],
    [by(0, [3, 0], [2, 1]), [6, 1]],
    [by(1, [-2], [2]), [nan]],
  ]
})

everywhere('the extremum of NaN is NaN, and so is its gradient; ties share', ({ f }) => {
  const picture = f([1, nan, 3, 4], [1, 1, 2, 2])
  return [
    [max(f([1, nan, 3])), [nan]],
    [gradientOf(x => max(x), f([1, nan, 3])), [nan, nan, nan]],
    [gradientOf(x => min(x), f([1, nan, 3])), [nan, nan, nan]],
    [gradientOf(x => max(x, 1), f([1, nan, 2, 3, 3, 1], [2, 3])), [nan, nan, nan, 0.5, 0.5, 0]],
    [gradientOf(x => maxPool2d(x, 2), picture), [nan, nan, nan, nan]],
    [gradientOf(x => max(x), f([5, inf])), [0, 1]],
    [gradientOf(x => max(x), f([-inf, -inf])), [0.5, 0.5]],
    [gradientOf(x => mul(max(x), inf), f([1, 2])), [0, inf]],
  ]
})

// ---- limits of i32 --------------------------------------------------------------------------------------------------

const [least, most] = [-(2 ** 31), 2 ** 31 - 1]

everywhere('i32 saturates wherever a number becomes one', ({ f, i, place: { backend } }) => [
  [full([2], 3e9, { dtype: 'i32', backend }), [most, most]],
  [full([1], -3e9, { dtype: 'i32', backend }), [least]],
  [full([1], -inf, { dtype: 'i32', backend }), [least]],
  [full([1], nan, { dtype: 'i32', backend }), [0]],
  [full([2], -1.9, { dtype: 'i32', backend }), [-1, -1]],
  [cast(f([3e9, -inf, nan]), 'i32'), [most, least, 0]],
  [pad(i([5]), [1], [3], -inf), [least, 5, least]],
  [maxPool2d(i([-5, -6, -7, -8], [1, 1, 2, 2]), 3, 2, 1), [-5]],
  [max(zeros([0], { dtype: 'i32', backend })), [least]],
  [min(zeros([2, 0], { dtype: 'i32', backend }), 1), [most, most]],
  [max(zeros([0], { backend })), [-inf]],
  [sum(zeros([0], { dtype: 'i32', backend })), [0]],
])

// ---- the sign of zero -----------------------------------------------------------------------------------------------

everywhere('zero keeps its sign', ({ f }) => [
  [broadcastTo(f([-0, 0]), [2, 2]), [-0, 0, -0, 0]],
  [mul(f([-0, 0]), 2), [-0, 0]],
  [mul(f([-0, 0]), -2), [0, -0]],
  [div(f([-0, 0]), 2), [-0, 0]],
  [add(f([-0, 0]), 0), [0, 0]],
  [sub(f([-0, 0]), 0), [-0, 0]],
  [reshape(f([-0]), []), [-0]],
  [gradientOf(x => mul(x, -0), f([1])), [-0]],
])

everywhere('functions that are odd keep the sign of zero', ({ f }) => [
  [sin(f([-0, 0])), [-0, 0]],
  [tanh(f([-0, 0])), [-0, 0]],
  [erf(f([-0, 0])), [-0, 0]],
  [neg(f([-0, 0])), [0, -0]],
])

// ---- tails ----------------------------------------------------------------------------------------------------------

everywhere('erf stays within ±1', ({ f }) => {
  const x = Array.from({ length: 500 }, (_, i) => 3 + i / 250)
  return [
    [maximum(erf(f(x)), 1), x.map(() => 1)],
    [minimum(erf(neg(f(x))), -1), x.map(() => -1)],
  ]
})

for (const [where, { backend, dtype }] of Object.entries(places))
  test(`layer norm of large rows does not overflow: ${where}`, async () => {
    const rows = [1e19, 2e19, -1e19, 5, 3e37, -3e37, 1e30, 0]
    const of = (f: (x: Tensor) => Tensor, place: Place) => scope(() => f(tensor(rows, { ...place, shape: [1, 2, 4] })))
    const none = ({ dtype, backend }: Tensor) => zeros([1, 4], { dtype, backend })
    const ada = (x: Tensor) => adaLayerNorm(x, none(x), none(x), 1e-6)
    const plain = (x: Tensor) => layerNorm(x, null, null, 1e-6)
    for (const f of [
      plain,
      ada,
      (x: Tensor) =>
        mul(
          gradientOf(x => mul(plain(x), x.detach()), x),
          1,
        ),
    ]) {
      const [got, wanted] = [of(f, { backend, dtype }), of(f, { backend: cpu, dtype: 'f64' })]
      const [values, exact] = [await got.data(), wanted.dataSync()]
      exact.forEach((y, i) => {
        assert.ok(Math.abs(values[i] - y) <= 1e-5, `element ${i}: expected ${y}, got ${values[i]}`)
      })
    }
  })

// The exponent x²/2 is rounded to f32: an error of 85 · 2⁻²⁴ at x = −13.
for (const [where, { backend, dtype }] of Object.entries(places))
  test(`GELU and its slope keep their digits in the negative tail: ${where}`, async () => {
    const x = Float32Array.from({ length: 240 }, (_, i) => -1 - i / 20)
    for (const f of [gelu, (x: Tensor) => gradientOf(gelu, x)]) {
      const [got, wanted] = scope(() => [
        f(tensor(x, { backend, dtype })),
        f(tensor(x, { backend: cpu, dtype: 'f64' })),
      ])
      const [values, exact] = [await got.data(), wanted.dataSync()]
      exact.forEach((y, i) => {
        assert.ok(
          Math.abs(values[i] - y) <= 1e-5 * Math.abs(y),
          `${f.name} at ${x[i]}: expected ${y}, got ${values[i]}`,
        )
      })
    }
  })

// ---- sizes and numbers that are none --------------------------------------------------------------------------------

refused('broadcastTo checks its sizes', 'broadcastTo: expected sizes that are integers from 0, got [2.5]', ({ f }) =>
  broadcastTo(f([1]), [2.5]),
)
refused('broadcastTo checks its sizes below 0', /^broadcastTo: expected sizes .* got \[-2\]/, ({ f }) =>
  broadcastTo(f([1]), [-2]),
)
refused('scatterAdd checks its rows', /^scatterAdd: expected sizes .* got \[1, -1, 1\]/, ({ f, i }) =>
  scatterAdd(i([0], [1, 1]), f([1], [1, 1, 1]), -1),
)
refused('interpolate checks its sizes', /^interpolate: expected sizes .* got \[2, 1\.5\]/, ({ f }) =>
  interpolate(f([1], [1, 1, 1, 1]), [2, 1.5], 'nearest'),
)
refused('arange checks its size', /^arange: expected sizes .* got \[2\.5\]/, () => arange(2.5))
for (const heads of [-2, 0, 0.5, 1.5, nan])
  refused(
    `selfAttention refuses ${heads} heads`,
    `selfAttention: expected a number of heads from 1, got ${heads}`,
    ({ f }) =>
      selfAttention(f([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], [1, 1, 18]), null, heads),
  )
for (const groups of [-1, 0, 0.5, 3])
  refused(`groupNorm refuses ${groups} groups of 2 channels`, /^groupNorm: expected channels divisible by /, ({ f }) =>
    groupNorm(f([1, 2], [1, 2, 1, 1]), groups, f([1, 1]), f([0, 0]), 1e-5),
  )
for (const P of [0, -1, 0.5, 1.5])
  refused(`patchify refuses patches of ${P}`, /^patchify: /, ({ f }) => patchify(f([1, 2, 3], [1, 1, 3, 1]), P))
for (const beta of [-1, nan])
  refused(`smoothL1 refuses beta ${beta}`, `smoothL1: expected beta ≥ 0, got ${beta}`, ({ f }) =>
    smoothL1(f([1]), f([2]), { beta }),
  )
for (const smoothing of [-0.1, 2, nan])
  refused(
    `crossEntropy refuses a label smoothing of ${smoothing}`,
    `crossEntropy: expected label smoothing in [0, 1], got ${smoothing}`,
    ({ f, i }) => crossEntropy(f([1, 2], [1, 2]), i([1]), { labelSmoothing: smoothing }),
  )

test('shapes, the backend without memory, follows the same rules', () => {
  const backend = createShapes({ fused: true })
  const x = zeros([2, 3], { backend, dtype: 'i32' })
  assert.equal(linear(x, zeros([4, 3], { backend, dtype: 'i32' })).shape, [2, 4])
  assert.throws(() => softmax(x), /^Error: softmax: expected a float dtype|softmax: expected a float dtype/)
})

test.run()
