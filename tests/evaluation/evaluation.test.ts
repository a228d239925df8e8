/**
 * Metrics of sets of pictures: products, factors and singular values that they rest on, closed forms, invariances, and
 * agreement with the definitions written out. Parity with the official evaluator is in parity.test.ts.
 */

import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/index.ts'
import {
  type FeatureGaussian,
  FeatureStatistics,
  type Features,
  featureGaussian,
  frechetDistance,
  inceptionScore,
  type Matrix,
  manifoldRadii,
  precisionRecall,
} from '../../evaluation/index.ts'
import { covarianceFactor, timesTransposed, transposed } from '../../evaluation/matrix.ts'
import { singularValueSum } from '../../evaluation/singular-values.ts'
import { close } from '../near.ts'

function randomMatrix(rows: number, columns: number, seed: number): Matrix {
  return { rows, columns, data: Float64Array.from(rng(seed).normalArray(rows * columns)) }
}

function randomFeatures(N: number, D: number, seed: number, shift = 0): Features & { readonly data: Float32Array } {
  return {
    shape: [N, D],
    data: rng(seed)
      .normalArray(N * D)
      .map(x => x + shift),
  } // f32, as networks give them
}

/** a bᵀ as defined. */
function naiveProduct(a: Matrix, b: Matrix): number[] {
  const at = (i: number, j: number) => {
    let sum = 0
    for (let k = 0; k < a.columns; k++) sum += a.data[i * a.columns + k] * b.data[j * b.columns + k]
    return sum
  }
  return Array.from({ length: a.rows * b.rows }, (_, n) => at(Math.floor(n / b.rows), n % b.rows))
}

const sizes = fc.record({ M: fc.integer({ min: 1, max: 13 }), N: fc.integer({ min: 1, max: 13 }), seed: fc.nat(9999) })

// ---- matrices -------------------------------------------------------------------------------------------------------

test('products of rows: any sizes, one matrix with itself, several panels', () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 9 }), ({ M, N, seed }, K) => {
      const [a, b] = [randomMatrix(M, K, seed), randomMatrix(N, K, seed + 1)]
      close(timesTransposed(a, b).data, naiveProduct(a, b), 1e-13)
      close(timesTransposed(a, a).data, naiveProduct(a, a), 1e-13)
    }),
  )
  const [a, b] = [randomMatrix(3, 9001, 1), randomMatrix(21, 9001, 2)] // panels of 4 rows
  close(timesTransposed(a, b).data, naiveProduct(a, b), 1e-10)
  close(timesTransposed(b, b).data, naiveProduct(b, b), 1e-10)
  assert.throws(() => timesTransposed(a, randomMatrix(3, 2, 1)), /expected rows of 9001 elements, got 2/)
})

test('the factor of a covariance gives it back, and has as many rows as its rank', () => {
  fc.assert(
    fc.property(sizes, ({ M: rank, N: n, seed }) => {
      const x = randomMatrix(n, rank, seed)
      const S = timesTransposed(x, x)
      const R = covarianceFactor(S)
      assert.is(R.rows, Math.min(rank, n))
      const columns = transposed(R)
      close(timesTransposed(columns, columns).data, S.data, 1e-11)
    }),
  )
  assert.is(covarianceFactor({ rows: 3, columns: 3, data: new Float64Array(9) }).rows, 0)
})

test('sum of singular values: closed forms', () => {
  // σ₁ + σ₂ = √(|A|² + 2 |det A|) for two by two.
  fc.assert(
    fc.property(fc.nat(9999), seed => {
      const a = randomMatrix(2, 2, seed)
      const [p, q, r, s] = a.data
      const wanted = Math.sqrt(p * p + q * q + r * r + s * s + 2 * Math.abs(p * s - q * r))
      close([singularValueSum(a)], [wanted], 1e-14)
    }),
  )
  // A product u vᵀ has one, |u| |v|; a positive semi-definite matrix has its eigenvalues, whose sum is the trace.
  fc.assert(
    fc.property(sizes, ({ M, N, seed }) => {
      const [u, v, x] = [randomMatrix(M, 1, seed), randomMatrix(N, 1, seed + 1), randomMatrix(M, N, seed + 2)]
      const length = ({ data }: Matrix) => Math.hypot(...data)
      close([singularValueSum(timesTransposed(u, v))], [length(u) * length(v)], 1e-14)
      close([singularValueSum(timesTransposed(x, x))], [length(x) ** 2], 1e-13)
      close([singularValueSum(x)], [singularValueSum(transposed(x))], 1e-13)
    }),
  )
  const diagonal = { rows: 5, columns: 5, data: new Float64Array(25) }
  for (const [i, d] of [3, 0, -1e-9, 2, 1e-3].entries()) diagonal.data[i * 6] = d
  close([singularValueSum(diagonal)], [5.001000001], 1e-15)
  assert.is(singularValueSum({ rows: 0, columns: 4, data: new Float64Array(0) }), 0)
  assert.throws(() => singularValueSum({ rows: 2, columns: 2, data: new Float64Array(4).fill(Number.NaN) }), /finite/)
})

test('sum of singular values: a large matrix whose values span ten decades', () => {
  const n = 120
  const [a, b] = [orthogonal(n, 1), orthogonal(n, 2)]
  const values = Array.from({ length: n }, (_, i) => 10 ** ((-10 * i) / n))
  const scaled = { ...a, data: a.data.map((x, i) => x * values[i % n]) }
  const sum = values.reduce((total, x) => total + x, 0)
  close([singularValueSum(timesTransposed(scaled, b)) / sum], [1], 1e-13)
})

/** An orthogonal matrix: the rows of a random one, each made orthogonal to those before, twice for accuracy. */
function orthogonal(n: number, seed: number): Matrix {
  const q = randomMatrix(n, n, seed)
  const row = (i: number) => q.data.subarray(i * n, (i + 1) * n)
  const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, v, k) => sum + v * y[k], 0)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < 2 * i; j++) {
      const overlap = dot(row(i), row(j % i))
      row(i).set(row(i).map((x, k) => x - overlap * row(j % i)[k]))
    }
    const length = Math.sqrt(dot(row(i), row(i)))
    row(i).set(row(i).map(x => x / length))
  }
  return q
}

// ---- statistics -----------------------------------------------------------------------------------------------------

test('statistics batch by batch, and of parts merged, are those of the whole', () => {
  const features = randomFeatures(2500, 5, 3, 100)
  const { data } = features
  const columns = [0, 1, 2, 3, 4].map(d => Array.from({ length: 2500 }, (_, n) => data[n * 5 + d]))
  const mean = columns.map(column => column.reduce((s, x) => s + x, 0) / 2500)
  const covariance = columns.flatMap((a, i) =>
    columns.map((b, j) => a.reduce((s, x, n) => s + (x - mean[i]) * (b[n] - mean[j]), 0) / 2499),
  )
  const part = (from: number, to: number): Features => ({
    shape: [to - from, 5],
    data: data.slice(from * 5, to * 5),
  })
  const seen = (...parts: readonly Features[]) => {
    const statistics = new FeatureStatistics(5)
    for (const each of parts) statistics.add(each)
    return statistics
  }
  const whole = seen(features)
  assert.is(whole.count, 2500)
  close(whole.mean, mean, 1e-14)
  close(whole.covariance().data, covariance, 1e-12)
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(2500), { minLength: 1, maxLength: 5 }), fc.nat(999), (cuts, seed) => {
      const ends = [0, ...cuts.sort((a, b) => a - b), 2500]
      const parts = ends.slice(1).map((to, i) => part(ends[i], to))
      const order = Array.from(rng(seed).permutationArray(parts.length), i => parts[i])
      const merged = new FeatureStatistics(5)
      for (const each of order) merged.merge(FeatureStatistics.from(seen(each).state()))
      // To the last bit, whatever the cuts and the order.
      for (const statistics of [seen(...order), merged]) assert.equal(statistics.state(), whole.state())
    }),
    { numRuns: 10 },
  )
  assert.throws(() => new FeatureStatistics(5).covariance(), /at least 2 features, got 0/)
  assert.throws(() => new FeatureStatistics(4).add(features), /expected features of 4 numbers, got 5/)
  assert.throws(() => new FeatureStatistics(4).merge(new FeatureStatistics(5)), /expected features of 4 numbers, got 5/)
  const broken = { shape: [2, 2], data: [1, 2, 3, Number.NaN] }
  assert.throws(() => new FeatureStatistics(2).add(broken), /expected finite features, got NaN at \[1, 1\]/)
  const large = { shape: [1, 2], data: [1, -40_000] }
  assert.throws(() => new FeatureStatistics(2).add(large), /expected features below 32768, got -40000 at \[0, 1\]/)
  const many = { shape: [100, 2], data: new Float64Array(200).fill(30_000) }
  assert.throws(() => new FeatureStatistics(2).add(many), /expected features whose squares add up to at most 2\^36/)
  assert.throws(() => FeatureStatistics.from({ ...whole.state(), sums: new Float64Array(8) }), /expected 20 products/)
  assert.throws(() => new FeatureStatistics(4).add({ shape: [2, 2, 2], data: [] }), /expected features \[N, D\], got/)
})

test('a covariance far below the squares of the mean keeps its digits', () => {
  // In plain f64 nothing would be left of it. Its unit, 2⁻²⁴, is a whole number of those that are kept.
  const data = Float64Array.from({ length: 60 }, (_, i) => 1000 + ((i * i) % 17) * 2 ** -24)
  const { data: covariance } = featureGaussian({ shape: [30, 2], data }).covariance
  const columns = [0, 1].map(c => Array.from({ length: 30 }, (_, n) => (2 * n + c) ** 2 % 17))
  const means = columns.map(column => column.reduce((sum, x) => sum + x, 0) / 30)
  const wanted = [0, 1].flatMap(i =>
    [0, 1].map(j => columns[i].reduce((sum, x, n) => sum + (x - means[i]) * (columns[j][n] - means[j]), 0) / 29),
  )
  close(
    covariance.map(x => x * 2 ** 48),
    wanted,
    1e-13,
  )
})

// ---- Fréchet distance -----------------------------------------------------------------------------------------------

function diagonalGaussian(mean: readonly number[], variances: readonly number[]): FeatureGaussian {
  const D = mean.length
  const data = new Float64Array(D * D)
  for (const [i, v] of variances.entries()) data[i * (D + 1)] = v
  return { mean, covariance: { rows: D, columns: D, data } }
}

test('Fréchet distance: independent features', () => {
  const positive = fc.double({ min: 0, max: 100, noNaN: true })
  const dimension = fc.record({ m1: positive, m2: positive, v1: positive, v2: positive })
  fc.assert(
    fc.property(fc.array(dimension, { minLength: 1, maxLength: 8 }), rows => {
      const [a, b] = ([1, 2] as const).map(i =>
        diagonalGaussian(
          rows.map(row => row[`m${i}`]),
          rows.map(row => row[`v${i}`]),
        ),
      )
      // Where a variance is within rounding of 0 the root of that rounding remains.
      const wanted = rows.reduce((s, r) => s + (r.m1 - r.m2) ** 2 + (Math.sqrt(r.v1) - Math.sqrt(r.v2)) ** 2, 0)
      assert.ok(Math.abs(frechetDistance(a, b) - wanted) < 1e-4, `${frechetDistance(a, b)} for ${wanted}`)
    }),
    // Variances whose products are below what f64 can invert.
    {
      examples: [
        [
          [
            { m1: 0, m2: 0, v1: 0, v2: 3e-16 },
            { m1: 0, m2: 0, v1: 5e-324, v2: 0.5 },
            { m1: 0, m2: 0, v1: 5e-324, v2: 0 },
          ],
        ],
      ],
    },
  )
  const [a, b] = [diagonalGaussian([1, 2, 3], [4, 9, 1]), diagonalGaussian([0, 2, 5], [1, 16, 0.25])]
  close([frechetDistance(a, b)], [1 + 4 + 1 + 1 + 0.25], 1e-14)
})

test('Fréchet distance: symmetric, zero of a set with itself, the same in turned axes, and in two batches', () => {
  const D = 24
  const [x, y] = [randomFeatures(200, D, 11), randomFeatures(150, D, 12, 0.3)]
  const [a, b] = [featureGaussian(x), featureGaussian(y)]
  const distance = frechetDistance(a, b)
  assert.ok(distance > 1)
  close([frechetDistance(b, a), frechetDistance(a, a) + 1], [distance, 1], 1e-12)
  const q = orthogonal(D, 13)
  const turned = ({ mean, covariance }: FeatureGaussian): FeatureGaussian => ({
    mean: timesTransposed({ rows: 1, columns: D, data: Float64Array.from(mean) }, q).data,
    covariance: timesTransposed(q, timesTransposed(q, covariance)), // Q (Q S)ᵀ
  })
  close([frechetDistance(turned(a), turned(b))], [distance], 1e-12)
  assert.throws(() => frechetDistance(a, diagonalGaussian([0], [1])), /expected means \[24\].*got sizes 1/)
})

test('Fréchet distance: fewer pictures than features, against singular values of the features themselves', () => {
  for (const [N1, N2, D] of [
    [120, 8, 16],
    [10, 12, 40],
    [30, 200, 64],
  ]) {
    const [x, y] = [randomFeatures(N1, D, N1), randomFeatures(N2, D, N2 + 1, 0.5)]
    const [a, b] = [featureGaussian(x), featureGaussian(y)]
    // Σ = XᵀX with centred rows over √(N − 1): tr (Σ₁Σ₂)^½ is the sum of singular values of X₁ X₂ᵀ.
    const rows = ({ data, shape: [N] }: Features, { mean }: FeatureGaussian): Matrix => ({
      rows: N,
      columns: D,
      data: Float64Array.from(data, (v, i) => (v - mean[i % D]) / Math.sqrt(N - 1)),
    })
    const [X, Y] = [rows(x, a), rows(y, b)]
    const squares = (data: Float64Array) => data.reduce((s, v) => s + v * v, 0)
    const between = squares(Float64Array.from(a.mean, (m, i) => m - b.mean[i]))
    const wanted = between + squares(X.data) + squares(Y.data) - 2 * singularValueSum(timesTransposed(X, Y))
    close([frechetDistance(a, b) / wanted], [1], 1e-9, `${N1}, ${N2} of ${D}`)
  }
})

// ---- inception score ------------------------------------------------------------------------------------------------

test('inception score: between 1, where all pictures look alike, and the number of classes', () => {
  const K = 7
  const same = { shape: [20, K], data: Array.from({ length: 20 * K }, (_, i) => i % K) }
  close([inceptionScore(same)], [1], 1e-13)
  const sure = {
    shape: [21, K],
    data: Array.from({ length: 21 * K }, (_, i) => (Math.floor(i / K) % K === i % K ? 1e4 : 0)),
  }
  close([inceptionScore(sure)], [K], 1e-12)
  close([inceptionScore(sure, 1)], [1], 1e-13) // one picture at a time
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 9 }), fc.nat(999), (N, classes, seed) => {
      const score = inceptionScore(randomFeatures(N, classes, seed))
      assert.ok(score >= 1 - 1e-12 && score <= classes + 1e-12, String(score))
    }),
  )
})

test('inception score: the definition, in splits of which the last is shorter', () => {
  const [N, K, split] = [23, 5, 9]
  const { data, shape } = randomFeatures(N, K, 4)
  const p = Array.from({ length: N }, (_, n) => {
    const e = Array.from({ length: K }, (_, y) => Math.exp(data[n * K + y]))
    return e.map(x => x / e.reduce((s, v) => s + v, 0))
  })
  const scores = [0, 9, 18].map(from => {
    const part = p.slice(from, from + split)
    const marginal = Array.from({ length: K }, (_, y) => part.reduce((s, row) => s + row[y], 0) / part.length)
    const kl = part.map(row => row.reduce((s, x, y) => s + x * Math.log(x / marginal[y]), 0))
    return Math.exp(kl.reduce((s, x) => s + x, 0) / part.length)
  })
  close([inceptionScore({ data, shape }, split)], [scores.reduce((s, x) => s + x, 0) / 3], 1e-13)
  assert.throws(() => inceptionScore({ data, shape }, 0), /a split of 1 picture or more, got 0/)
})

// ---- precision and recall -------------------------------------------------------------------------------------------

test('radii on a line', () => {
  const line = { shape: [6, 1], data: [0, 1, 3, 7, 7, 20] }
  assert.equal([...manifoldRadii(line, 1)], [1, 1, 4, 0, 0, 169])
  assert.equal([...manifoldRadii(line, 3)], [49, 36, 16, 36, 36, 289])
  assert.throws(() => manifoldRadii(line, 6), /expected k in \[1, 5\] for 6 features, got 6/)
  assert.throws(() => manifoldRadii(line, 0), RangeError)
})

test('precision and recall: the definition', () => {
  fc.assert(
    fc.property(
      fc.record({
        M: fc.integer({ min: 5, max: 150 }),
        N: fc.integer({ min: 5, max: 150 }),
        D: fc.integer({ min: 1, max: 6 }),
        k: fc.integer({ min: 1, max: 4 }),
        seed: fc.nat(9999),
      }),
      ({ M, N, D, k, seed }) => {
        const [ref, sample] = [randomFeatures(M, D, seed), randomFeatures(N, D, seed + 1, 0.5)]
        const squared = (a: Features, i: number, b: Features, j: number) => {
          let sum = 0
          for (let d = 0; d < D; d++) sum += (a.data[i * D + d] - b.data[j * D + d]) ** 2
          return sum
        }
        const radii = (x: Features) =>
          Array.from({ length: x.shape[0] }, (_, i) => {
            const all = Array.from({ length: x.shape[0] }, (_, j) => squared(x, i, x, j))
            return all.sort((a, b) => a - b)[k]
          })
        close(manifoldRadii(ref, k), radii(ref), 1e-6)
        const covers = (x: Features, y: Features) => {
          const r = radii(x)
          let inside = 0
          for (let j = 0; j < y.shape[0]; j++) if (r.some((limit, i) => squared(y, j, x, i) <= limit)) inside++
          return inside / y.shape[0]
        }
        assert.equal(precisionRecall(ref, sample, k), { precision: covers(ref, sample), recall: covers(sample, ref) })
      },
    ),
    { numRuns: 20, seed: 5 },
  )
})

test('precision and recall look at three neighbours unless they are told to', () => {
  const [a, b] = [randomFeatures(40, 3, 1), randomFeatures(40, 3, 2)]
  assert.equal(precisionRecall(a, b), precisionRecall(a, b, 3))
  for (const k of [2, 4]) assert.not.equal(precisionRecall(a, b), precisionRecall(a, b, k))
})

test('precision and recall: the same set, and sets far apart', () => {
  const [near, far] = [randomFeatures(40, 8, 1), randomFeatures(30, 8, 2, 1000)]
  assert.equal(precisionRecall(near, near), { precision: 1, recall: 1 })
  assert.equal(precisionRecall(near, far), { precision: 0, recall: 0 })
  assert.throws(() => precisionRecall(near, randomFeatures(30, 7, 2)), /expected features of 8 numbers, got 7/)
  for (const shape of [
    [0, 8],
    [30, 0],
  ])
    assert.throws(() => precisionRecall(near, { shape, data: [] }), /expected features \[N, D\], got/)
})

test.run()
