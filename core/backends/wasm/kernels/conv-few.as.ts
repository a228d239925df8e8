/**
 * Convolutions with a stride of 1 to a few channels, such as the last layer of a decoder. Packing every pixel once for each
 * tap would cost more than the products. So the taps are rows of the product instead of columns: for some rows of the
 * picture, a product of all output channels and taps with the pixels, each pixel packed once. Then each output channel
 * is the sum of its taps' rows, each moved by its tap.
 */

import { Address, OptionalAddress } from './arguments.as'
import { VEC, WORD } from './simd.as'
import { multiplyPacked, packColumns } from './gemm.as'
import { TAP_BYTES } from './conv-pack.as'
import { thread } from './threads.as'

@unmanaged class ConvFewPackArgs {
  /** Weights, `mStep` bytes from output channel to output channel and `kStep` from plane to plane. */
  w: Address
  mStep: usize
  kStep: usize
  M: i32
  taps: Address
  tapCount: i32
  planes: i32
  planesPerPass: i32
  /** For each pass, packed rows (M, taps); `passBytes` apart. */
  packed: Address
  passBytes: usize
}

/** Packs the weights of one pass → panels of 4 rows. */
export function convFewPack(args: ConvFewPackArgs, chunk: i32): void {
  const tapCount = args.tapCount
  const plane = chunk * args.planesPerPass
  const planes = min(args.planes - plane, args.planesPerPass)
  const rows = args.M * tapCount
  const packed = args.packed + <usize>chunk * args.passBytes
  for (let r = 0; r < ((rows + 3) & ~3); ++r) {
    let to = packed + <usize>(r & ~3) * <usize>planes * WORD + (<usize>(r & 3) << 2)
    const m = r / tapCount
    const tap = load<i32>(args.taps + <usize>(r - m * tapCount) * TAP_BYTES, 8)
    let from = args.w + <usize>m * args.mStep + (<usize>tap << 2) + <usize>plane * args.kStep
    for (let k = 0; k < planes; ++k, to += VEC, from += args.kStep) store<f32>(to, r < rows ? load<f32>(from) : 0)
  }
}

/** n floats: to += from. */
function addRow(from: usize, to: usize, n: i32): void {
  for (; n >= 4; n -= 4, from += VEC, to += VEC) v128.store(to, f32x4.add(v128.load(to), v128.load(from)))
  for (; n > 0; --n, from += WORD, to += WORD) store<f32>(to, load<f32>(to) + load<f32>(from))
}

@unmanaged class ConvFewArgs {
  /** For each pass, packed rows (M, taps); `passBytes` apart. */
  weights: Address
  passBytes: usize
  /** (pictures, planes, H, W) */
  picture: Address
  planes: i32
  planesPerPass: i32
  H: i32
  W: i32
  taps: Address
  tapCount: i32
  /** (pictures, M, rows, columns) */
  out: Address
  M: i32
  rows: i32
  columns: i32
  bias: OptionalAddress
  /** Rows of the result in a chunk. */
  rowsPerBand: i32
  bands: i32
  columnsPerBlock: i32
  /** For each thread, packed columns and the products of a band. */
  scratch: Address
  threadBytes: usize
  packedBytes: usize
}

/** Computes some rows of a picture. */
export function convFew(args: ConvFewArgs, chunk: i32): void {
  const H = args.H
  const W = args.W
  const M = args.M
  const columns = args.columns
  const tapCount = args.tapCount
  const n = chunk / args.bands
  const top = (chunk - n * args.bands) * args.rowsPerBand
  const bottom = min(args.rows, top + args.rowsPerBand)
  // Rows of the picture that these rows see.
  let first = i32.MAX_VALUE
  let last = i32.MIN_VALUE
  for (let t = 0; t < tapCount; ++t) {
    const dy = load<i32>(args.taps + <usize>t * TAP_BYTES)
    first = min(first, dy)
    last = max(last, dy)
  }
  first = min(max(top + first, 0), H)
  last = max(min(bottom + last, H), first)
  const pixels = (last - first) * W
  const planeBytes = <usize>(H * W) << 2
  const picture = args.picture + <usize>n * <usize>args.planes * planeBytes + (<usize>(first * W) << 2)
  const packed = args.scratch + <usize>thread * args.threadBytes
  const products = packed + args.packedBytes
  // Rows that lie a power of two apart would share the sets of a cache.
  const step = <usize>((pixels + 7) & ~7) * WORD + 4 * VEC
  for (let at = 0; at < pixels; at += args.columnsPerBlock) {
    const count = min(pixels - at, args.columnsPerBlock)
    let weights = args.weights
    for (let plane = 0; plane < args.planes; plane += args.planesPerPass, weights += args.passBytes) {
      const planes = min(args.planes - plane, args.planesPerPass)
      packColumns(
        picture + <usize>plane * planeBytes + (<usize>at << 2), WORD, planeBytes, count, planes, packed,
      )
      multiplyPacked(
        weights, packed, M * tapCount, count, planes, products + (<usize>at << 2), step, 0, plane > 0,
      )
    }
  }
  for (let m = 0; m < M; ++m) {
    const b: f32 = args.bias != 0 ? load<f32>(args.bias + (<usize>m << 2)) : 0
    for (let row = top; row < bottom; ++row) {
      const out = args.out + (<usize>(((n * M + m) * args.rows + row) * columns) << 2)
      for (let c = 0; c < columns; ++c) store<f32>(out + (<usize>c << 2), b)
      for (let t = 0; t < tapCount; ++t) {
        const tap = args.taps + <usize>t * TAP_BYTES
        const y = row + load<i32>(tap)
        const dx = load<i32>(tap, 4)
        if (y < 0 || y >= H) continue
        const start = max(0, -dx)
        const from = products + <usize>(m * tapCount + t) * step + (<usize>((y - first) * W + start + dx) << 2)
        addRow(from, out + (<usize>start << 2), min(columns, W - dx) - start)
      }
    }
  }
}
