/**
 * Linear algebra in f64 on the host: the few kernels that evaluation is made of (diffusion/evaluation). Here as plain
 * loops, which say what each means; a backend may bring faster ones as `Backend.doubles`. Matrices are row-major, their
 * rows `stride` elements apart. Arrays that a kernel writes, and matrices that it multiplies, come from `alloc`; sizes
 * need not be multiples of four, but what is written has room up to the next ones, rows and columns alike.
 */

import { defaultBackend } from './default-backend.ts'

/** Sums that are exact: `high` · 2⁴⁸ + `low`, whole numbers, (D, D) with rows `stride` apart; |low| ≤ 2⁴⁷. */
export interface ExactSums {
  readonly high: Float64Array
  readonly low: Float64Array
  readonly stride: number
}

/** The kernels, and memory for what they write. */
export interface Doubles {
  /** Zeros. */
  alloc(length: number): Float64Array
  /** Gives back what `alloc` gave. */
  free(array: Float64Array): void
  /** c ← c + sign · a bᵀ: a (M, K) and b (N, K) anywhere, c (M, N); `upper`: only where column ≥ row matters. */
  addProduct(
    c: Float64Array,
    stride: number,
    a: Float64Array,
    b: Float64Array,
    sizes: readonly [M: number, N: number, K: number],
    options?: { readonly sign?: 1 | -1; readonly upper?: boolean },
  ): void
  /** y (M) ← A x: A (M, N), x (N). */
  multiply(
    A: Float64Array,
    stride: number,
    sizes: readonly [M: number, N: number],
    x: Float64Array,
    y: Float64Array,
  ): void
  /** y (N) ← Aᵀ x: A (M, N), x (M). */
  multiplyTransposed(
    A: Float64Array,
    stride: number,
    sizes: readonly [M: number, N: number],
    x: Float64Array,
    y: Float64Array,
  ): void
  /**
   * sums ← sums + Σₙ xₙ xₙᵀ where column ≥ row, xₙ = 2²⁴ high[n] + low[n] being rows (N, D) of whole numbers, each of at
   * most 2²³ in size. Without rounding, as long as sums.high stays below 2⁵³.
   */
  addSquares(sums: ExactSums, high: Float64Array, low: Float64Array, sizes: readonly [N: number, D: number]): void
}

/** Of so many rows, products of digits of 24 bits add up without rounding, twice over. */
export const exactRows = 64

/** The kernels of the default backend, or these loops. */
export function doubles(): Doubles {
  return defaultBackend().doubles ?? plainDoubles
}

/** Plain loops: what the others are tested against. */
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
