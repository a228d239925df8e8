/**
 * The sum of a matrix's singular values (its nuclear norm): reflections make it bidiagonal, and the singular values of a
 * bidiagonal matrix are the eigenvalues, each with both signs, of a tridiagonal one. Values only, no vectors. Each is
 * within a few roundings of the largest, where a detour through the square of the matrix would lose half of the digits.
 * Next: frechet.ts.
 */

import { type Matrix, transposed } from './matrix.ts'

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

/**
 * A bidiagonal matrix with the singular values of a (M, N), M ≥ N, by reflections from both sides in turn; `above` is
 * what stands right of the diagonal. [Golub-Kahan]
 */
function bidiagonal({ rows: M, columns: N, data }: Matrix): { diagonal: Float64Array; above: Float64Array } {
  const A = Float64Array.from(data)
  const diagonal = new Float64Array(N)
  const above = new Float64Array(Math.max(N - 1, 0))
  const v = new Float64Array(M)
  const w = new Float64Array(N)
  const u = new Float64Array(N)
  for (let k = 0; k < N; k++) {
    // v is the reflection of column k, and w = vᵀA what it does to the columns behind.
    for (let i = k; i < M; i++) v[i] = A[i * N + k]
    const left = reflection(v, k, M)
    diagonal[k] = left.image
    if (k + 1 === N) break
    w.fill(0)
    for (let i = k; i < M; i++) for (let j = k + 1, x = v[i], at = i * N; j < N; j++) w[j] += x * A[at + j]
    // u is the reflection of what is then row k.
    for (let j = k + 1; j < N; j++) u[j] = A[k * N + j] - left.scale * v[k] * w[j]
    const right = reflection(u, k + 1, N)
    above[k] = right.image
    // Both at once, row by row.
    for (let i = k + 1; i < M; i++) {
      const at = i * N
      const x = left.scale * v[i]
      let z = 0
      for (let j = k + 1; j < N; j++) {
        const y = A[at + j] - x * w[j]
        A[at + j] = y
        z += y * u[j]
      }
      z *= right.scale
      for (let j = k + 1; j < N; j++) A[at + j] -= z * u[j]
    }
  }
  return { diagonal, above }
}

/**
 * The reflection 1 − scale · v vᵀ that maps x[from, to) onto `image` times the first unit vector; v takes the place of x.
 */
function reflection(x: Float64Array, from: number, to: number): { scale: number; image: number } {
  let squares = 0
  for (let i = from; i < to; i++) squares += x[i] * x[i]
  if (squares === 0) return { scale: 0, image: 0 }
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
  if (!Number.isFinite(largest)) throw new RangeError(`singularValueSum: wanted finite elements, got ${largest}`)
  const nothing = Number.EPSILON * largest
  for (let first = 0; first < n; first++) {
    for (let step = 0; ; step++) {
      let last = first
      while (last + 1 < n && Math.abs(e[last]) > nothing) last++
      if (last === first) break
      if (step === 100)
        throw new Error(`singularValueSum: wanted convergence within 100 steps, got e[${first}] = ${e[first]}`)
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
