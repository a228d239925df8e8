/**
 * Rows picked by index, and their adjoint. Indices have been checked by `firstBad`.
 */

import { Address } from './arguments.as'
import { VEC } from './simd.as'
import { copyWords } from './movement.as'

@unmanaged class FirstBadArgs {
  index: Address
  /** Number of indices. */
  n: i32
  R: i32
  out: Address
}

/** Writes the position of the first index outside [0, R) to out, or −1. */
export function firstBad(args: FirstBadArgs, chunk: i32): void {
  const index = args.index
  const n = args.n
  const R = <u32>args.R
  let bad = -1
  for (let i = 0; i < n; ++i) {
    if (load<u32>(index + (<usize>i << 2)) >= R) {
      bad = i
      break
    }
  }
  store<i32>(args.out, bad)
}

@unmanaged class GatherArgs {
  /** (B, R, D) */
  x: Address
  /** (B, K) */
  index: Address
  /** (B, K, D) */
  y: Address
  /** B·K */
  rows: i32
  rowsPerChunk: i32
  K: i32
  R: i32
  D: i32
}

/** y[b, k] = x[b, index[b, k]] */
export function gatherRows(args: GatherArgs, chunk: i32): void {
  const K = args.K
  const R = args.R
  const D = args.D
  const per = args.rowsPerChunk
  const end = min(args.rows, (chunk + 1) * per)
  for (let row = chunk * per; row < end; ++row) {
    const from = (row / K) * R + load<i32>(args.index + (<usize>row << 2))
    copyWords(args.x + ((<usize>from * D) << 2), args.y + ((<usize>row * D) << 2), D)
  }
}

@unmanaged class ScatterAddArgs {
  /** (B, K) */
  index: Address
  /** (B, K, D) */
  source: Address
  /** (B, R, D) */
  y: Address
  R: i32
  K: i32
  D: i32
  columnsPerChunk: i32
  columnChunks: i32
}

/**
 * y[b, index[b, k]] += source[b, k] from y = 0, with k rising, so the order of sums is fixed. A chunk is (b, columns).
 */
@inline
function scatter<T>(args: ScatterAddArgs, chunk: i32): void {
  const R = args.R
  const K = args.K
  const D = args.D
  const b = chunk / args.columnChunks
  const column = (chunk - b * args.columnChunks) * args.columnsPerChunk
  const columns = min(D - column, args.columnsPerChunk)
  const step = <usize>D << 2
  const y = args.y + ((<usize>b * R * D + column) << 2)
  let row = y
  for (let r = 0; r < R; ++r, row += step) memory.fill(row, 0, <usize>columns << 2)
  const index = args.index + (<usize>b * K << 2)
  let from = args.source + ((<usize>b * K * D + column) << 2)
  for (let k = 0; k < K; ++k, from += step) addRow<T>(from, y + <usize>load<i32>(index + (<usize>k << 2)) * step, columns)
}

export function scatterAdd(args: ScatterAddArgs, chunk: i32): void { scatter<f32>(args, chunk) }
export function scatterAddInts(args: ScatterAddArgs, chunk: i32): void { scatter<i32>(args, chunk) }

/** to += from, n words. */
@inline
function addRow<T>(from: usize, to: usize, n: i32): void {
  let i = 0
  for (; i + 4 <= n; i += 4, from += VEC, to += VEC) v128.store(to, v128.add<T>(v128.load(to), v128.load(from)))
  for (; i < n; ++i, from += 4, to += 4) store<T>(to, <T>(load<T>(to) + load<T>(from)))
}
