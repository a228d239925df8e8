/**
 * Improved precision and recall [PR §2]: a set of pictures covers the balls around its features that reach to their k-th
 * neighbours. Precision is the part of the samples that the reference covers, recall the part of the reference that the
 * samples cover. As in ADM's evaluator, from which figures in the papers come, radii are kept in f32.
 */

import { describe } from '../core/arguments.ts'
import { ShapeError } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import { type Features, type Matrix, matrixOfFeatures, timesTransposed } from './matrix.ts'

/** So many rows of distances are in memory at a time. */
const rowsAtATime = 512

/**
 * Squared distance of each feature (N, D) to its k-th neighbour, itself not counted, rounded to f32: (N). Throws
 * ShapeError, and RangeError unless there are more than k features.
 */
export function manifoldRadii(features: Features, k = 3): Float32Array {
  return radiiOf('manifoldRadii', matrixOfFeatures('manifoldRadii', features), k)
}

function radiiOf(op: string, x: Matrix, k: number): Float32Array {
  if (!(Number.isInteger(k) && k >= 1 && k < x.rows))
    throw atCaller(new RangeError(`${op}: expected k in [1, ${x.rows - 1}] for ${x.rows} features, got ${describe(k)}`))
  const radii = new Float32Array(x.rows)
  eachRow(x, x, (i, distances) => {
    distances[i] = Number.POSITIVE_INFINITY
    radii[i] = kthSmallest(distances, k)
  })
  return radii
}

/** Parts of a set, in [0, 1]. */
export interface PrecisionRecall {
  readonly precision: number
  readonly recall: number
}

/**
 * Precision and recall of samples (N, D) against a reference (M, D); both need more than k features. Throws ShapeError
 * and RangeError.
 */
export function precisionRecall(reference: Features, samples: Features, k = 3): PrecisionRecall {
  const [ref, sample] = [reference, samples].map(features => {
    const x = matrixOfFeatures('precisionRecall', features)
    return { x, radii: radiiOf('precisionRecall', x, k) }
  })
  const covered = new Uint8Array(ref.x.rows)
  let inside = 0
  eachRow(sample.x, ref.x, (i, distances) => {
    let found = 0
    for (let j = 0; j < distances.length; j++) {
      if (distances[j] <= ref.radii[j]) found = 1
      if (distances[j] <= sample.radii[i]) covered[j] = 1
    }
    inside += found
  })
  const coveredCount = covered.reduce((n, one) => n + one, 0)
  return { precision: inside / sample.x.rows, recall: coveredCount / ref.x.rows }
}

/** Calls `each` with the squared distances of row i of a (N, D) to all rows of b (M, D): M numbers, to be used at once. */
function eachRow(a: Matrix, b: Matrix, each: (i: number, distances: Float64Array) => void): void {
  const D = a.columns
  if (D !== b.columns) throw new ShapeError(`precisionRecall: expected features of ${b.columns} numbers, got ${D}`)
  const [squaresA, squaresB] = [squares(a), squares(b)]
  for (let from = 0; from < a.rows; from += rowsAtATime) {
    const rows = Math.min(rowsAtATime, a.rows - from)
    const part = { rows, columns: D, data: a.data.subarray(from * D, (from + rows) * D) }
    const products = timesTransposed(part, b).data // (rows, M)
    for (let i = 0; i < rows; i++) {
      const distances = products.subarray(i * b.rows, (i + 1) * b.rows)
      // |u − v|² = |u|² − 2 uᵀv + |v|², which rounding may take below 0.
      for (let j = 0; j < b.rows; j++) distances[j] = Math.max(squaresA[from + i] - 2 * distances[j] + squaresB[j], 0)
      each(from + i, distances)
    }
  }
}

/** |row|² of each row. */
function squares({ rows, columns: D, data }: Matrix): Float64Array {
  return Float64Array.from({ length: rows }, (_, i) =>
    data.subarray(i * D, (i + 1) * D).reduce((sum, x) => sum + x * x, 0),
  )
}

/** The k-th smallest number, k ≥ 1 and small. */
function kthSmallest(numbers: Float64Array, k: number): number {
  const smallest = new Float64Array(k).fill(Number.POSITIVE_INFINITY) // in order
  for (const x of numbers) {
    if (!(x < smallest[k - 1])) continue
    let at = k - 1
    for (; at > 0 && smallest[at - 1] > x; at--) smallest[at] = smallest[at - 1]
    smallest[at] = x
  }
  return smallest[k - 1]
}
