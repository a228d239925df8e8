/**
 * Values of everyday functions that are easy to get wrong, on every backend: NaN, ties, signs of zero, empty axes, gradients
 * where a textbook's rule is 0 · ∞. The right values are those of PyTorch or of arithmetic. Derivatives: composites.test.ts.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  all,
  any,
  argmax,
  argmin,
  argsort,
  atan2,
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  ceil,
  conv1d,
  cumsum,
  dropout,
  einsum,
  elu,
  expm1,
  eye,
  flatten,
  flip,
  fullLike,
  gradients,
  greater,
  greaterEqual,
  index,
  isNaN as isNan,
  klDivergence,
  leakyRelu,
  linspace,
  log1p,
  logicalAnd,
  logicalNot,
  logicalOr,
  logsumexp,
  multinomial,
  norm,
  notEqual,
  oneHot,
  onesLike,
  prod,
  remainder,
  repeat,
  rmsNorm,
  rng,
  roll,
  round,
  scope,
  sort,
  squeeze,
  std,
  sum,
  type Tensor,
  tan,
  tensor,
  tile,
  topk,
  tril,
  triu,
  trunc,
  zeros,
  zerosLike,
} from '../../core/index.ts'
import { everywhere, gradientOf, inf, nan, places, refused } from './everywhere.ts'
import { scalarValues } from './scalar-values.ts'

// ---- comparisons and rounding ---------------------------------------------------------------------------------------

everywhere('comparisons with NaN are false, but ≠', ({ f }) => {
  const x = f([1, nan, -inf, 2])
  return [
    [greater(x, 1), [0, 0, 0, 1]],
    [greaterEqual(x, 1), [1, 0, 0, 1]],
    [greater(1, x), [0, 0, 1, 0]],
    [greaterEqual(2, x), [1, 0, 1, 1]],
    [notEqual(x, x), [0, 1, 0, 0]],
    [notEqual(x, nan), [1, 1, 1, 1]],
    [isNan(x), [0, 1, 0, 0]],
  ]
})

everywhere('logic takes what is not 0 for true, NaN too', ({ f, i }) => [
  [logicalAnd(f([0, 0, 2, nan, -0]), f([0, 1, -1, 3, 1])), [0, 0, 1, 1, 0]],
  [logicalOr(f([0, 0, 2, nan, -0]), f([0, 1, -1, 3, 0])), [0, 1, 1, 1, 0]],
  [logicalNot(f([0, -0, nan, inf])), [1, 1, 0, 0]],
  [logicalAnd(i([0, 5, -1]), i([1, 1, 0])), [0, 1, 0]],
  [any(f([0, 0, nan, 0], [2, 2]), 1), [0, 1]],
  [all(f([1, 0, nan, 2], [2, 2]), 1), [0, 1]],
  [any(f([], [0, 2]), 0), [0, 0]],
  [all(f([], [0, 2]), 0, true), [1, 1]],
  [all(i([1, -1])), [1]],
])

everywhere('halves round to even, and zero keeps its sign', ({ f, i }) => [
  [round(f([0.5, 1.5, 2.5, -0.5, -1.5, 8388609, inf])), [0, 2, 2, -0, -2, 8388609, inf]],
  [ceil(f([0.5, -0.5, -1.5, 2, -0, -inf])), [1, -0, -1, 2, -0, -inf]],
  [trunc(f([1.5, -1.5, -0.5, 2, -0, inf])), [1, -1, -0, 2, -0, inf]],
  [round(i([7, -3])), [7, -3]],
  [trunc(i([7, -3])), [7, -3]],
  [round(f([nan])), [nan]],
])

everywhere('a remainder has the sign of the divisor', ({ f, i }) => [
  [remainder(f([5, -5, 5, -5, 7.5, 6]), f([3, 3, -3, -3, 2, 3])), [2, 1, -1, -2, 1.5, 0]],
  [remainder(f([1, -1, 0, inf, 3, nan]), f([inf, inf, inf, 2, 0, 2])), [1, inf, 0, nan, nan, nan]],
  [remainder(f([-7, 7]), 4), [1, 3]],
  [remainder(7, f([4, -4])), [3, -1]],
  [remainder(i([-7, 7, 5]), i([4, -4, 0])), [1, -1, 0]],
  [gradientOf(x => remainder(f([7, -7]), x), f([4, 4])), [-1, 2]],
])

everywhere('log1p and expm1 keep small arguments, signs and infinities', ({ f }) => [
  [log1p(f([0, -0, 2 ** -100, -1, -2, inf, nan, -(2 ** -100)])), [0, -0, 2 ** -100, -inf, nan, inf, nan, -(2 ** -100)]],
  [expm1(f([0, -0, 2 ** -100, -200, inf, -inf, nan])), [0, -0, 2 ** -100, -1, inf, -1, nan]],
])

everywhere('atan2 takes its sign and quadrant from signs of zero and infinities', ({ f, place: { dtype } }) => {
  const held = (values: readonly number[]) => values.map(v => (dtype === 'f64' ? v : Math.fround(v)))
  const [y, x] = [
    [0, -0, 0, -0, 1, -1, inf, -inf, inf, 1, nan, 1, 0],
    [1, 1, -1, -0, 0, -0, inf, inf, -inf, -inf, 1, nan, 0],
  ]
  return [[atan2(f(y), f(x)), held(y.map((v, i) => Math.atan2(v, x[i])))]]
})

for (const [where, { backend, dtype }] of Object.entries(places))
  if (dtype === 'f32')
    test(`small, large and infinite arguments of scalar functions: ${where}`, () => scalarValues(backend))

// ---- reductions -----------------------------------------------------------------------------------------------------

everywhere('the first extremum is taken, and NaN before all', ({ f, i }) => [
  [argmax(f([1, 3, 3, 2])), [1]],
  [argmin(f([3, 1, 1, 2]), 0), [1]],
  [argmax(f([1, nan, 3, nan])), [1]],
  [argmin(f([1, nan, 0, nan])), [1]],
  [argmax(f([-inf, -inf, 5, -inf], [2, 2]), 1), [0, 0]],
  [argmax(f([1, 5, 9, 2, 7, 9], [2, 3]), 0, true), [1, 1, 0]],
  [argmax(i([4, 7, 7])), [1]],
  [
    argmin(
      i(
        [
          [3, 3],
          [1, 9],
        ].flat(),
        [2, 2],
      ),
      1,
    ),
    [0, 0],
  ],
])

everywhere('std, norm and logsumexp have gradients where their rules divide 0 by 0', ({ f }) => [
  [std(f([1, 3])), [1]],
  [std(f([1, 3, 5, 0, 2, 4], [2, 3]), 1, { ddof: 1, keepDims: true }), [2, 2]],
  [gradientOf(x => std(x), f([2, 2])), [0, 0]],
  [norm(f([3, 4])), [5]],
  [norm(f([3, -4, 0]), 0, { p: 0 }), [2]],
  [norm(f([3, -4, 0]), 0, { p: inf }), [4]],
  [norm(f([3, -4, 0]), 0, { p: -inf }), [0]],
  [norm(f([3, -4, 0]), undefined, { p: 1, keepDims: true }), [7]],
  [norm(f([2, 0]), 0, { p: -1 }), [0]],
  [norm(f([nan, 1])), [nan]],
  [gradientOf(x => norm(x), f([0, 0])), [0, 0]],
  [gradientOf(x => norm(x, 0, { p: 3 }), f([0, 0])), [0, 0]],
  [gradientOf(x => norm(x, 0, { p: 1 }), f([0, -2])), [0, -1]],
  [logsumexp(f([-inf, -inf])), [-inf]],
  [logsumexp(f([inf, 1])), [inf]],
  [logsumexp(f([-inf, 7])), [7]],
  [logsumexp(f([1000, -inf])), [1000]],
  [logsumexp(f([], [0, 2]), 0), [-inf, -inf]],
])

everywhere('derivatives of a product are products of the other elements', ({ f, i }) => {
  const x = f([0, 3, 0, 2]).requireGrad()
  const [first] = gradients(prod(x), [x], { createGraph: true })
  return [
    [prod(f([2, 3, 4])), [24]],
    [prod(f([], [0, 2]), 0), [1, 1]],
    [prod(i([2, -3, 4, 5, 1], [1, 5]), 1, true), [-120]],
    [gradientOf(x => prod(x), f([2, 0, 4])), [0, 8, 0]],
    [gradientOf(x => prod(x), f([0, 3, 0])), [0, 0, 0]],
    [gradients(sum(first), [x])[0], [6, 0, 6, 0]],
  ]
})

everywhere('running sums go along their axis, and their gradient back', ({ f, i }) => [
  [cumsum(f([1, 2, 3, 4, 5, 6], [2, 3]), 1), [1, 3, 6, 4, 9, 15]],
  [cumsum(f([1, 2, 3, 4, 5, 6], [2, 3]), 0), [1, 2, 3, 5, 7, 9]],
  [cumsum(i([1, 2, 3]), -1), [1, 3, 6]],
  [cumsum(f([1, nan, 3]), 0), [1, nan, nan]],
  [cumsum(f([], [0, 3]), 0), []],
  [gradientOf(x => cumsum(x, 0), f([1, 2, 3])), [3, 2, 1]],
  [cumsum(fullLike(zeros([3000], { backend: f(0).backend, dtype: f(0).dtype }), 0.5), 0), halves(3000)],
])

/** ½, 1, 1½, … */
function halves(n: number): number[] {
  return Array.from({ length: n }, (_, i) => (i + 1) / 2)
}

// ---- sorting --------------------------------------------------------------------------------------------------------

everywhere('NaN sorts last, −0 equals 0, and equal elements keep their order in both directions', ({ f, i }) => {
  const x = f([2, nan, -0, 1, 0, nan, 2, -inf, inf])
  const down = sort(x, 0, { descending: true })
  return [
    [sort(x).values, [-inf, -0, 0, 1, 2, 2, inf, nan, nan]],
    [sort(x).indices, [7, 2, 4, 3, 0, 6, 8, 1, 5]],
    [down.values, [nan, nan, inf, 2, 2, 1, -0, 0, -inf]],
    [down.indices, [1, 5, 8, 0, 6, 3, 2, 4, 7]],
    [argsort(f([3, 1, 2, 0], [2, 2]), 0), [1, 1, 0, 0]],
    [sort(i([2 ** 20, -3, 7])).values, [-3, 7, 2 ** 20]],
    [sort(f([], [2, 0])).values, []],
    [gradientOf(x => sort(x).values, f([3, 1])), [1, 1]],
    [topk(f([1, 5, 3, 5]), 3).values, [5, 5, 3]],
    [topk(f([1, 5, 3, 5]), 3).indices, [1, 3, 2]],
    [topk(f([1, nan, 3]), 1).values, [nan]],
    [topk(f([4, 2, 3, 1], [2, 2]), 1, 0, { largest: false }).values, [3, 1]],
    [topk(f([1, 2]), 0).values, []],
    [gradientOf(x => topk(x, 2).values, f([3, 1, 2])), [1, 0, 1]],
  ]
})

for (const [where, { backend, dtype }] of Object.entries(places))
  test(`long rows with many ties are sorted stably: ${where}`, async () => {
    const n = 700
    const values = Array.from(rng(3).integersArray(-40, 40, 3 * n), v => (v === 39 ? nan : v / 4))
    for (const descending of [false, true]) {
      const { indices } = scope(() => {
        const x = tensor(values, { shape: [3, n], backend, dtype })
        return { indices: sort(x, 1, { descending }).indices }
      })
      const got = await indices.data()
      for (let row = 0; row < 3; row++) {
        const own = values.slice(row * n, (row + 1) * n)
        const rank = (v: number) => (Number.isNaN(v) ? 1e9 : v)
        const wanted = own
          .map((_, i) => i)
          .sort((i, j) => (descending ? -1 : 1) * (rank(own[i]) - rank(own[j])) || i - j)
        assert.equal([...got.slice(row * n, (row + 1) * n)], wanted)
      }
      indices.dispose()
    }
  })

// ---- arrangement ----------------------------------------------------------------------------------------------------

everywhere('elements are arranged as in NumPy', ({ f, i }) => {
  const x = f([1, 2, 3, 4, 5, 6], [2, 3])
  return [
    [flip(x, 1), [3, 2, 1, 6, 5, 4]],
    [flip(x, [0, 1]), [6, 5, 4, 3, 2, 1]],
    [roll(x, 1, 1), [3, 1, 2, 6, 4, 5]],
    [roll(x, -1), [2, 3, 4, 5, 6, 1]],
    [roll(x, [1, 4], [0, 1]), [6, 4, 5, 3, 1, 2]],
    [tile(x, [2, 1]), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]],
    [tile(x, 2), [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]],
    [tile(x, [0, 1]), []],
    [repeat(x, 2, 1), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]],
    [repeat(x, 2, 0), [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]],
    [tril(x), [1, 0, 0, 4, 5, 0]],
    [tril(x, 1), [1, 2, 0, 4, 5, 6]],
    [triu(x), [1, 2, 3, 0, 5, 6]],
    [triu(x, 2), [0, 0, 3, 0, 0, 0]],
    [tril(f([nan, nan, 1, 1], [2, 2])), [nan, 0, 1, 1]],
    [triu(i([1, 2, 3, 4], [2, 2]), -5), [1, 2, 3, 4]],
  ]
})

everywhere('index reads positions, ranges, new axes and tensors of indices', ({ f, i }) => {
  const x = f([1, 2, 3, 4, 5, 6], [2, 3])
  return [
    [index(x, -1), [4, 5, 6]],
    [index(x, '...', 0), [1, 4]],
    [index(x, ':', { start: -2 }), [2, 3, 5, 6]],
    [index(x, ':', { end: -1 }), [1, 2, 4, 5]],
    [index(x, 0, { start: 0, end: 99, step: 2 }), [1, 3]],
    [index(x, { start: 1, end: 0 }), []],
    [index(x, i([1, 0, -1])), [4, 5, 6, 1, 2, 3, 4, 5, 6]],
    [index(x, i([1, 0]), i([2, -3])), [6, 1]],
    [index(x, ':', i([2, 2])), [3, 3, 6, 6]],
    [index(i([7, 8, 9]), i([[2, 0]].flat(), [1, 2])), [9, 7]],
    [gradientOf(x => index(x, ':', i([2, 2])), x), [0, 0, 2, 0, 0, 2]],
    [gradientOf(x => index(x, 1, { start: 1 }), x), [0, 0, 0, 0, 1, 1]],
  ]
})

test('shapes of what index reads', () => {
  const shape = (
    dims: readonly number[],
    ...items: Parameters<typeof index> extends [Tensor, ...infer I] ? I : never
  ) => index(zeros(dims), ...items).shape
  const ids = (...dims: number[]) => zeros(dims, { dtype: 'i32' })
  assert.equal(shape([2, 3, 4], null, 0, '...', null), [1, 3, 4, 1])
  assert.equal(shape([2, 3, 4]), [2, 3, 4])
  assert.equal(shape([2, 3, 4], ':', ids(5, 6)), [2, 5, 6, 4])
  assert.equal(shape([2, 3, 4], ids(5), ':', ids(6, 1)), [6, 5, 3]) // apart: first
  assert.equal(shape([2, 3, 4], ':', ids(5), ids()), [2, 5])
  assert.equal(shape([2, 3, 4], 0, ':', ids(5)), [3, 5]) // a position drops its axis before, as in PyTorch
  assert.equal(shape([2, 3, 4], ids(5), null, ids(5)), [5, 1, 4])
  assert.equal(shape([2, 3], { step: 2 }, { start: -1 }), [1, 1])
})

test('shapes of arrangements', () => {
  const x = zeros([2, 1, 3, 1])
  assert.equal(squeeze(x).shape, [2, 3])
  assert.equal(squeeze(x, -1).shape, [2, 1, 3])
  assert.equal(squeeze(x, [1, 3]).shape, [2, 3])
  assert.equal(flatten(x).shape, [6])
  assert.equal(flatten(x, 1, 2).shape, [2, 3, 1])
  assert.equal(flatten(zeros([])).shape, [1])
  assert.equal(tile(zeros([3]), [2, 2]).shape, [2, 6])
  assert.equal(repeat(x, 0, 2).shape, [2, 1, 0, 1])
  assert.equal(argmax(x, undefined, true).shape, [1, 1, 1, 1])
  assert.equal(norm(x, [0, 2], { keepDims: true }).shape, [1, 1, 1, 1])
})

everywhere('einsum takes diagonals, sums and broadcasts', ({ f, i }) => {
  const x = f([1, 2, 3, 4], [2, 2])
  return [
    [einsum('ii', x), [5]],
    [einsum('ii->i', x), [1, 4]],
    [einsum('ij->ji', x), [1, 3, 2, 4]],
    [einsum('ji', x), [1, 3, 2, 4]],
    [einsum('ij->', x), [10]],
    [einsum(' i j , j k -> i k ', x, x), [7, 10, 15, 22]],
    [einsum('ij,ij->ij', x, x), [1, 4, 9, 16]],
    [einsum('...,...', x, f([10])), [10, 20, 30, 40]],
    [einsum('i...->...', x), [4, 6]],
    [einsum('ij,i->j', x, f([2])), [8, 12]],
    [einsum('ij,jk,k->i', x, x, f([1, 1])), [17, 37]],
    [einsum(',', f(2), f(3)), [6]],
    [einsum('ij,jk', i([1, 2, 3, 4], [2, 2]), i([1, 0, 0, 1], [2, 2])), [1, 2, 3, 4]],
    [einsum('ij,jk', f([], [2, 0]), f([], [0, 2])), [0, 0, 0, 0]],
    [gradientOf(x => einsum('ii', x), x), [1, 0, 0, 1]],
  ]
})

// ---- creation -------------------------------------------------------------------------------------------------------

everywhere('tensors known from a shape', ({ f, i, place }) => [
  [eye(2, place), [1, 0, 0, 1]],
  [eye(0, place), []],
  [linspace(0, 1, 5, place), [0, 0.25, 0.5, 0.75, 1]],
  [linspace(2, 5, 1, place), [2]],
  [linspace(3, -3, 4, { backend: place.backend, dtype: 'i32' }), [3, 1, -1, -3]],
  [zerosLike(f([1, nan])), [0, 0]],
  [onesLike(i([7, 8])), [1, 1]],
  [fullLike(i([7, 8]), 3), [3, 3]],
  [oneHot(i([2, 0]), 3), [0, 0, 1, 1, 0, 0]],
  [oneHot(i([1], []), 2, { dtype: 'i32' }), [0, 1]],
])

everywhere('dropout scales what it keeps', ({ f }) => [
  [dropout(f([1, nan]), 0, rng(1)), [1, nan]],
  [dropout(f([1, nan, inf]), 1, rng(1)), [0, 0, 0]],
  [gradientOf(x => dropout(x, 1, rng(1)), f([1, 2])), [0, 0]],
])

for (const [where, { backend, dtype }] of Object.entries(places)) {
  test(`dropout drops as often as it says: ${where}`, async () => {
    const y = scope(() => dropout(onesLike(zeros([4000], { backend, dtype })), 0.25, rng(7)))
    const values = await y.data()
    y.dispose()
    const dropped = values.filter(v => v === 0).length
    assert.ok(Math.abs(dropped - 1000) < 100, `${dropped} of 4,000`)
    assert.ok(values.every(v => v === 0 || Math.abs(v - 4 / 3) < 1e-6))
  })

  test(`multinomial draws in proportion to weights, and none of weight 0: ${where}`, async () => {
    const weights = [0, 1, 2, 0, 5]
    const drawn = scope(() =>
      multinomial(tensor([...weights, 1, 1, 0, 0, 0], { shape: [2, 5], backend, dtype }), 4000, rng(1), {
        replacement: true,
      }),
    )
    assert.equal(drawn.shape, [2, 4000])
    const ids = await drawn.data()
    drawn.dispose()
    const counts = [0, 0, 0, 0, 0]
    for (const id of ids.slice(0, 4000)) counts[id]++
    for (const [k, count] of counts.entries())
      assert.ok(Math.abs(count - 500 * weights[k]) <= 100 * Math.sign(weights[k]), `${counts}`)
    assert.ok(ids.slice(4000).every(id => id < 2))
    const without = scope(() => multinomial(tensor(weights, { backend, dtype }), 3, rng(2)))
    assert.equal([...(await without.data())].sort(), [1, 2, 4])
    without.dispose()
  })
}

test('of draws without replacement the first is as likely as one alone, and so is each next one of those left', () => {
  const counts = new Map<string, number>()
  const drawn = multinomial(tile(tensor([1, 2, 3]), [6000, 1]), 2, rng(4)).dataSync()
  for (let k = 0; k < 12000; k += 2) {
    const pair = `${drawn[k]}${drawn[k + 1]}`
    counts.set(pair, (counts.get(pair) ?? 0) + 1)
  }
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 0],
    [1, 2],
    [2, 0],
    [2, 1],
  ]) {
    const wanted = 6000 * ((a + 1) / 6) * ((b + 1) / (6 - a - 1))
    const got = counts.get(`${a}${b}`) ?? 0
    assert.ok(Math.abs(got - wanted) < 4.5 * Math.sqrt(wanted), `${a}, ${b}: ${got} of ${wanted}`)
  }
})

// ---- activations, norms, losses -------------------------------------------------------------------------------------

everywhere('slopes at 0 and at infinity are those of PyTorch', ({ f }) => [
  [gradientOf(y => atan2(y, f([0, 2])), f([0, 0])), [0, 0.5]],
  [gradientOf(x => elu(x), f([nan])), [nan]],
  [leakyRelu(f([-2, 0, 3, nan]), 0.5), [-1, 0, 3, nan]],
  [gradientOf(x => leakyRelu(x, 0.5), f([-2, 0, 3])), [0.5, 0.5, 1]],
  [elu(f([-inf, -0, 3, inf]), 2), [-2, -0, 3, inf]],
  [gradientOf(x => elu(x, 2), f([-inf, 0, 3, 1000])), [0, 2, 1, 1]],
  [rmsNorm(f([1, -1]), null, 0), [1, -1]],
  [rmsNorm(f([0, 0]), f([2, 3]), 1), [0, 0]],
])

everywhere('losses of probabilities 0 and 1 are finite', ({ f }) => [
  [binaryCrossEntropy(f([0, 1, 0, 1]), f([0, 1, 1, 0]), { reduction: 'none' }), [0, -0, 100, 100]],
  [binaryCrossEntropy(f([0, 0]), f([1, 0])), [50]],
  [binaryCrossEntropy(f([0, 0]), f([1, 1]), { weight: f([2]), reduction: 'sum' }), [400]],
  [gradientOf(p => binaryCrossEntropy(p, f([0, 1]), { reduction: 'sum' }), f([0, 1])), [1, -1]],
  [gradientOf(p => binaryCrossEntropy(p, f([0, 1]), { reduction: 'sum' }), f([0.5, 0.5])), [2, -2]],
  [
    binaryCrossEntropyWithLogits(f([-1000, 1000, 1000, -1000]), f([0, 1, 0, 1]), { reduction: 'none' }),
    [0, 0, 1000, 1000],
  ],
  [binaryCrossEntropyWithLogits(f([-1000]), f([1]), { positiveWeight: f([3]) }), [3000]],
  [klDivergence(f([0, -1]), f([0, 1]), { reduction: 'none' }), [0, 1]],
  [klDivergence(f([0]), f([-1])), [nan]],
  [klDivergence(f([0, -1], [2, 1]), f([0, 1], [2, 1]), { reduction: 'batchMean' }), [0.5]],
  [klDivergence(f([-1, -2]), f([-inf, 0]), { logTarget: true, reduction: 'sum' }), [nan]],
  [gradientOf(t => klDivergence(f([-1]), t), f([0])), [1]],
])

everywhere('conv1d slides a kernel along', ({ f }) => [
  [conv1d(f([1, 2, 3, 4], [1, 1, 4]), f([1, -1], [1, 1, 2])), [-1, -1, -1]],
  [conv1d(f([1, 2, 3], [1, 1, 3]), f([1, 1], [1, 1, 2]), f([10]), { padding: [1, 0], stride: 2 }), [11, 15]],
  [conv1d(f([1, 2], [1, 1, 2]), f([1], [1, 1, 1]), null, { padding: 1 }), [0, 1, 2, 0]],
])

// ---- errors ---------------------------------------------------------------------------------------------------------

const floatsOnly: Readonly<Record<string, (x: Tensor) => unknown>> = {
  tan: x => tan(x),
  log1p: x => log1p(x),
  expm1: x => expm1(x),
  atan2: x => atan2(x, 1),
  std: x => std(x),
  norm: x => norm(x),
  logsumexp: x => logsumexp(x),
  dropout: x => dropout(x, 0.5, rng(1)),
  multinomial: x => multinomial(x, 1, rng(1)),
  leakyRelu: x => leakyRelu(x),
  elu: x => elu(x),
  rmsNorm: x => rmsNorm(x, null, 1e-5),
  binaryCrossEntropy: x => binaryCrossEntropy(x, x),
  binaryCrossEntropyWithLogits: x => binaryCrossEntropyWithLogits(x, x),
  klDivergence: x => klDivergence(x, x),
}
for (const [name, f] of Object.entries(floatsOnly))
  refused(
    `${name} refuses integers and names itself`,
    `${name}: expected a float dtype, got i32; convert with to(x, { dtype: 'f32' })`,
    ({ i }) => f(i([1, 2])),
  )

type Refusal = Parameters<typeof refused>[2]
const refusals: readonly (readonly [message: string | RegExp, f: Refusal])[] = [
  ['greater: expected a tensor beside the number 1, got 2', () => greater(1, 2)],
  [/^remainder: expected an integer in .* beside i32, got 0.5; convert with/, ({ i }) => remainder(i([1]), 0.5)],
  [/^greater: expected shapes that broadcast, got \[2\] and \[3\]/, ({ f }) => greater(f([1, 2]), f([1, 2, 3]))],
  [/^atan2: expected shapes that broadcast, got/, ({ f }) => atan2(f([1, 2]), f([1, 2, 3]))],
  [/^logicalAnd: expected shapes that broadcast, got/, ({ f }) => logicalAnd(f([1, 2]), f([1, 2, 3]))],
  ['norm: expected p to be a number or ±Infinity, got NaN', ({ f }) => norm(f([1]), 0, { p: nan })],
  ['std: expected an axis in [-1, 0], got 1', ({ f }) => std(f([1]), 1)],
  ['argmax: expected an axis with elements, got axis 0 of [0, 2]', ({ f }) => argmax(f([], [0, 2]), 0)],
  ['cumsum: expected an axis in [-1, 0], got 1', ({ f }) => cumsum(f([1]), 1)],
  ['topk: expected k from 0 to 2, the size of axis -1, got 3', ({ f }) => topk(f([1, 2]), 3)],
  ['squeeze: expected axes of size 1, got axis 0 of [2]', ({ f }) => squeeze(f([1, 2]), 0)],
  ['flatten: expected a first axis before the last, got 1 and 0', ({ f }) => flatten(f([1], [1, 1]), 1, 0)],
  ['roll: expected a shift that is an integer, got 0.5', ({ f }) => roll(f([1]), 0.5)],
  ['roll: expected an axis for each shift, got 1 axes and 2 shifts', ({ f }) => roll(f([1]), [1, 2], 0)],
  ['tile: expected counts that are integers from 0, got [-1]', ({ f }) => tile(f([1]), -1)],
  ['repeat: expected counts that are integers from 0, got [0.5]', ({ f }) => repeat(f([1]), 0.5, 0)],
  ['tril: expected two axes or more, got [1]', ({ f }) => tril(f([1]))],
  ['triu: expected an integer diagonal, got 0.5', ({ f }) => triu(f([1], [1, 1]), 0.5)],
  [/^eye: expected sizes .* got \[-1\]/, () => eye(-1)],
  [/^linspace: expected sizes .* got \[1.5\]/, () => linspace(0, 1, 1.5)],
  [/^oneHot: expected sizes .* got \[-1\]/, ({ i }) => oneHot(i([0]), -1)],
  ['dropout: expected a probability in [0, 1], got 1.5', ({ f }) => dropout(f([1]), 1.5, rng(1))],
  ['multinomial: expected weights [..., C] with C from 1, got []', ({ f }) => multinomial(f(1), 1, rng(1))],
  ['multinomial: expected n from 0 to 2 categories, got 3', ({ f }) => multinomial(f([1, 2]), 3, rng(1))],
  ['multinomial: expected n from 0, got -1', ({ f }) => multinomial(f([1, 2]), -1, rng(1), { replacement: true })],
  ['rmsNorm: expected at least one axis, got a scalar', ({ f }) => rmsNorm(f(1), null, 1e-5)],
  ['rmsNorm: expected a weight [2] for x [2], got [1]', ({ f }) => rmsNorm(f([1, 2]), f([1]), 1e-5)],
  ['conv1d: expected x [N, C, L] and w [O, C, k], got [1] and [1, 1, 1]', ({ f }) => conv1d(f([1]), f([1], [1, 1, 1]))],
  [
    'conv1d: expected whole numbers, kernel, stride and dilation from 1, padding from 0, and a kernel that fits, ' +
      'got kernel 3, stride 1, padding [0, 1] and dilation 1 on 1',
    ({ f }) => conv1d(f([1], [1, 1, 1]), f([1, 2, 3], [1, 1, 3]), null, { padding: [0, 1] }),
  ],
  ['conv1d: expected a bias [1], got [2]', ({ f }) => conv1d(f([1], [1, 1, 1]), f([1], [1, 1, 1]), f([1, 2]))],
  [
    'binaryCrossEntropy: expected operands of one shape, got [1] and [2]',
    ({ f }) => binaryCrossEntropy(f([1]), f([1, 2])),
  ],
  [
    'binaryCrossEntropy: expected a weight that broadcasts to [1], got [2]',
    ({ f }) => binaryCrossEntropy(f([1]), f([1]), { weight: f([1, 2]) }),
  ],
  [
    "klDivergence: expected reduction to be one of 'none', 'mean', 'sum', 'batchMean', got 'all'",
    ({ f }) => klDivergence(f([1]), f([1]), { reduction: 'all' as 'sum' }),
  ],
  [
    "klDivergence: expected a batch axis for 'batchMean', got []",
    ({ f }) => klDivergence(f(1), f(1), { reduction: 'batchMean' }),
  ],
  ["einsum: expected letters, '...', ',' and one '->', got 'i->j->k'", ({ f }) => einsum('i->j->k', f([1]))],
  ["einsum: expected 2 tensors for 'i,j', got 1", ({ f }) => einsum('i,j', f([1]))],
  ["einsum: expected axes 'ij' of 'ij', got a tensor [1]", ({ f }) => einsum('ij', f([1]))],
  ["einsum: expected one size for 'j', got 2 and 3", ({ f }) => einsum('j,j', f([1, 2]), f([1, 2, 3]))],
  [
    "einsum: expected one size for an axis of '...', got 2 and 3",
    ({ f }) => einsum('...,...', f([1, 2]), f([1, 2, 3])),
  ],
  ["einsum: expected a result of letters of the operands, each once, got 'ii'", ({ f }) => einsum('i->ii', f([1]))],
  ["index: expected '...' once, got it 2 times", ({ f }) => index(f([1]), '...', '...')],
  ['index: expected at most 1 items for x [1], got 2', ({ f }) => index(f([1]), 0, 0)],
  ['index: expected a position in [-1, 1) of axis 0 of [1], got 1', ({ f }) => index(f([1]), 1)],
  ['index: expected integer bounds, got 0.5', ({ f }) => index(f([1]), { start: 0.5 })],
  ['index: expected a step from 1, got -1; reverse an axis with flip', ({ f }) => index(f([1]), { step: -1 })],
  [
    /^index: expected index tensors of i32 on \w+, got f\d\d on \w+; select by a mask/,
    ({ f }) => index(f([1]), f([0])),
  ],
]
for (const [message, f] of refusals) refused(`says: ${message}`, message, f)

for (const [where, { backend, dtype }] of Object.entries(places))
  test(`an index out of range is refused, though it lies within the tensor: ${where}`, async () => {
    const x = zeros([2, 3], { backend, dtype })
    const ids = (id: number) => tensor([id], { backend, dtype: 'i32' })
    const reads: readonly (readonly [RegExp, () => Tensor])[] = [
      [/expected indices in \[0, 2\), got/, () => index(x, ids(2))],
      [/expected indices in \[0, 6\), got/, () => index(x, ids(0), ids(4))],
      [/expected indices in \[0, 3\), got/, () => oneHot(ids(-1), 3)],
    ]
    for (const [wanted, read] of reads) {
      let message = ''
      try {
        await read().data() // gpu throws at the next read
      } catch (error) {
        message = (error as Error).message
      }
      assert.match(message, wanted)
    }
  })

test.run()
