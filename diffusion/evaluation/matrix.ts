/**
 * Matrices of f64 on the host, and the two things that evaluation needs of them: products of rows, and a factor of a
 * covariance that may be singular. Plain loops, blocked so that they run from the cache and from registers. Evaluation is
 * always in f64, whatever made the features. Next: singular-values.ts.
 */

import { type Shape, ShapeError, show } from '../../core/shape.ts'

/** Row-major: element (i, j) is data[i · columns + j]. */
export interface Matrix {
  readonly rows: number
  readonly columns: number
  readonly data: Float64Array
}

/** What a feature network made of N pictures: (N, D), row-major, such as `{ data: await t.data(), shape: t.shape }`. */
export interface Features {
  readonly data: ArrayLike<number>
  readonly shape: Shape
}

/** All zeros. */
export function zeroMatrix(rows: number, columns: number): Matrix {
  return { rows, columns, data: new Float64Array(rows * columns) }
}

/** [N, D] of features. Throws ShapeError, naming `what` they are, unless they are two-dimensional and there is one. */
export function sizeOfFeatures(what: string, { data, shape }: Features): [N: number, D: number] {
  const [N, D] = shape
  if (shape.length !== 2 || N < 1 || D < 1 || data.length !== N * D)
    throw new ShapeError(`${what}: wanted features [N, D], got ${show(shape)} with ${data.length} elements`)
  return [N, D]
}

/** Features as a matrix of f64. Throws as `sizeOfFeatures`. */
export function matrixOfFeatures(what: string, features: Features): Matrix {
  const [rows, columns] = sizeOfFeatures(what, features)
  return { rows, columns, data: Float64Array.from(features.data) }
}

/** So many elements of b are multiplied with all of a before the next: they stay in the second-level cache. */
const panel = 1 << 16

/** a bᵀ: every row of a (M, K) with every row of b (N, K) → (M, N). Half of the work where a and b are the same. */
export function timesTransposed(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.columns)
    throw new ShapeError(`timesTransposed: wanted rows of ${a.columns} elements, got ${b.columns}`)
  const out = zeroMatrix(a.rows, b.rows)
  const height = Math.max(4, Math.floor(panel / a.columns) & ~3)
  for (let from = 0; from < b.rows; from += height) {
    const to = Math.min(from + height, b.rows)
    for (let i = 0; i < a.rows; i += 2)
      for (let j = from; j < to; j += 4) if (a !== b || j + 3 >= i) tile(a, i, b, j, out)
  }
  if (a === b) mirror(out)
  return out
}

/** Rows i, i + 1 of a with rows j … j + 3 of b; past the end the last row is taken again, which writes the same. */
function tile(a: Matrix, i: number, b: Matrix, j: number, out: Matrix): void {
  const { columns: K, data: A } = a
  const B = b.data
  const i1 = Math.min(i + 1, a.rows - 1)
  const [j1, j2, j3] = [Math.min(j + 1, b.rows - 1), Math.min(j + 2, b.rows - 1), Math.min(j + 3, b.rows - 1)]
  const [a0, a1, b0, b1, b2, b3] = [i * K, i1 * K, j * K, j1 * K, j2 * K, j3 * K]
  let [s00, s01, s02, s03, s10, s11, s12, s13] = [0, 0, 0, 0, 0, 0, 0, 0]
  for (let k = 0; k < K; k++) {
    const x0 = A[a0 + k]
    const x1 = A[a1 + k]
    const y0 = B[b0 + k]
    const y1 = B[b1 + k]
    const y2 = B[b2 + k]
    const y3 = B[b3 + k]
    s00 += x0 * y0
    s01 += x0 * y1
    s02 += x0 * y2
    s03 += x0 * y3
    s10 += x1 * y0
    s11 += x1 * y1
    s12 += x1 * y2
    s13 += x1 * y3
  }
  const { data, columns } = out
  const [r0, r1] = [i * columns, i1 * columns]
  data[r0 + j] = s00
  data[r0 + j1] = s01
  data[r0 + j2] = s02
  data[r0 + j3] = s03
  data[r1 + j] = s10
  data[r1 + j1] = s11
  data[r1 + j2] = s12
  data[r1 + j3] = s13
}

/** The upper triangle copied onto the lower. */
function mirror({ rows, data }: Matrix): void {
  for (let i = 0; i < rows; i++) for (let j = 0; j < i; j++) data[i * rows + j] = data[j * rows + i]
}

/** The other way round. */
export function transposed({ rows, columns, data }: Matrix): Matrix {
  const out = zeroMatrix(columns, rows)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out.data[j * rows + i] = data[i * columns + j]
  return out
}

/**
 * R (r, n) with RᵀR = S for a covariance S (n, n): its Cholesky factor, worked out by the largest remaining variance
 * first and ended where what remains is rounding, so that r is the rank of S. [Higham]
 */
export function covarianceFactor(S: Matrix): Matrix {
  const n = S.rows
  const rows = new Float64Array(n * n) // row i: the coefficients of variable i so far
  const left = Float64Array.from({ length: n }, (_, i) => S.data[i * n + i]) // variance not yet accounted for
  const rounding = n * Number.EPSILON * left.reduce((most, x) => Math.max(most, x), 0)
  const open = new Set(left.keys())
  let r = 0
  for (; r < n; r++) {
    let pivot = -1
    for (const i of open) if (pivot < 0 || left[i] > left[pivot]) pivot = i
    if (!(left[pivot] > rounding)) break
    open.delete(pivot)
    const scale = Math.sqrt(left[pivot])
    rows[pivot * n + r] = scale
    for (const i of open) {
      const c = (S.data[i * n + pivot] - dot(rows, i * n, pivot * n, r)) / scale
      rows[i * n + r] = c
      left[i] -= c * c
    }
  }
  const R = zeroMatrix(r, n)
  for (let i = 0; i < n; i++) for (let k = 0; k < r; k++) R.data[k * n + i] = rows[i * n + k]
  return R
}

/** Σ x[a + k] x[b + k] over `length` elements, in four sums that do not wait for each other. */
function dot(x: Float64Array, a: number, b: number, length: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0]
  let k = 0
  for (; k + 4 <= length; k += 4) {
    s0 += x[a + k] * x[b + k]
    s1 += x[a + k + 1] * x[b + k + 1]
    s2 += x[a + k + 2] * x[b + k + 2]
    s3 += x[a + k + 3] * x[b + k + 3]
  }
  for (; k < length; k++) s0 += x[a + k] * x[b + k]
  return s0 + s1 + (s2 + s3)
}
