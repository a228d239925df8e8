/**
 * The plain loops for linear algebra in f64: the specification of core/doubles.ts, and the fallback where a backend has no
 * faster kernels.
 */

import { defaultBackend } from '../core/default-backend.ts'
import { type Doubles, type ExactSums, exactRows } from '../core/doubles.ts'

/** Returns the kernels of the default backend, or else the plain loops. */
export function doubles(): Doubles {
  return defaultBackend().doubles ?? plainDoubles
}

/** Plain loops: the reference for other implementations. */
export const plainDoubles: Doubles = {
  alloc: length => new Float64Array(length),
  free() {},

  addProduct(c, stride, a, b, [M, N, K], { sign = 1, upper = false } = {}) {
    for (let i = 0; i < M; i++)
      for (let j = upper ? i : 0; j < N; j++) {
        let sum = 0
        for (let k = 0; k < K; k++) sum += a[i * K + k] * b[j * K + k]
        c[i * stride + j] += sign * sum
      }
  },

  multiply(A, stride, [M, N], x, y) {
    for (let i = 0; i < M; i++) {
      let sum = 0
      for (let j = 0; j < N; j++) sum += A[i * stride + j] * x[j]
      y[i] = sum
    }
  },

  multiplyTransposed(A, stride, [M, N], x, y) {
    y.fill(0, 0, N)
    for (let i = 0; i < M; i++) for (let j = 0; j < N; j++) y[j] += x[i] * A[i * stride + j]
  },

  addSquares(sums, high, low, [N, D]) {
    for (let from = 0; from < N; from += exactRows)
      for (let i = 0; i < D; i++)
        for (let j = i; j < D; j++) {
          let [hh, hl, ll] = [0, 0, 0]
          for (let n = from; n < Math.min(from + exactRows, N); n++) {
            const [hi, hj, li, lj] = [high[n * D + i], high[n * D + j], low[n * D + i], low[n * D + j]]
            hh += hi * hj
            hl += hi * lj + li * hj
            ll += li * lj
          }
          // 2⁴⁸ hh + 2²⁴ hl + ll: the upper bits of hl go to the high sum, the others to the low one.
          const carried = Math.round(hl / 2 ** 24)
          addExact(sums, i * sums.stride + j, hh + carried, ll + (hl - carried * 2 ** 24) * 2 ** 24)
        }
  },
}

/** Adds high · 2⁴⁸ + low, |low| ≤ 2⁵³ − 2⁴⁷, to one sum. */
export function addExact(sums: ExactSums, at: number, high: number, low: number): void {
  const all = sums.low[at] + low
  const carried = Math.round(all / 2 ** 48)
  sums.low[at] = all - carried * 2 ** 48
  sums.high[at] += high + carried
}
