/** Philox against its published vectors, and the distributions built on it: moments, Kolmogorov-Smirnov, tails. */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { normalOfWord, philox, Rng, rng } from '../../core/random.ts'

const hex = (words: Uint32Array) => Array.from(words, word => word.toString(16).padStart(8, '0')).join(' ')

/** The largest distance between the empirical distribution of `sample` and `cdf`, times √n. Under 1.95 in 99.9 %. */
function kolmogorovSmirnov(sample: ArrayLike<number>, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(sample).sort()
  let worst = 0
  for (let i = 0; i < sorted.length; i++) {
    const p = cdf(sorted[i])
    worst = Math.max(worst, p - i / sorted.length, (i + 1) / sorted.length - p)
  }
  return worst * Math.sqrt(sorted.length)
}

/** Φ(z) to about 1e-15: the Taylor series of the integral near 0, a continued fraction for the tails. */
function normalCdf(z: number): number {
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)
  if (Math.abs(z) < 1.5) {
    let term = z
    let sum = z
    for (let k = 3; Math.abs(term) > 1e-18; k += 2) sum += term *= (z * z) / k
    return 0.5 + density * sum
  }
  let fraction = 0
  for (let k = 200; k > 0; k--) fraction = k / (Math.abs(z) + fraction)
  const tail = density / (Math.abs(z) + fraction)
  return z < 0 ? tail : 1 - tail
}

test('Philox 4x32-10 gives the known answers of Random123', () => {
  const ones = 0xffffffff
  assert.is(hex(philox([0, 0], [0, 0, 0, 0], 1)), '6627e8d5 e169c58d bc57ac4c 9b00dbd8')
  assert.is(hex(philox([ones, ones], [ones, ones, ones, ones], 1)), '408f276d 41c83b0e a20bc7c6 6d5451fd')
  const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344] as const
  assert.is(hex(philox([0xa4093822, 0x299f31d0], pi, 1)), 'd16cfe09 94fdcceb 5001e420 24126ea1')
})

test('the counter carries into its second word', () => {
  const across = philox([1, 2], [0xffffffff, 6, 8, 9], 2)
  assert.equal(across.slice(4), philox([1, 2], [0, 7, 8, 9], 1))
  const stream = new Rng({ seed: 5, key: [0, 0], counter: 2 ** 32 - 1 })
  stream.words(4)
  assert.equal(stream.words(4), philox([5, 0], [0, 1, 0, 0], 1))
})

test('draws are fixed forever: these come from an independent implementation', () => {
  const seed = 2 ** 40 + 7
  const stream = rng(seed)
  assert.is(hex(stream.words(2)), '33f7def9 f4ef4e99')
  assert.equal(Array.from(stream.uniformArray(2)), [0.3672235608100891, 0.5309205651283264])
  const normal = [-0.5334267329609285, 1.2059743476849167, 0.08768620084172336] // Python's NormalDist().inv_cdf
  assert.equal(stream.normalArray(3), Float32Array.from(normal))
  assert.equal(Array.from(stream.integersArray(-5, 5, 6)), [-5, -1, -3, -5, -3, -5])
  assert.equal(Array.from(stream.permutationArray(6)), [4, 1, 2, 5, 3, 0])
  assert.equal(stream.fork('noise').state(), { seed, key: [209338623, 62090740], counter: 0 })
  assert.equal(stream.fork(3).state(), { seed, key: [268481654, 2041164428], counter: 0 })
})

test('a stream restored from its state, through JSON, goes on with the same numbers', () => {
  const draw = fc.constantFrom('uniformArray', 'normalArray', 'permutationArray', 'words')
  const draws = fc.array(fc.tuple(draw, fc.nat(20)), { maxLength: 6 })
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.string(), draws, draws, (seed, name, before, after) => {
      const stream = rng(seed).fork(name)
      for (const [kind, n] of before) stream[kind](n)
      const copy = rng(0)
      copy.restore(JSON.parse(JSON.stringify(stream.state())))
      for (const [kind, n] of after) assert.equal(copy[kind](n), stream[kind](n))
      assert.equal(copy.state(), stream.state())
    }),
  )
})

test('forks depend on seed and names, not on what was drawn, and differ from each other', () => {
  const stream = rng(1)
  const before = stream.fork('a').words(8)
  stream.normalArray(100)
  assert.equal(stream.fork('a').words(8), before)
  const names = ['', 'a', 'b', 'ab', 'ba', '0', '1', '\u0000', 0, 1, 2, 97, 2 ** 32, 2 ** 53 - 1]
  const streams = [stream, ...names.map(name => stream.fork(name)), stream.fork('a').fork('b'), rng(2).fork('a')]
  const first = streams.map(each => new Rng({ ...each.state(), counter: 0 }).words(2).join())
  assert.is(new Set(first).size, streams.length)
})

test('uniform numbers lie in [0, 1) and are uniform', () => {
  const sample = rng(11).uniformArray(200_000)
  assert.ok(sample.every(u => u >= 0 && u < 1))
  const distance = kolmogorovSmirnov(sample, u => u)
  assert.ok(distance < 1.95, `Kolmogorov-Smirnov ${distance}`)
})

test('normal numbers have the moments and the distribution of N(0, 1), neighbours uncorrelated', () => {
  const n = 1_000_000
  const z = rng(12).normalArray(n)
  const mean = (f: (x: number, i: number) => number) => z.reduce((sum, x, i) => sum + f(x, i), 0) / n
  // Each bound is four standard errors: Var z^k = (2k − 1)!! − (E z^k)².
  const within = (name: string, got: number, want: number, variance: number) =>
    assert.ok(Math.abs(got - want) < 4 * Math.sqrt(variance / n), `${name}: ${got}`)
  within(
    'mean',
    mean(x => x),
    0,
    1,
  )
  within(
    'second moment',
    mean(x => x ** 2),
    1,
    2,
  )
  within(
    'third moment',
    mean(x => x ** 3),
    0,
    15,
  )
  within(
    'fourth moment',
    mean(x => x ** 4),
    3,
    96,
  )
  within(
    'sixth moment',
    mean(x => x ** 6),
    15,
    10395 - 225,
  )
  for (const lag of [1, 2, 3, 4])
    within(
      `lag ${lag}`,
      mean((x, i) => x * z[(i + lag) % n]),
      0,
      1,
    )
  const distance = kolmogorovSmirnov(z.subarray(0, 200_000), normalCdf)
  assert.ok(distance < 1.95, `Kolmogorov-Smirnov ${distance}`)
  const beyond = (k: number) => z.reduce((count, x) => count + (Math.abs(x) > k ? 1 : 0), 0)
  for (const k of [2, 3, 4]) {
    const expected = 2 * n * normalCdf(-k)
    assert.ok(Math.abs(beyond(k) - expected) < 4 * Math.sqrt(expected), `beyond ${k}: ${beyond(k)}, ${expected}`)
  }
})

test('a normal number is Φ⁻¹ of its word to 1e-14, out to 6.3 sigma on both sides', () => {
  const error = (word: number) => {
    const z = normalOfWord(word)
    assert.is(Math.sign(z), word < 0x80000000 ? -1 : 1)
    assert.is(normalOfWord(0xffffffff - word), -z)
    // dΦ = φ dz: the error of Φ over the density is the error of z.
    const p = Math.min(word + 0.5, 0x100000000 - word - 0.5) / 0x100000000
    const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)
    return Math.abs(normalCdf(-Math.abs(z)) - p) / density
  }
  assert.ok(Math.abs(normalOfWord(0) + 6.337957754553789) < 1e-14)
  let worst = 0
  for (let word = 0; word < 5000; word++) worst = Math.max(worst, error(word))
  for (let word = 0; word < 0x100000000; word += 99991) worst = Math.max(worst, error(word))
  assert.ok(worst < 1e-14, `error ${worst}`)
})

test('integers cover [low, high) evenly, and permutations are permutations', () => {
  const counts = new Array(7).fill(0)
  for (const k of rng(4).integersArray(-3, 4, 70_000)) counts[k + 3]++
  const chiSquare = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)
  assert.ok(chiSquare < 22.5, `χ² ${chiSquare}`) // 6 degrees of freedom, 99.9 %
  fc.assert(
    fc.property(fc.integer(), fc.integer(), fc.nat(), (a, b, seed) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b) + 1]
      assert.ok(
        rng(seed)
          .integersArray(low, high, 20)
          .every(k => k >= low && k < high),
      )
    }),
  )
  fc.assert(
    fc.property(fc.nat(300), fc.nat(), (n, seed) => {
      const order = rng(seed).permutationArray(n)
      assert.equal(
        Array.from(order).sort((a, b) => a - b),
        Array.from({ length: n }, (_, i) => i),
      )
    }),
  )
  const orders = new Map<string, number>()
  for (let seed = 0; seed < 24_000; seed++) {
    const order = rng(seed).permutationArray(4).join('')
    orders.set(order, (orders.get(order) ?? 0) + 1)
  }
  assert.is(orders.size, 24)
  const spread = [...orders.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)
  assert.ok(spread < 49.7, `χ² ${spread}`) // 23 degrees of freedom, 99.9 %
})

test('tensors hold the same draws in every dtype', () => {
  const f32 = rng(9).normal([2, 3])
  const f64 = rng(9).normal([2, 3], { dtype: 'f64' })
  assert.equal(f32.shape, [2, 3])
  assert.is(f64.dtype, 'f64')
  assert.equal(Array.from(f32.dataSync()), Array.from(rng(9).normalArray(6)))
  assert.equal(Array.from(f64.dataSync()), Array.from(f32.dataSync()))
  assert.is(rng(9).integers(0, 10, [4]).dtype, 'i32')
  assert.equal(rng(9).permutation(5).shape, [5])
  for (const each of [f32, f64]) each.dispose()
})

test('bad seeds, states, names and ranges are named', () => {
  assert.throws(() => rng(-1), 'rng: seed: expected an integer in [0, 2^53), got -1')
  assert.throws(() => rng(0.5), /seed/)
  assert.throws(() => rng(0).restore({ seed: 0, key: [0, 2 ** 32], counter: 0 }), /key: expected two 32-bit words/)
  assert.throws(() => rng(0).restore({ seed: 0, key: [0, 0], counter: -1 }), /counter/)
  assert.throws(() => rng(0).fork(-2), /fork: expected an integer/)
  assert.throws(() => rng(0).integersArray(3, 3, 1), /expected low < high/)
})

test.run()
