/**
 * The patch under each position of a sliding window as a column, and the adjoint. One tap of the window at a time: its
 * copies for a whole row of positions lie side by side in the result and evenly spaced in the picture.
 */

import { Address } from './arguments.as'
import { VEC } from './simd.as'
import { copyWords } from './movement.as'

/** The first position ≥ 0 whose tap falls on a pixel ≥ 0: ⌈−offset / stride⌉. */
@inline
function firstInside(offset: i32, stride: i32): i32 {
  return offset >= 0 ? 0 : (stride - 1 - offset) / stride
}

/** One past the last position (of n) whose tap falls on a pixel < extent. */
@inline
function endInside(offset: i32, stride: i32, extent: i32, n: i32): i32 {
  return offset >= extent ? 0 : min(n, (extent - 1 - offset) / stride + 1)
}

@unmanaged class WindowArgs {
  /** (N, C, H, W) */
  image: Address
  /** (N, C·kh·kw, outH·outW) */
  patches: Address
  /** N·C */
  planes: i32
  planesPerChunk: i32
  H: i32
  W: i32
  kh: i32
  kw: i32
  /** Strides of the window. */
  dy: i32
  dx: i32
  /** Dilations: pixels from tap to tap. */
  tapY: i32
  tapX: i32
  /** Padding above and on the left. */
  top: i32
  left: i32
  /** Positions of the window. */
  outH: i32
  outW: i32
}

/** Image → patches */
export function unfold(args: WindowArgs, chunk: i32): void {
  const H = args.H, W = args.W, kh = args.kh, kw = args.kw
  const dy = args.dy, dx = args.dx, tapY = args.tapY, tapX = args.tapX
  const outH = args.outH, outW = args.outW
  const per = args.planesPerChunk
  const end = min(args.planes, (chunk + 1) * per)
  let to = args.patches + ((<usize>(chunk * per) * (kh * kw * outH * outW)) << 2)
  for (let plane = chunk * per; plane < end; ++plane) {
    const from = args.image + ((<usize>plane * (H * W)) << 2)
    for (let i = 0; i < kh; ++i) {
      for (let j = 0; j < kw; ++j) {
        const offset = j * tapX - args.left
        const stop = endInside(offset, dx, W, outW)
        const start = min(firstInside(offset, dx), stop)
        for (let row = 0; row < outH; ++row, to += <usize>outW << 2) {
          const y = row * dy + i * tapY - args.top
          if (y < 0 || y >= H) {
            memory.fill(to, 0, <usize>outW << 2)
            continue
          }
          for (let c = 0; c < start; ++c) store<u32>(to + (<usize>c << 2), 0)
          for (let c = stop; c < outW; ++c) store<u32>(to + (<usize>c << 2), 0)
          let pixel = from + (<usize>(y * W + start * dx + offset) << 2)
          if (dx == 1) copyWords(pixel, to + (<usize>start << 2), stop - start)
          else {
            for (let c = start; c < stop; ++c, pixel += <usize>dx << 2)
              store<u32>(to + (<usize>c << 2), load<u32>(pixel))
          }
        }
      }
    }
  }
}

/** Patches → image, the adjoint: patches are summed where they overlap, in the order of the taps. */
@inline
function foldOf<T>(args: WindowArgs, chunk: i32): void {
  const H = args.H, W = args.W, kh = args.kh, kw = args.kw
  const dy = args.dy, dx = args.dx, tapY = args.tapY, tapX = args.tapX
  const outH = args.outH, outW = args.outW
  const per = args.planesPerChunk
  const end = min(args.planes, (chunk + 1) * per)
  let from = args.patches + ((<usize>(chunk * per) * (kh * kw * outH * outW)) << 2)
  for (let plane = chunk * per; plane < end; ++plane) {
    const to = args.image + ((<usize>plane * (H * W)) << 2)
    memory.fill(to, 0, <usize>(H * W) << 2)
    for (let i = 0; i < kh; ++i) {
      for (let j = 0; j < kw; ++j) {
        const offset = j * tapX - args.left
        const stop = endInside(offset, dx, W, outW)
        const start = min(firstInside(offset, dx), stop)
        for (let row = 0; row < outH; ++row, from += <usize>outW << 2) {
          const y = row * dy + i * tapY - args.top
          if (y < 0 || y >= H) continue
          let pixel = to + (<usize>(y * W + start * dx + offset) << 2)
          let c = start
          if (dx == 1) {
            for (; c + 4 <= stop; c += 4, pixel += VEC)
              v128.store(pixel, v128.add<T>(v128.load(pixel), v128.load(from + (<usize>c << 2))))
          }
          for (; c < stop; ++c, pixel += <usize>dx << 2)
            store<T>(pixel, <T>(load<T>(pixel) + load<T>(from + (<usize>c << 2))))
        }
      }
    }
  }
}

export function fold(args: WindowArgs, chunk: i32): void { foldOf<f32>(args, chunk) }
export function foldInts(args: WindowArgs, chunk: i32): void { foldOf<i32>(args, chunk) }
