/**
 * Rows picked by index, and their adjoint. Indices have been checked by `firstBad`. Next: norm.as.ts.
 */

import { VEC, arg, pointer } from './simd.as'
import { copyWords } from './movement.as'

/** Place of the first of n indices outside [0, R), or −1, written to out. args: 0 index, 1 n, 2 R, 3 out */
export function firstBad(args: usize, chunk: i32): void {
  const index = pointer(args, 0)
  const n = arg(args, 1)
  const R = <u32>arg(args, 2)
  let bad = -1
  for (let i = 0; i < n; ++i) {
    if (load<u32>(index + (<usize>i << 2)) >= R) {
      bad = i
      break
    }
  }
  store<i32>(pointer(args, 3), bad)
}

/** y[b, k] = x[b, index[b, k]]. args: 0 x, 1 index, 2 y, 3 rows B·K, 4 K, 5 R, 6 D, 7 rows per chunk */
export function gather(args: usize, chunk: i32): void {
  const K = arg(args, 4)
  const R = arg(args, 5)
  const D = arg(args, 6)
  const per = arg(args, 7)
  const end = min(arg(args, 3), (chunk + 1) * per)
  for (let row = chunk * per; row < end; ++row) {
    const from = (row / K) * R + load<i32>(pointer(args, 1) + (<usize>row << 2))
    copyWords(pointer(args, 0) + ((<usize>from * D) << 2), pointer(args, 2) + ((<usize>row * D) << 2), D)
  }
}

/**
 * y[b, index[b, k]] += source[b, k], y zero before; k rising, so the order of sums is fixed.
 * args: 0 index, 1 source, 2 y, 3 R, 4 K, 5 D, 6 columns per chunk, 7 column chunks. A chunk is (b, columns).
 */
@inline
function scatter<T>(args: usize, chunk: i32): void {
  const R = arg(args, 3)
  const K = arg(args, 4)
  const D = arg(args, 5)
  const b = chunk / arg(args, 7)
  const column = (chunk - b * arg(args, 7)) * arg(args, 6)
  const columns = min(D - column, arg(args, 6))
  const step = <usize>D << 2
  const y = pointer(args, 2) + ((<usize>b * R * D + column) << 2)
  let row = y
  for (let r = 0; r < R; ++r, row += step) memory.fill(row, 0, <usize>columns << 2)
  const index = pointer(args, 0) + (<usize>b * K << 2)
  let from = pointer(args, 1) + ((<usize>b * K * D + column) << 2)
  for (let k = 0; k < K; ++k, from += step) addRow<T>(from, y + <usize>load<i32>(index + (<usize>k << 2)) * step, columns)
}

export function scatterAdd(args: usize, chunk: i32): void { scatter<f32>(args, chunk) }
export function scatterAddInts(args: usize, chunk: i32): void { scatter<i32>(args, chunk) }

/** to += from, n words. */
@inline
function addRow<T>(from: usize, to: usize, n: i32): void {
  let i = 0
  for (; i + 4 <= n; i += 4, from += VEC, to += VEC) v128.store(to, v128.add<T>(v128.load(to), v128.load(from)))
  for (; i < n; ++i, from += 4, to += 4) store<T>(to, <T>(load<T>(to) + load<T>(from)))
}
