/**
 * The f64 kernels that evaluation runs on, wasm beside the plain loops: whole sums to the last bit, the rest closely; and
 * what is made of them, on both. Needs Node.
 */

import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { setDefaultBackend } from '../../core/default-backend.ts'
import { cpu, type Doubles, rng } from '../../core/index.ts'
import { plainDoubles } from '../../evaluation/doubles.ts'
import { FeatureStatistics, frechetDistance, precisionRecall } from '../../evaluation/index.ts'
import { singularValueSum } from '../../evaluation/singular-values.ts'
import { close } from '../near.ts'

const wasm = await createWasm({ threads: 2 })
test.after(() => wasm.dispose())
const both: readonly Doubles[] = [plainDoubles, wasm.doubles!]

/** Results of `run` with plain loops and with wasm; frees all memory it took. */
function onBoth<T>(run: (kernels: Doubles, made: (values: ArrayLike<number>) => Float64Array) => T): [T, T] {
  const [plain, fast] = both.map(kernels => {
    const arrays: Float64Array[] = []
    const made = (values: ArrayLike<number>) => {
      const array = kernels.alloc(values.length)
      array.set(values)
      arrays.push(array)
      return array
    }
    const result = run(kernels, made)
    for (const array of arrays) kernels.free(array)
    return result
  })
  return [plain, fast]
}

const normal = (n: number, seed: number) => Float64Array.from(rng(seed).normalArray(n))
const size = fc.integer({ min: 1, max: 21 })

test('products, with matrices and with vectors, inside larger matrices', () => {
  fc.assert(
    fc.property(size, size, fc.integer({ min: 1, max: 40 }), fc.nat(999), (M, N, K, seed) => {
      const room = (n: number) => 4 * Math.ceil(n / 4)
      const stride = room(N) + 4
      for (const sign of [1, -1] as const) {
        const [plain, fast] = onBoth((kernels, made) => {
          const c = made(normal((room(M) + 1) * stride, seed))
          const [a, b] = [normal(M * K, seed + 1), normal(N * K, seed + 2)]
          kernels.addProduct(c.subarray(stride + 3), stride, a, b, [M, N, K], { sign })
          return Array.from({ length: M * N }, (_, n) => c[(1 + Math.floor(n / N)) * stride + 3 + (n % N)])
        })
        close(fast, plain, 1e-13)
      }
      const [plain, fast] = onBoth((kernels, made) => {
        const A = made(normal(M * (N + 3), seed))
        const [x, y, z] = [made(normal(N, seed + 1)), made(normal(M, seed + 2)), made(normal(N, seed + 3))]
        kernels.multiply(A.subarray(2), N + 3, [M, N], x, y)
        kernels.multiplyTransposed(A.subarray(2), N + 3, [M, N], y, z)
        return [...y, ...z]
      })
      close(fast, plain, 1e-12)
    }),
    { numRuns: 50 },
  )
  // Several chunks and panels.
  const [M, N, K] = [150, 141, 2050]
  const [a, b] = [normal(M * K, 1), normal(N * K, 2)]
  const [plain, fast] = onBoth((kernels, made) => {
    const c = made(new Float64Array(152 * 144))
    kernels.addProduct(c, 144, a, b, [M, N, K])
    return [0, 140, 149 * 144, 149 * 144 + 140, 77 * 144 + 33].map(at => c[at])
  })
  close(fast, plain, 1e-11)
  const [slow, quick] = onBoth((kernels, made) => {
    const [x, y] = [made(normal(M, 3)), made(new Float64Array(K))]
    kernels.multiplyTransposed(made(a), K, [M, K], x, y)
    return [...y]
  })
  close(quick, slow, 1e-12)
})

test('whole sums: the same bits, and those of arithmetic without end', () => {
  const [N, D] = [700, 7]
  // The largest digits there are, among others.
  const digits = (seed: number) =>
    Float64Array.from(rng(seed).integersArray(-(2 ** 23), 2 ** 23 + 1, N * D), (x, i) => (i % 3 === 0 ? 2 ** 23 : x))
  const [high, low] = [digits(1).map(x => Math.round(x / 64)), digits(2)]
  const results = onBoth((kernels, made) => {
    const sums = { high: made(new Float64Array(64)), low: made(new Float64Array(64)), stride: 8 }
    kernels.addSquares(sums, high, low, [N - 300, D])
    kernels.addSquares(sums, high.subarray((N - 300) * D), low.subarray((N - 300) * D), [300, D])
    return [...sums.high, ...sums.low]
  })
  const value = (result: readonly number[], at: number) => (BigInt(result[at]) << 48n) + BigInt(result[64 + at])
  for (let i = 0; i < D; i++)
    for (let j = i; j < D; j++) {
      let wanted = 0n
      for (let n = 0; n < N; n++) {
        const [x, y] = [i, j].map(d => (BigInt(high[n * D + d]) << 24n) + BigInt(low[n * D + d]))
        wanted += x * y
      }
      for (const result of results) assert.is(value(result, i * 8 + j), wanted)
      assert.ok(Math.abs(results[1][64 + i * 8 + j]) <= 2 ** 47)
    }
})

test('distances, singular values, precision and recall are the same with either', () => {
  const features = (N: number, D: number, seed: number, shift: number) => ({
    shape: [N, D],
    data: rng(seed)
      .normalArray(N * D)
      .map(x => x + shift),
  })
  const [x, y] = [features(150, 70, 1, 0), features(60, 70, 2, 0.3)]
  const matrix = { rows: 75, columns: 51, data: normal(75 * 51, 3) }
  const before = wasm.runtime.memory.used
  const [plain, fast] = [cpu, wasm].map(backend => {
    setDefaultBackend(backend)
    const [a, b] = [x, y].map(each => {
      const statistics = new FeatureStatistics(70)
      statistics.add(each)
      return statistics
    })
    const { precision, recall } = precisionRecall(x, y)
    const distance = frechetDistance(a.gaussian(), b.gaussian())
    return { bits: a.state(), rest: [distance, singularValueSum(matrix), precision, recall] }
  })
  assert.equal(fast.bits, plain.bits)
  close(fast.rest, plain.rest, 1e-11)
  assert.is(wasm.runtime.memory.used, before)
})

test.run()
