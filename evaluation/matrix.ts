/**
 * Matrices of f64 on the host, and the two things that evaluation needs of them: products of rows, and a factor of a
 * covariance that may be singular. The loops are core/doubles.ts, or what the default backend has in their place. Evaluation
 * is always in f64, whatever made the features.
 */

import { anObject, check, numbers } from '../core/arguments.ts'
import { type Shape, ShapeError, show } from '../core/shape.ts'
import { doubles } from './doubles.ts'

/** Row-major: element (i, j) is data[i · columns + j]. */
export interface Matrix {
  readonly rows: number
  readonly columns: number
  readonly data: Float64Array
}

/** Features of N pictures: (N, D), row-major, such as `{ data: await t.data(), shape: t.shape }`. */
export interface Features {
  readonly data: ArrayLike<number>
  readonly shape: Shape
}

/** All zeros. */
export function zeroMatrix(rows: number, columns: number): Matrix {
  return { rows, columns, data: new Float64Array(rows * columns) }
}

/** [N, D] of features. Throws ShapeError, naming `what` they are, unless they are two-dimensional and there is one. */
export function sizeOfFeatures(what: string, features: Features): [N: number, D: number] {
  check(what, 'features', features, anObject)
  const { data, shape } = features
  check(what, 'data', data, numbers)
  check(what, 'shape', shape, numbers)
  const [N, D] = shape
  if (shape.length !== 2 || N < 1 || D < 1 || data.length !== N * D)
    throw new ShapeError(`${what}: expected features [N, D], got ${show(shape)} with ${data.length} elements`)
  return [N, D]
}

/** Features as a matrix of f64. Throws as `sizeOfFeatures`. */
export function matrixOfFeatures(what: string, features: Features): Matrix {
  const [rows, columns] = sizeOfFeatures(what, features)
  return { rows, columns, data: Float64Array.from(features.data) }
}

/** a bᵀ: every row of a (M, K) with every row of b (N, K) → (M, N). Half of the work where a and b are the same. */
export function timesTransposed(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.columns)
    throw new ShapeError(`timesTransposed: expected rows of ${a.columns} elements, got ${b.columns}`)
  const kernels = doubles()
  const [M, N] = [a.rows, b.rows]
  const stride = roomFor(N)
  const product = kernels.alloc(roomFor(M) * stride)
  try {
    kernels.addProduct(product, stride, a.data, b.data, [M, N, a.columns], { upper: a === b })
    const out = zeroMatrix(M, N)
    for (let i = 0; i < M; i++) out.data.set(product.subarray(i * stride, i * stride + N), i * N)
    if (a === b) mirror(out)
    return out
  } finally {
    kernels.free(product)
  }
}

/** `size` rounded up to what the kernels write. */
export function roomFor(size: number): number {
  return 4 * Math.ceil(size / 4)
}

/** The upper triangle copied onto the lower. */
export function mirror({ rows, data }: Matrix): void {
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
  const kernels = doubles()
  // Row i: the coefficients of variable order[i] so far. Those before r are done, in the order of their variance.
  const rows = kernels.alloc(n * n)
  const pivot = kernels.alloc(n)
  const known = kernels.alloc(n)
  try {
    const order = Int32Array.from({ length: n }, (_, i) => i)
    const left = Float64Array.from({ length: n }, (_, i) => S.data[i * n + i]) // variance not yet accounted for
    const rounding = n * Number.EPSILON * left.reduce((most, x) => Math.max(most, x), 0)
    let r = 0
    for (; r < n; r++) {
      let largest = r
      for (let i = r + 1; i < n; i++) if (left[order[i]] > left[order[largest]]) largest = i
      if (!(left[order[largest]] > rounding)) break
      exchange(rows, order, r, largest)
      const scale = Math.sqrt(left[order[r]])
      rows[r * n + r] = scale
      pivot.set(rows.subarray(r * n, r * n + r))
      const below = n - r - 1
      kernels.multiply(rows.subarray((r + 1) * n), n, [below, r], pivot, known)
      for (let i = 0; i < below; i++) {
        const variable = order[r + 1 + i]
        const c = (S.data[order[r] * n + variable] - known[i]) / scale
        rows[(r + 1 + i) * n + r] = c
        left[variable] -= c * c
      }
    }
    const R = zeroMatrix(r, n)
    for (let i = 0; i < n; i++) for (let k = 0; k < Math.min(i + 1, r); k++) R.data[k * n + order[i]] = rows[i * n + k]
    return R
  } finally {
    for (const array of [rows, pivot, known]) kernels.free(array)
  }
}

/** Rows a and b ≥ a of coefficients, a of them each, and what they are of. */
function exchange(rows: Float64Array, order: Int32Array, a: number, b: number): void {
  if (a === b) return
  const n = order.length
  const row = rows.slice(a * n, a * n + a)
  rows.copyWithin(a * n, b * n, b * n + a)
  rows.set(row, b * n)
  const variable = order[a]
  order[a] = order[b]
  order[b] = variable
}
