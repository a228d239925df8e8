/** Numbers that a rank contributes to the tests' sums: rounding shows in them, so that only one order gives the same bits. */

/** Returns `length` numbers of tensor `i` on a rank. */
export function valuesOf(rank: number, i: number, length: number): Float32Array {
  let state = 1 + 97 * rank + 31 * i
  return Float32Array.from({ length }, () => {
    state = (state * 1103515245 + 12345) % 2147483648
    return (state / 2147483648 - 0.5) * 10 ** (state % 7)
  })
}
