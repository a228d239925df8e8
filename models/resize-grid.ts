/**
 * Bicubic interpolation of tables of learned positions, on the host in f64. It is PyTorch's
 * `interpolate(mode='bicubic', align_corners=False)`, by which ViT and BEiT go to another resolution.
 */

/**
 * Resizes a square grid: values (S, S, D) row-major → (side, side, D), each channel for itself. Pixel centres are aligned
 * and the border is repeated. An equal size returns a copy.
 */
export function resizeGrid(values: ArrayLike<number>, S: number, side: number): Float64Array {
  const D = values.length / (S * S)
  const weights = bicubicWeights(S, side) // (side, S)
  return resizeRows(weights, resizeColumns(weights, values, S, D), S, D)
}

/** (S, S, D) → (S, side, D) */
function resizeColumns(weights: readonly Float64Array[], values: ArrayLike<number>, S: number, D: number) {
  const side = weights.length
  const out = new Float64Array(S * side * D)
  for (let row = 0; row < S; row++)
    for (let x = 0; x < side; x++)
      for (let column = 0; column < S; column++) {
        const weight = weights[x][column]
        if (weight === 0) continue
        for (let d = 0; d < D; d++) out[(row * side + x) * D + d] += weight * values[(row * S + column) * D + d]
      }
  return out
}

/** (S, side, D) → (side, side, D) */
function resizeRows(weights: readonly Float64Array[], values: Float64Array, S: number, D: number): Float64Array {
  const side = weights.length
  const length = side * D
  const out = new Float64Array(side * length)
  for (let y = 0; y < side; y++)
    for (let row = 0; row < S; row++) {
      const weight = weights[y][row]
      if (weight === 0) continue
      for (let i = 0; i < length; i++) out[y * length + i] += weight * values[row * length + i]
    }
  return out
}

/**
 * Weight of each of S samples on a line in each of `side` samples on the same line: `side` rows of S. Cubic convolution
 * [Keys] with a = −3/4, as in PyTorch.
 */
function bicubicWeights(S: number, side: number): Float64Array[] {
  const a = -0.75
  const kernel = (distance: number) => {
    const x = Math.abs(distance)
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0
  }
  return Array.from({ length: side }, (_, i) => {
    const row = new Float64Array(S)
    const at = ((i + 0.5) * S) / side - 0.5
    for (let j = Math.floor(at) - 1; j <= Math.floor(at) + 2; j++)
      row[Math.min(Math.max(j, 0), S - 1)] += kernel(at - j)
    return row
  })
}
