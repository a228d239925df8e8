/**
 * Kernels for linear algebra in f64 on the host, which a backend may offer as `Backend.doubles`. Evaluation is built on
 * them; evaluation/doubles.ts has the plain loops. Matrices are row-major, their rows `stride` elements apart. Arrays that
 * a kernel writes, and matrices that it multiplies, come from `alloc`. Sizes need not be multiples of four, but a written
 * array has room up to the next multiple, in rows and columns.
 */

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

/** Rows over which products of 24-bit digits are summed without rounding, with a factor of 2 to spare. */
export const exactRows = 64
