/**
 * Packing for convolutions: the panels that gemm.as.ts multiplies, read from the picture itself instead of from unfolded
 * columns. Four positions of the window at a time are a quad. `locate` lists where the pixels of each quad lie in a plane,
 * tap by tap, and which of them are padding. The list serves all planes. Where four pixels are contiguous, they are one
 * load and one mask.
 */

import { Address } from './arguments.as'
import { VEC, WORD } from './simd.as'
import { packRows, storeTransposed } from './gemm.as'

/** Bytes of a tap in the table of taps: pixels down and to the right of the position, and its place in the kernel. */
export const TAP_BYTES: usize = 12
/** Bytes of a tap in the list of a quad: four offsets in bytes, and a mask of the pixels inside the picture. */
const ENTRY: usize = 32

/** Bytes that `locate` writes for a quad: a word that is 1 where the pixels of each tap are contiguous, then its taps. */
@inline
export function quadBytes(tapCount: i32): usize {
  return VEC + <usize>tapCount * ENTRY
}

/** A tap of a quad whose four positions lie in one row: the pixels x to x + 3 of row y, `shift` bytes further. */
@inline
function locateRow(to: usize, y: i32, x: i32, H: i32, W: i32, shift: usize): void {
  if (y < 0 || y >= H || x <= -4 || x >= W) {
    store<usize>(to, shift)
    v128.store(to, i32x4.splat(0), VEC)
    return
  }
  store<usize>(to, shift + (<usize>(y * W + x) << 2))
  const lanes = i32x4.add(i32x4.splat(x), i32x4(0, 1, 2, 3))
  v128.store(to, v128.and(i32x4.ge_s(lanes, i32x4.splat(0)), i32x4.lt_s(lanes, i32x4.splat(W))), VEC)
}

/**
 * Lists the pixels of `quads` quads from position `first` on, a multiple of 4. Of P positions, `columns` lie in a row, and
 * they are sy rows and sx pixels apart. Positions from P on count as padding. Offsets begin at `shift` bytes.
 */
export function locate(
  taps: usize, tapCount: i32, H: i32, W: i32, sy: i32, sx: i32, columns: i32, P: i32, first: i32, quads: i32, shift: usize,
  to: usize,
): void {
  const size = quadBytes(tapCount)
  let row = first / columns
  let column = first - row * columns
  for (let p = first; quads > 0; --quads, p += 4, to += size) {
    const contiguous = sx == 1 && p < P && column + 4 <= columns
    store<i32>(to, contiguous ? 1 : 0)
    let entry = to + VEC
    let tap = taps
    if (contiguous) {
      for (let t = 0; t < tapCount; ++t, entry += ENTRY, tap += TAP_BYTES) {
        locateRow(entry, row * sy + load<i32>(tap), column + load<i32>(tap, 4), H, W, shift)
      }
    } else {
      let r = row
      let c = column
      for (let lane = 0; lane < 4; ++lane) {
        entry = to + VEC + (<usize>lane << 2)
        tap = taps
        for (let t = 0; t < tapCount; ++t, entry += ENTRY, tap += TAP_BYTES) {
          const y = r * sy + load<i32>(tap)
          const x = c * sx + load<i32>(tap, 4)
          const inside = p + lane < P && y >= 0 && y < H && x >= 0 && x < W
          store<usize>(entry, inside ? shift + (<usize>(y * W + x) << 2) : shift)
          store<i32>(entry, inside ? -1 : 0, VEC)
        }
        c += 1
        if (c == columns) {
          c = 0
          r += 1
        }
      }
    }
    column += 4
    while (column >= columns) {
      column -= columns
      row += 1
    }
  }
}

/** The pixels of one tap of a quad, zeros in the padding. */
@inline
function pixels(plane: usize, entry: usize, contiguous: bool): v128 {
  const mask = v128.load(entry, VEC)
  if (contiguous) return v128.and(v128.load(plane + load<usize>(entry)), mask)
  const v = f32x4(
    load<f32>(plane + load<usize>(entry)),
    load<f32>(plane + load<usize>(entry, 4)),
    load<f32>(plane + load<usize>(entry, 8)),
    load<f32>(plane + load<usize>(entry, 12)),
  )
  return v128.and(v, mask)
}

/**
 * Positions → panels of 4 · `perPanel` (1 or 2 quads): for each panel, for each plane and tap, its pixels. Panels lie
 * `panelBytes` apart.
 */
export function packPositions(
  plane: usize, planeBytes: usize, planes: i32, tapCount: i32, list: usize, quads: i32, perPanel: i32, to: usize,
  panelBytes: usize,
): void {
  const step = <usize>perPanel * VEC
  const taps = <usize>tapCount
  for (let i = 0; i < planes; ++i, plane += planeBytes, to += taps * step) {
    let entry = list
    for (let q = 0; q < quads; ++q) {
      const contiguous = load<i32>(entry) != 0
      let t = perPanel == 2 ? to + <usize>(q >> 1) * panelBytes + <usize>(q & 1) * VEC : to + <usize>q * panelBytes
      entry += VEC
      const end = entry + taps * ENTRY
      if (contiguous) for (; entry < end; entry += ENTRY, t += step) v128.store(t, pixels(plane, entry, true))
      else for (; entry < end; entry += ENTRY, t += step) v128.store(t, pixels(plane, entry, false))
    }
  }
}

/**
 * Columns `first` to `first` + `count` of a matrix whose rows are the positions of `quads` quads and whose N columns are
 * the taps of all planes → panels of 8. What a panel has beyond its last column is that column again.
 */
export function packTaps(
  picture: usize, planeBytes: usize, tapCount: i32, N: i32, first: i32, count: i32, list: usize, quads: i32, to: usize,
): void {
  const panel = <usize>quads * (8 * VEC)
  const size = quadBytes(tapCount)
  for (let i = 0; i < ((count + 7) & ~7); i += 4) {
    const n0 = min(first + i, N - 1)
    const n1 = min(first + i + 1, N - 1)
    const n2 = min(first + i + 2, N - 1)
    const n3 = min(first + i + 3, N - 1)
    const c0 = n0 / tapCount, c1 = n1 / tapCount, c2 = n2 / tapCount, c3 = n3 / tapCount
    const p0 = picture + <usize>c0 * planeBytes
    const p1 = picture + <usize>c1 * planeBytes
    const p2 = picture + <usize>c2 * planeBytes
    const p3 = picture + <usize>c3 * planeBytes
    const e0 = VEC + <usize>(n0 - c0 * tapCount) * ENTRY
    const e1 = VEC + <usize>(n1 - c1 * tapCount) * ENTRY
    const e2 = VEC + <usize>(n2 - c2 * tapCount) * ENTRY
    const e3 = VEC + <usize>(n3 - c3 * tapCount) * ENTRY
    let t = to + <usize>(i >> 3) * panel + <usize>(i & 4) * WORD
    let q = list
    for (let k = 0; k < quads; ++k, q += size, t += 8 * VEC) {
      if (load<i32>(q) != 0) {
        storeTransposed(
          pixels(p0, q + e0, true), pixels(p1, q + e1, true), pixels(p2, q + e2, true), pixels(p3, q + e3, true), t,
          2 * VEC,
        )
      } else {
        storeTransposed(
          pixels(p0, q + e0, false), pixels(p1, q + e1, false), pixels(p2, q + e2, false), pixels(p3, q + e3, false), t,
          2 * VEC,
        )
      }
    }
  }
}

@unmanaged class ConvLocateArgs {
  taps: Address
  tapCount: i32
  H: i32
  W: i32
  sy: i32
  sx: i32
  columns: i32
  P: i32
  /** Bytes from picture to picture. */
  pictureBytes: usize
  quadsPerPicture: i32
  /** First of the quads of all pictures. */
  firstQuad: i32
  quads: i32
  quadsPerChunk: i32
  list: Address
}

/** Lists the pixels of quads of several pictures, one picture after the other. */
export function convLocate(args: ConvLocateArgs, chunk: i32): void {
  const perPicture = args.quadsPerPicture
  let done = chunk * args.quadsPerChunk
  const end = min(args.quads, done + args.quadsPerChunk)
  while (done < end) {
    const at = args.firstQuad + done
    const n = at / perPicture
    const first = at - n * perPicture
    const count = min(end - done, perPicture - first)
    locate(
      args.taps, args.tapCount, args.H, args.W, args.sy, args.sx, args.columns, args.P, 4 * first, count,
      <usize>n * args.pictureBytes, args.list + <usize>done * quadBytes(args.tapCount),
    )
    done += count
  }
}

@unmanaged class ConvPackPlanesArgs {
  /** Pictures `pictureBytes` apart, of groups of M planes of P floats each. */
  planes: Address
  pictureBytes: usize
  M: i32
  P: i32
  quadsPerPicture: i32
  /** First of the quads of all pictures. */
  firstQuad: i32
  quads: i32
  /** Groups of packed rows, `packedStep` bytes apart. */
  packed: Address
  packedStep: usize
  /** Rows per chunk, a multiple of 4. */
  rowsPerChunk: i32
  chunksPerGroup: i32
}

/** Planes as rows, their positions as steps of k → panels of 4 rows. Steps beyond the last position of a picture are zeros. */
export function convPackPlanes(args: ConvPackPlanesArgs, chunk: i32): void {
  const M = args.M
  const P = args.P
  const perPicture = args.quadsPerPicture
  const quads = args.quads
  const group = chunk / args.chunksPerGroup
  const start = (chunk - group * args.chunksPerGroup) * args.rowsPerChunk
  const end = min(M, start + args.rowsPerChunk)
  const planeBytes = <usize>P << 2
  for (let m = start; m < end; m += 4) {
    let to = args.packed + <usize>group * args.packedStep + <usize>m * <usize>quads * VEC
    const from = args.planes + <usize>(group * M + m) * planeBytes
    for (let done = 0; done < quads;) {
      const n = (args.firstQuad + done) / perPicture
      const first = args.firstQuad + done - n * perPicture
      const count = min(quads - done, perPicture - first)
      const length = min(P - 4 * first, 4 * count)
      packRows(
        from + <usize>n * args.pictureBytes + <usize>first * VEC, planeBytes, WORD, min(end - m, 4), length, to,
      )
      memory.fill(to + <usize>length * VEC, 0, <usize>(4 * count - length) * VEC)
      to += <usize>count * (4 * VEC)
      done += count
    }
  }
}

@unmanaged class ConvPackAdjointArgs {
  /** (groups, O, C, kernel) */
  w: Address
  /** Output channels of a group. */
  O: i32
  C: i32
  /** Taps of the kernel, and those that are packed: `tapCount` of them, in the kernel's order. */
  kernel: i32
  taps: Address
  tapCount: i32
  /** The steps of k are these output channels, and their taps. */
  firstPlane: i32
  planes: i32
  packed: Address
  packedStep: usize
  /** Rows per chunk, a multiple of 4. */
  rowsPerChunk: i32
  chunksPerGroup: i32
}

/** Weights for the gradient of the picture, rows of input channels → panels of 4. */
export function convPackAdjoint(args: ConvPackAdjointArgs, chunk: i32): void {
  const C = args.C
  const kernel = args.kernel
  const tapCount = args.tapCount
  const planes = args.planes
  const group = chunk / args.chunksPerGroup
  const start = (chunk - group * args.chunksPerGroup) * args.rowsPerChunk
  const end = min(C, start + args.rowsPerChunk)
  const panel = <usize>(planes * tapCount) * WORD // bytes of a row
  const channel = <usize>kernel << 2
  const plane = <usize>C * channel
  const w = args.w + <usize>(group * args.O + args.firstPlane) * plane
  const packed = args.packed + <usize>group * args.packedStep
  if (kernel == 1) {
    packRows(w + <usize>start * channel, WORD, plane, end - start, planes, packed + <usize>start * panel)
    return
  }
  for (let c = start; c < end; c += 4) {
    const rows = min(end - c, 4)
    let to = packed + <usize>c * panel
    let from = w + <usize>c * channel
    for (let o = 0; o < planes; ++o, from += plane) {
      if (tapCount == kernel) {
        packRows(from, channel, WORD, rows, kernel, to)
        to += <usize>kernel * VEC
      } else {
        let tap = args.taps
        for (let t = 0; t < tapCount; ++t, tap += TAP_BYTES, to += VEC) {
          packRows(from + (<usize>load<i32>(tap, 8) << 2), channel, WORD, rows, 1, to)
        }
      }
    }
  }
}
