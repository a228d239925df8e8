/**
 * The sum of a matrix's singular values (its nuclear norm): reflections make it bidiagonal, and the singular values of a
 * bidiagonal matrix are the eigenvalues, each with both signs, of a tridiagonal one. Values only, no vectors. Each is
 * within a few roundings of the largest, where a detour through the square of the matrix would lose half of the digits.
 */

import type { Doubles } from '../core/doubles.ts'
import { atCaller } from '../core/traceback.ts'
import { doubles } from './doubles.ts'
import { type Matrix, roomFor, transposed } from './matrix.ts'

/** Σ σᵢ of a (M, N). Throws RangeError on elements that are not finite. */
export function singularValueSum(a: Matrix): number {
  const { diagonal, above } = bidiagonal(a.rows >= a.columns ? a : transposed(a))
  const n = diagonal.length
  const e = new Float64Array(2 * n)
  for (let i = 0; i < n; i++) {
    e[2 * i] = diagonal[i]
    e[2 * i + 1] = i + 1 < n ? above[i] : 0
  }
  // diag(0) beside d₀ e₀ d₁ e₁ …: the eigenvalues are ±σᵢ. [Golub-Kahan]
  return eigenvalues(new Float64Array(2 * n), e).reduce((sum, x) => sum + Math.abs(x) / 2, 0)
}

/** Columns that are reflected before the rest of the matrix follows. */
const block = 16

/**
 * A bidiagonal matrix with the singular values of a (M, N), M ≥ N, by reflections from both sides in turn; `above` is
 * what stands right of the diagonal. [Golub-Kahan] Of a block of reflections the matrix sees nothing until they are all
 * known: A − V Yᵀ − X Uᵀ is then one product, and in between it is only multiplied with vectors, twice a column. [Dongarra]
 */
function bidiagonal({ rows: M, columns: N, data }: Matrix): { diagonal: Float64Array; above: Float64Array } {
  const kernels = doubles()
  const stride = roomFor(N)
  const A = kernels.alloc(roomFor(M) * stride)
  const [v, x] = [kernels.alloc(M), kernels.alloc(M)]
  const [u, y] = [kernels.alloc(N), kernels.alloc(N)]
  try {
    for (let i = 0; i < M; i++) A.set(data.subarray(i * N, (i + 1) * N), i * stride)
    const diagonal = new Float64Array(N)
    const above = new Float64Array(Math.max(N - 1, 0))
    for (let from = 0; from < N; from += block) {
      const pairs = new Pairs(M, N)
      const to = Math.min(from + block, N)
      for (let k = from; k < to; k++) {
        // v is the reflection of column k, and y what it does to the columns behind.
        for (let i = k; i < M; i++) v[i] = A[i * stride + k]
        pairs.subtractColumn(k, v)
        const left = reflection(v, k, M)
        diagonal[k] = left.image
        if (k + 1 === N) break
        const behind = N - k - 1
        kernels.multiplyTransposed(A.subarray(k * stride + k + 1), stride, [M - k, behind], v.subarray(k), y)
        y.copyWithin(k + 1, 0, behind)
        pairs.subtractTransposed(k, v, y)
        for (let j = k + 1; j < N; j++) y[j] *= left.scale
        pairs.addLeft(v, y, k)
        // u is the reflection of what is then row k, and x what it does to the rows below.
        for (let j = k + 1; j < N; j++) u[j] = A[k * stride + j]
        pairs.subtractRow(k, u)
        const right = reflection(u, k + 1, N)
        above[k] = right.image
        const below = M - k - 1
        kernels.multiply(A.subarray((k + 1) * stride + k + 1), stride, [below, behind], u.subarray(k + 1), x)
        x.copyWithin(k + 1, 0, below)
        pairs.subtractProduct(k, u, x)
        for (let i = k + 1; i < M; i++) x[i] *= right.scale
        pairs.addRight(x, u, k)
      }
      if (to < N) pairs.subtractFrom(kernels, A, stride, to)
    }
    return { diagonal, above }
  } finally {
    for (const array of [A, v, x, u, y]) kernels.free(array)
  }
}

/** Update that a block of reflections subtracts from a matrix (M, N): Σ cᵢ rᵢᵀ, columns v and x, rows y and u. */
class Pairs {
  readonly #columns: Float64Array[] = []
  readonly #rows: Float64Array[] = []
  readonly #M: number
  readonly #N: number

  constructor(M: number, N: number) {
    this.#M = M
    this.#N = N
  }

  /** v yᵀ; before row k, and column k + 1, both are 0. */
  addLeft(v: Float64Array, y: Float64Array, k: number): void {
    this.#columns.push(v.slice().fill(0, 0, k))
    this.#rows.push(y.slice().fill(0, 0, k + 1))
  }

  /** x uᵀ; both are 0 up to k. */
  addRight(x: Float64Array, u: Float64Array, k: number): void {
    this.#columns.push(x.slice().fill(0, 0, k + 1))
    this.#rows.push(u.slice().fill(0, 0, k + 1))
  }

  /** Column k, from row k on, as it would be. */
  subtractColumn(k: number, column: Float64Array): void {
    for (const [p, c] of this.#columns.entries()) subtract(column, this.#rows[p][k], c, k)
  }

  /** Row k, from column k + 1 on. */
  subtractRow(k: number, row: Float64Array): void {
    for (const [p, r] of this.#rows.entries()) subtract(row, this.#columns[p][k], r, k + 1)
  }

  /** y = Aᵀ v, from column k + 1 on, for v that begins at row k. */
  subtractTransposed(k: number, v: Float64Array, y: Float64Array): void {
    for (const [p, r] of this.#rows.entries()) subtract(y, product(this.#columns[p], v, k), r, k + 1)
  }

  /** x = A u, from row k + 1 on, for u that begins at column k + 1. */
  subtractProduct(k: number, u: Float64Array, x: Float64Array): void {
    for (const [p, c] of this.#columns.entries()) subtract(x, product(this.#rows[p], u, k + 1), c, k + 1)
  }

  /** The rows and columns of A from `to` on, as they are. */
  subtractFrom(kernels: Doubles, A: Float64Array, stride: number, to: number): void {
    const [M, N, K] = [this.#M - to, this.#N - to, this.#columns.length]
    const side = (vectors: readonly Float64Array[], length: number) => {
      const packed = new Float64Array(length * K)
      vectors.forEach((vector, p) => {
        for (let i = 0; i < length; i++) packed[i * K + p] = vector[to + i]
      })
      return packed // (length, K)
    }
    const place = A.subarray(to * stride + to)
    kernels.addProduct(place, stride, side(this.#columns, M), side(this.#rows, N), [M, N, K], { sign: -1 })
  }
}

/** x ← x − factor · y, from `from` on. */
function subtract(x: Float64Array, factor: number, y: Float64Array, from: number): void {
  for (let i = from; i < x.length; i++) x[i] -= factor * y[i]
}

/** xᵀ y, from `from` on, in two sums that do not wait for each other. */
function product(x: Float64Array, y: Float64Array, from: number): number {
  let [even, odd] = [0, 0]
  let i = from
  for (; i + 1 < x.length; i += 2) {
    even += x[i] * y[i]
    odd += x[i + 1] * y[i + 1]
  }
  return i < x.length ? even + odd + x[i] * y[i] : even + odd
}

/**
 * The reflection 1 − scale · v vᵀ that maps x[from, to) onto `image` times the first unit vector; v takes the place of x.
 */
function reflection(x: Float64Array, from: number, to: number): { scale: number; image: number } {
  let squares = 0
  for (let i = from; i < to; i++) squares += x[i] * x[i]
  if (squares < 2 ** -1000) return { scale: 0, image: 0 } // where 1 / squares may overflow
  const length = Math.sqrt(squares)
  const image = x[from] > 0 ? -length : length
  const scale = 1 / (length * (length + Math.abs(x[from])))
  x[from] -= image
  return { scale, image }
}

/**
 * Eigenvalues, in no order, of the symmetric tridiagonal matrix with this diagonal d and e[i] beside d[i] and d[i + 1];
 * both are used up. Implicit QL steps with Wilkinson's shift. [QL]
 */
function eigenvalues(d: Float64Array, e: Float64Array): Float64Array {
  const n = d.length
  const largest = e.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  if (!Number.isFinite(largest))
    throw atCaller(new RangeError(`singularValueSum: expected finite elements, got ${largest}`))
  const nothing = Number.EPSILON * largest
  for (let first = 0; first < n; first++) {
    for (let step = 0; ; step++) {
      let last = first
      while (last + 1 < n && Math.abs(e[last]) > nothing) last++
      if (last === first) break
      if (step === 100)
        throw atCaller(
          new Error(`singularValueSum: expected convergence within 100 steps, got e[${first}] = ${e[first]}`),
        )
      shiftedStep(d, e, first, last)
    }
  }
  return d
}

/** One step on rows first … last, which no zero of e separates: rotations from the last row up to the first. */
function shiftedStep(d: Float64Array, e: Float64Array, first: number, last: number): void {
  const half = (d[first + 1] - d[first]) / (2 * e[first])
  const root = Math.sqrt(half * half + 1)
  let g = d[last] - d[first] + e[first] / (half + (half < 0 ? -root : root))
  let [s, c, p] = [1, 1, 0]
  for (let i = last - 1; i >= first; i--) {
    const [f, b] = [s * e[i], c * e[i]]
    const r = Math.sqrt(f * f + g * g)
    e[i + 1] = r
    if (r === 0) {
      // The matrix falls apart here.
      d[i + 1] -= p
      e[last] = 0
      return
    }
    s = f / r
    c = g / r
    g = d[i + 1] - p
    const t = (d[i] - g) * s + 2 * c * b
    p = s * t
    d[i + 1] = g + p
    g = c * t - b
  }
  d[first] -= p
  e[first] = g
  e[last] = 0
}
