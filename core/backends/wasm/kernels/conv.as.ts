/**
 * Convolution as a matrix product that never has its unfolded operand: a block of columns is packed from the picture by
 * the thread that multiplies it next (conv-pack.as.ts). `convWide` has output channels as rows and positions as columns.
 * For few positions `convTall` exchanges the two, so that the weights, then the larger operand, are packed in the cache.
 * The gradient of the picture is a convolution of g with the taps mirrored, one for each phase of the stride; for few
 * positions it is `convTallAdjoint`. The gradient of the weights is `convWeights`.
 */

import { Address, Flag, OptionalAddress } from './arguments.as'
import { VEC, WORD, sumLanes } from './simd.as'
import { multiplyPacked, packColumns } from './gemm.as'
import { TAP_BYTES, locate, packPositions, packTaps } from './conv-pack.as'
import { packedAlready, thread } from './threads.as'

/** Adds bias[m] to row m of a block. */
function addBias(bias: usize, M: i32, N: i32, out: usize, outStep: usize): void {
  for (let m = 0; m < M; ++m, bias += WORD, out += outStep) {
    const b = load<f32>(bias)
    const vector = f32x4.splat(b)
    let to = out
    let n = N
    for (; n >= 4; n -= 4, to += VEC) v128.store(to, f32x4.add(v128.load(to), vector))
    for (; n > 0; --n, to += WORD) store<f32>(to, load<f32>(to) + b)
  }
}

@unmanaged class ConvWideArgs {
  /** For each group, packed rows of M output channels. */
  weights: Address
  weightStep: usize
  groups: i32
  /** The first plane of this pass in the first group of the first picture; groups are `groupBytes` apart. */
  picture: Address
  groupBytes: usize
  planeBytes: usize
  planes: i32
  H: i32
  W: i32
  sy: i32
  sx: i32
  columns: i32
  P: i32
  taps: Address
  tapCount: i32
  /** (N, groups, M, P) */
  out: Address
  M: i32
  /** (groups, M), in the last pass. */
  bias: OptionalAddress
  rowsPerBlock: i32
  columnsPerBlock: i32
  rowBlocks: i32
  columnBlocks: i32
  /** For each thread, packed columns and the list of their pixels. */
  scratch: Address
  threadBytes: usize
  packedBytes: usize
  accumulate: Flag
}

/** Computes one block of one group of a picture. */
export function convWide(args: ConvWideArgs, chunk: i32): void {
  const P = args.P
  const M = args.M
  const tapCount = args.tapCount
  const perGroup = args.rowBlocks * args.columnBlocks
  const at = chunk / perGroup // picture and group
  const group = at % args.groups
  const block = chunk - at * perGroup
  const m = (block % args.rowBlocks) * args.rowsPerBlock
  const n = (block / args.rowBlocks) * args.columnsPerBlock
  const columns = min(P - n, args.columnsPerBlock)
  const quads = ((columns + 7) >> 3) << 1
  const K = args.planes * tapCount
  const packed = args.scratch + <usize>thread * args.threadBytes
  if (!packedAlready(<usize>(at * P + n))) {
    const list = packed + args.packedBytes
    locate(args.taps, tapCount, args.H, args.W, args.sy, args.sx, args.columns, P, n, quads, 0, list)
    packPositions(
      args.picture + <usize>at * args.groupBytes, args.planeBytes, args.planes, tapCount, list, quads, 2, packed,
      <usize>K * (2 * VEC),
    )
  }
  const rows = min(M - m, args.rowsPerBlock)
  const outStep = <usize>P << 2
  const out = args.out + <usize>(at * M + m) * outStep + (<usize>n << 2)
  multiplyPacked(
    args.weights + <usize>group * args.weightStep + <usize>m * <usize>K * WORD, packed, rows, columns, K, out, outStep,
    0, args.accumulate != 0,
  )
  if (args.bias != 0) addBias(args.bias + (<usize>(group * M + m) << 2), rows, columns, out, outStep)
}

@unmanaged class ConvPackPositionsArgs {
  picture: Address
  pictureBytes: usize
  planeBytes: usize
  planes: i32
  planesPerPass: i32
  H: i32
  W: i32
  sy: i32
  sx: i32
  columns: i32
  P: i32
  taps: Address
  tapCount: i32
  quadsPerPicture: i32
  quadsPerChunk: i32
  chunksPerPicture: i32
  pictures: i32
  /** For each pass, panels of 4 positions of all pictures; `passBytes` apart. */
  packed: Address
  passBytes: usize
  /** Lists of pixels, `threadBytes` for each thread. */
  scratch: Address
  threadBytes: usize
}

/** Packs some positions of a picture as rows, for one pass. */
export function convPackPositions(args: ConvPackPositionsArgs, chunk: i32): void {
  const perPass = args.pictures * args.chunksPerPicture
  const pass = chunk / perPass
  const rest = chunk - pass * perPass
  const n = rest / args.chunksPerPicture
  const first = (rest - n * args.chunksPerPicture) * args.quadsPerChunk
  const quads = min(args.quadsPerPicture - first, args.quadsPerChunk)
  const tapCount = args.tapCount
  const plane = pass * args.planesPerPass
  const planes = min(args.planes - plane, args.planesPerPass)
  const panel = <usize>(planes * tapCount) * VEC
  const list = args.scratch + <usize>thread * args.threadBytes
  locate(args.taps, tapCount, args.H, args.W, args.sy, args.sx, args.columns, args.P, 4 * first, quads, 0, list)
  packPositions(
    args.picture + <usize>n * args.pictureBytes + <usize>plane * args.planeBytes, args.planeBytes, planes, tapCount, list,
    quads, 1, args.packed + <usize>pass * args.passBytes + <usize>(n * args.quadsPerPicture + first) * panel, panel,
  )
}

@unmanaged class ConvTallArgs {
  /** For each pass, panels of 4 positions of all pictures; `passBytes` apart. */
  packed: Address
  passBytes: usize
  pictures: i32
  quadsPerPicture: i32
  P: i32
  /** (M, planes, kernel) */
  w: Address
  M: i32
  planes: i32
  planesPerPass: i32
  kernel: i32
  /** (pictures, M, P) */
  out: Address
  bias: OptionalAddress
  /** Channels of a chunk, a multiple of 8. */
  channelsPerChunk: i32
  /** Packed weights and results, positions × channels, for each thread. */
  scratch: Address
  threadBytes: usize
  packedBytes: usize
}

/** Computes some channels of all positions. */
export function convTall(args: ConvTallArgs, chunk: i32): void {
  const M = args.M
  const P = args.P
  const perPass = args.planesPerPass
  const m = chunk * args.channelsPerChunk
  const channels = min(M - m, args.channelsPerChunk)
  const positions = args.pictures * args.quadsPerPicture * 4
  const weights = args.scratch + <usize>thread * args.threadBytes
  const results = weights + args.packedBytes
  const step = <usize>((channels + 7) & ~7) << 2
  const row = <usize>(args.planes * args.kernel) << 2
  let packed = args.packed
  for (let plane = 0; plane < args.planes; plane += perPass, packed += args.passBytes) {
    const planes = min(args.planes - plane, perPass)
    const K = planes * args.kernel
    packColumns(args.w + <usize>m * row + <usize>(plane * args.kernel) * WORD, row, WORD, channels, K, weights)
    multiplyPacked(packed, weights, positions, channels, K, results, step, 0, plane > 0)
  }
  for (let n = 0; n < args.pictures; ++n) {
    const from = results + <usize>(n * args.quadsPerPicture * 4) * step
    for (let c = 0; c < channels; ++c) {
      let to = args.out + (<usize>((n * M + m + c) * P) << 2)
      let at = from + (<usize>c << 2)
      const b: f32 = args.bias != 0 ? load<f32>(args.bias + (<usize>(m + c) << 2)) : 0
      for (let p = 0; p < P; ++p, to += WORD, at += step) store<f32>(to, load<f32>(at) + b)
    }
  }
}

@unmanaged class ConvTallAdjointArgs {
  /** For each pass, packed rows of positions of all pictures; `passBytes` and `pictureBytes` apart. */
  packed: Address
  passBytes: usize
  pictureBytes: usize
  pictures: i32
  /** Of g, `columns` in a row. */
  P: i32
  columns: i32
  /** (planes, M, kernel) */
  w: Address
  M: i32
  planes: i32
  planesPerPass: i32
  taps: Address
  kernel: i32
  sy: i32
  sx: i32
  /** (pictures, M, H, W) */
  out: Address
  H: i32
  W: i32
  channelsPerChunk: i32
  /** Packed weights, and products (P, channels, kernel) of a picture, for each thread. */
  scratch: Address
  threadBytes: usize
  packedBytes: usize
}

/**
 * The gradient of some channels of the picture where g has few positions: each position's products with all taps, which
 * are then added to the pixels that the taps see. The weights are read once, in their own order.
 */
export function convTallAdjoint(args: ConvTallAdjointArgs, chunk: i32): void {
  const M = args.M
  const P = args.P
  const H = args.H
  const W = args.W
  const kernel = args.kernel
  const perPass = args.planesPerPass
  const m = chunk * args.channelsPerChunk
  const channels = min(M - m, args.channelsPerChunk)
  const count = channels * kernel
  const row = <usize>(M * kernel) << 2
  const weights = args.scratch + <usize>thread * args.threadBytes
  const products = weights + args.packedBytes
  const step = <usize>((count + 7) & ~7) << 2
  const pictureStep = <usize>P * step
  let packed = args.packed
  for (let plane = 0; plane < args.planes; plane += perPass, packed += args.passBytes) {
    const planes = min(args.planes - plane, perPass)
    packColumns(args.w + <usize>plane * row + <usize>(m * kernel) * WORD, WORD, row, count, planes, weights)
    for (let n = 0; n < args.pictures; ++n) {
      multiplyPacked(
        packed + <usize>n * args.pictureBytes, weights, P, count, planes, products + <usize>n * pictureStep, step, 0,
        plane > 0,
      )
    }
  }
  const planeBytes = <usize>(H * W) << 2
  const tapBytes = <usize>kernel << 2
  for (let n = 0; n < args.pictures; ++n) {
    const out = args.out + <usize>(n * M + m) * planeBytes
    memory.fill(out, 0, <usize>channels * planeBytes)
    let from = products + <usize>n * pictureStep
    for (let p = 0; p < P; ++p, from += step) {
      const y = (p / args.columns) * args.sy
      const x = (p % args.columns) * args.sx
      let tap = args.taps
      for (let t = 0; t < kernel; ++t, tap += TAP_BYTES) {
        const ty = y + load<i32>(tap)
        const tx = x + load<i32>(tap, 4)
        if (ty < 0 || ty >= H || tx < 0 || tx >= W) continue
        let to = out + (<usize>(ty * W + tx) << 2)
        let at = from + (<usize>t << 2)
        for (let c = 0; c < channels; ++c, to += planeBytes, at += tapBytes) {
          store<f32>(to, load<f32>(to) + load<f32>(at))
        }
      }
    }
  }
}

@unmanaged class ConvWeightsArgs {
  /** For each group, M packed planes of g. */
  packedRows: Address
  rowsStep: usize
  /** The first picture's first group. */
  picture: Address
  groupBytes: usize
  planeBytes: usize
  tapCount: i32
  /** Where the pixels of this pass lie. */
  list: Address
  quads: i32
  /** (groups, M, N), where N counts planes and taps. */
  out: Address
  M: i32
  N: i32
  rowsPerBlock: i32
  columnsPerBlock: i32
  rowBlocks: i32
  columnBlocks: i32
  /** Packed columns, for each thread. */
  scratch: Address
  threadBytes: usize
  accumulate: Flag
}

/** The gradient of the weights: a block of a group's matrix, summed over the positions of this pass. */
export function convWeights(args: ConvWeightsArgs, chunk: i32): void {
  const M = args.M
  const N = args.N
  const K = 4 * args.quads
  const perGroup = args.rowBlocks * args.columnBlocks
  const group = chunk / perGroup
  const block = chunk - group * perGroup
  const m = (block % args.rowBlocks) * args.rowsPerBlock
  const n = (block / args.rowBlocks) * args.columnsPerBlock
  const columns = min(N - n, args.columnsPerBlock)
  const packed = args.scratch + <usize>thread * args.threadBytes
  if (!packedAlready(<usize>(group * N + n))) {
    packTaps(
      args.picture + <usize>group * args.groupBytes, args.planeBytes, args.tapCount, N, n, columns, args.list,
      args.quads, packed,
    )
  }
  multiplyPacked(
    args.packedRows + <usize>group * args.rowsStep + <usize>m * <usize>K * WORD, packed,
    min(M - m, args.rowsPerBlock), columns, K, args.out + (<usize>((group * M + m) * N + n) << 2), <usize>N << 2, 0,
    args.accumulate != 0,
  )
}

@unmanaged class ConvSpreadArgs {
  /** (planes, rows, columns); absent for zeros. */
  phase: OptionalAddress
  rows: i32
  columns: i32
  /** (planes, H, W) */
  picture: Address
  planes: i32
  H: i32
  W: i32
  /** The first pixel, and steps. */
  y: i32
  x: i32
  sy: i32
  sx: i32
  planesPerChunk: i32
}

/** Writes one phase of pictures: every sy-th row and every sx-th pixel. */
export function convSpread(args: ConvSpreadArgs, chunk: i32): void {
  const step = <usize>args.sx << 2
  const end = min(args.planes, (chunk + 1) * args.planesPerChunk)
  for (let plane = chunk * args.planesPerChunk; plane < end; ++plane) {
    for (let row = 0; row < args.rows; ++row) {
      let to = args.picture + (<usize>((plane * args.H + args.y + row * args.sy) * args.W + args.x) << 2)
      if (args.phase == 0) {
        for (let c = 0; c < args.columns; ++c, to += step) store<f32>(to, 0)
        continue
      }
      let from = args.phase + (<usize>((plane * args.rows + row) * args.columns) << 2)
      for (let c = 0; c < args.columns; ++c, from += WORD, to += step) store<f32>(to, load<f32>(from))
    }
  }
}

@unmanaged class ConvSwapArgs {
  /** (A, B, length) */
  from: Address
  /** (B, A, length) */
  to: Address
  A: i32
  B: i32
  length: i32
  /** (pictures, B, P) */
  g: Address
  pictures: i32
  P: i32
}

/**
 * Exchanges the first two axes, for one of the second. What is not finite in its planes of g makes NaN of all its results,
 * as the product with zero padding has it.
 */
export function convSwap(args: ConvSwapArgs, chunk: i32): void {
  const bytes = <usize>args.length << 2
  for (let a = 0; a < args.A; ++a) {
    memory.copy(
      args.to + <usize>(chunk * args.A + a) * bytes, args.from + <usize>(a * args.B + chunk) * bytes, bytes,
    )
  }
  const zero = f32x4.splat(0)
  let nothing = zero
  let rest: f32 = 0
  for (let n = 0; n < args.pictures; ++n) {
    let g = args.g + (<usize>((n * args.B + chunk) * args.P) << 2)
    let p = args.P
    for (; p >= 4; p -= 4, g += VEC) nothing = f32x4.add(nothing, f32x4.mul(v128.load(g), zero))
    for (; p > 0; --p, g += WORD) rest += load<f32>(g) * 0
  }
  rest += sumLanes(nothing)
  if (rest == 0) return
  const to = args.to + <usize>(chunk * args.A) * bytes
  for (let at: usize = 0; at < <usize>args.A * bytes; at += WORD) store<f32>(to + at, rest)
}
