/**
 * Tables of positions, worked out on the host. They are first values: DiT keeps its table fixed, MDT trains it. A learned
 * table from noise is `parameter(normal(0.02)([1, T, D], init))`.
 */

import { aCount, aSize, check } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import type { Grid } from './attention.ts'
import { aGrid } from './layer-arguments.ts'

/**
 * Two-dimensional sinusoids, (T, D) row-major: token r · columns + c has D/2 channels for its column c, then D/2 for its
 * row r, each half [sin p ω | cos p ω], ω_k = 10000^(−k / (D/4)). [ViT-MAE §A.1] as DiT has it: column first.
 * `extraTokens` rows of zeros come before. Throws RangeError unless D is a multiple of 4.
 */
export function sinCos2d(D: number, grid: Grid, extraTokens = 0): Float64Array {
  check('sinCos2d', 'D', D, aCount)
  check('sinCos2d', 'grid', grid, aGrid)
  check('sinCos2d', 'extraTokens', extraTokens, aSize)
  const [rows, columns] = grid
  if (D % 4 !== 0) throw atCaller(new RangeError(`sinCos2d: expected a width divisible by 4, got ${D}`))
  const quarter = D / 4
  const out = new Float64Array((extraTokens + rows * columns) * D)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const at = (extraTokens + r * columns + c) * D
      for (let k = 0; k < quarter; k++) {
        const omega = 10000 ** (-k / quarter)
        out[at + k] = Math.sin(c * omega)
        out[at + quarter + k] = Math.cos(c * omega)
        out[at + 2 * quarter + k] = Math.sin(r * omega)
        out[at + 3 * quarter + k] = Math.cos(r * omega)
      }
    }
  }
  return out
}

/** One-dimensional sinusoids, (T, D) row-major: sin and cos in turn, angle p / 10000^(2⌊j/2⌋ / D). [Attention §3.5] */
export function sinCos1d(D: number, T: number): Float32Array {
  check('sinCos1d', 'D', D, aCount)
  check('sinCos1d', 'T', T, aCount)
  return Float32Array.from({ length: T * D }, (_, i) => {
    const [p, j] = [Math.floor(i / D), i % D]
    const angle = p / 10000 ** ((2 * Math.floor(j / 2)) / D)
    return j % 2 === 0 ? Math.sin(angle) : Math.cos(angle)
  })
}
