/**
 * Launches convolutions and their gradients by the picture, which are convolutions too: divides them into passes and
 * blocks, by shape only. Kernels: kernels/conv.as.ts, conv-pack.as.ts and conv-few.as.ts.
 */

import type { FusedKernels } from '../../../backend.ts'
import { ceilDiv, type Shape } from '../../../shape.ts'
import { type Address, addBytes } from '../memory.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'
import { listBytes, type Pictures, type Positions, passesOf, type Tap, windowOn, withTaps } from './conv-window.ts'
import { blocks, PACK_ROWS } from './matmul.ts'

/** Most positions, and fewest channels, for which channels are the columns of the product. */
const TALL = { positions: 256, channels: 32 }
/** Columns of weights, input channels and taps, that one chunk packs in their own order. */
const ADJOINT_COLUMNS = 288
/** Most channels, and fewest planes, for which taps are rows of the product. */
const FEW = { channels: 8, planes: 16 }
/** Bytes of the products of a band of rows: wanted, and at most. */
const BAND_BYTES = { wanted: 1 << 20, most: 1 << 22 }
/** Rows of a band at least, if there is room: those above and below it are multiplied twice. */
const BAND_ROWS = 16
/** Bytes of columns that are packed at once: they stay in the second-level cache. */
const COLUMN_BYTES = 1 << 16
/** Chunks there should be, so that all threads are busy to the end. */
const ENOUGH = 12
/** Quads of positions that one chunk packs. */
const QUADS = 16

/** Weights (groups · M, planes, kernel) or, for the gradient of the picture, (groups · planes, M, kernel). */
interface Weights {
  readonly address: Address
  readonly adjoint: boolean
  /** Rows of the product, of one group. */
  readonly M: number
  readonly kernel: number
}

export function convolutions(context: LaunchContext): Pick<FusedKernels, 'conv2d' | 'conv2dInputGrad'> {
  const { runtime } = context
  const { gemmPack, convWide, convPackAdjoint, convSpread } = runtime.kernels
  const { convTall, convTallAdjoint, convPackPositions, convFew, convFewPack } = runtime.kernels

  /** out (N, groups · M, positions) = what the weights make of the pixels at each position, plus a bias (groups · M). */
  function convolve(pictures: Pictures, positions: Positions, w: Weights, bias: Address | null, out: Address): void {
    const { N, groups, planes, W } = pictures
    const { rows, columns, stride, taps } = positions
    const unit = stride[0] === 1 && stride[1] === 1
    const few = groups === 1 && unit && taps.length > 1 && w.M <= FEW.channels && planes >= FEW.planes
    if (few && productBytes(w.M, taps) * (spanOf(taps) * W + 24) <= BAND_BYTES.most)
      convolveFew(pictures, positions, w, bias, out)
    else if (groups === 1 && 4 * N * ceilDiv(rows * columns, 4) <= TALL.positions && w.M >= TALL.channels && !w.adjoint)
      convolveTall(pictures, positions, w, bias, out)
    else convolveWide(pictures, positions, w, bias, out)
  }

  function convolveWide(
    { address, N, groups, planes, H, W }: Pictures,
    { rows, columns, stride: [sy, sx], taps }: Positions,
    w: Weights,
    bias: Address | null,
    out: Address,
  ): void {
    const { M, kernel } = w
    const P = rows * columns
    const { perPass } = passesOf(planes, taps.length)
    const steps = perPass * taps.length
    const { rowsPerBlock, columnsPerBlock } = blocks(M, P, steps, N * groups)
    const [rowBlocks, columnBlocks] = [ceilDiv(M, rowsPerBlock), ceilDiv(P, columnsPerBlock)]
    const weightStep = 4 * ceilDiv(M, 4) * 4 * steps
    const packedBytes = 4 * columnsPerBlock * steps
    const threadBytes = packedBytes + listBytes(columnsPerBlock / 4, taps.length)
    withTaps(context, taps, [groups * weightStep, runtime.threads * threadBytes], (table, weights, scratch) => {
      for (let plane = 0; plane < planes; plane += perPass) {
        const count = Math.min(perPass, planes - plane)
        packWeights(w, groups, planes, plane, count, table, taps.length, weights, weightStep)
        runtime.launch(convWide, N * groups * rowBlocks * columnBlocks, {
          weights,
          weightStep,
          groups,
          picture: addBytes(address, 4 * plane * H * W),
          groupBytes: 4 * planes * H * W,
          planeBytes: 4 * H * W,
          planes: count,
          H,
          W,
          sy,
          sx,
          columns,
          P,
          taps: table,
          tapCount: taps.length,
          out,
          M,
          bias: plane + count === planes ? bias : null,
          rowsPerBlock,
          columnsPerBlock,
          rowBlocks,
          columnBlocks,
          scratch,
          threadBytes,
          packedBytes,
          accumulate: plane > 0,
        })
      }
    })

    function packWeights(
      { address, adjoint, M }: Weights,
      groups: number,
      planes: number,
      plane: number,
      count: number,
      table: Address,
      tapCount: number,
      packed: Address,
      packedStep: number,
    ): void {
      const chunksPerGroup = ceilDiv(M, PACK_ROWS)
      if (adjoint)
        runtime.launch(convPackAdjoint, groups * chunksPerGroup, {
          w: address,
          O: planes,
          C: M,
          kernel,
          taps: table,
          tapCount,
          firstPlane: plane,
          planes: count,
          packed,
          packedStep,
          rowsPerChunk: PACK_ROWS,
          chunksPerGroup,
        })
      else
        runtime.launch(gemmPack, groups * chunksPerGroup, {
          a: addBytes(address, 4 * plane * kernel),
          matrixStep: 4 * M * planes * kernel,
          rowStep: 4 * planes * kernel,
          kStep: 4,
          M,
          K: count * kernel,
          packed,
          packedStep,
          rowsPerChunk: PACK_ROWS,
          chunksPerMatrix: chunksPerGroup,
          sums: null,
          accumulate: false,
        })
    }
  }

  function convolveTall(
    { address, N, planes, H, W }: Pictures,
    { rows, columns, stride: [sy, sx], taps }: Positions,
    { address: w, M, kernel }: Weights,
    bias: Address | null,
    out: Address,
  ): void {
    const P = rows * columns
    const quadsPerPicture = ceilDiv(P, 4)
    const { passes, perPass } = passesOf(planes, kernel)
    const passBytes = 16 * N * quadsPerPicture * perPass * kernel
    const quadsPerChunk = Math.min(QUADS, quadsPerPicture)
    const chunksPerPicture = ceilDiv(quadsPerPicture, quadsPerChunk)
    const channelsPerChunk = Math.max(8, Math.min(32, ceilDiv(ceilDiv(M, ENOUGH), 8) * 8))
    const packedBytes = 4 * channelsPerChunk * perPass * kernel
    const threadBytes = Math.max(
      packedBytes + 16 * N * quadsPerPicture * channelsPerChunk,
      listBytes(quadsPerChunk, kernel),
    )
    withTaps(context, taps, [passes * passBytes, runtime.threads * threadBytes], (table, packed, scratch) => {
      runtime.launch(convPackPositions, passes * N * chunksPerPicture, {
        picture: address,
        pictureBytes: 4 * planes * H * W,
        planeBytes: 4 * H * W,
        planes,
        planesPerPass: perPass,
        H,
        W,
        sy,
        sx,
        columns,
        P,
        taps: table,
        tapCount: kernel,
        quadsPerPicture,
        quadsPerChunk,
        chunksPerPicture,
        pictures: N,
        packed,
        passBytes,
        scratch,
        threadBytes,
      })
      runtime.launch(convTall, ceilDiv(M, channelsPerChunk), {
        packed,
        passBytes,
        pictures: N,
        quadsPerPicture,
        P,
        w,
        M,
        planes,
        planesPerPass: perPass,
        kernel,
        out,
        bias,
        channelsPerChunk,
        scratch,
        threadBytes,
        packedBytes,
      })
    })
  }

  function convolveFew(
    { address, N, planes, H, W }: Pictures,
    { rows, columns, taps }: Positions,
    { address: w, adjoint, M, kernel }: Weights,
    bias: Address | null,
    out: Address,
  ): void {
    const { passes, perPass } = passesOf(planes, 1)
    const bytes = productBytes(M, taps)
    const more = spanOf(taps) - 1
    const fit = Math.floor((BAND_BYTES.wanted / bytes - 24) / W) - more
    const rowsPerBand = Math.max(1, Math.min(fit, Math.max(BAND_ROWS, ceilDiv(N * rows, ENOUGH)), rows))
    const bands = ceilDiv(rows, rowsPerBand)
    const columnsPerBlock = Math.max(8, Math.floor(COLUMN_BYTES / (32 * perPass)) * 8)
    const passBytes = bytes * perPass
    const packedBytes = 4 * columnsPerBlock * perPass
    const threadBytes = packedBytes + bytes * (Math.min(H, rowsPerBand + more) * W + 24)
    withTaps(context, taps, [passes * passBytes, runtime.threads * threadBytes], (table, weights, scratch) => {
      runtime.launch(convFewPack, passes, {
        w,
        mStep: 4 * kernel * (adjoint ? 1 : planes),
        kStep: 4 * kernel * (adjoint ? M : 1),
        M,
        taps: table,
        tapCount: taps.length,
        planes,
        planesPerPass: perPass,
        packed: weights,
        passBytes,
      })
      runtime.launch(convFew, N * bands, {
        weights,
        passBytes,
        picture: address,
        planes,
        planesPerPass: perPass,
        H,
        W,
        taps: table,
        tapCount: taps.length,
        out,
        M,
        rows,
        columns,
        bias,
        rowsPerBand,
        bands,
        columnsPerBlock,
        scratch,
        threadBytes,
        packedBytes,
      })
    })
  }

  /** The gradient of pictures (N, M, H, W) at `out`, where g (N, planes, P) has few positions. */
  function convolveTallAdjoint(
    g: Pictures,
    { rows, columns, stride: [sy, sx], taps }: Positions,
    { address: w, M, kernel }: Weights,
    { address: out, H, W }: Pictures,
  ): void {
    const { address, N, planes } = g
    const P = rows * columns
    const { passes, perPass } = passesOf(planes, 1)
    const pictureBytes = 16 * ceilDiv(P, 4) * perPass
    const passBytes = N * pictureBytes
    const channelsPerChunk = Math.max(1, Math.min(M, Math.max(8, Math.floor(ADJOINT_COLUMNS / kernel))))
    const columnCount = ceilDiv(channelsPerChunk * kernel, 8) * 8
    const packedBytes = 4 * columnCount * perPass
    const threadBytes = packedBytes + 4 * N * P * columnCount
    withTaps(context, taps, [passes * passBytes, runtime.threads * threadBytes], (table, packed, scratch) => {
      for (let pass = 0; pass < passes; pass++)
        runtime.launch(gemmPack, N * ceilDiv(P, PACK_ROWS), {
          a: addBytes(address, 4 * pass * perPass * P),
          matrixStep: 4 * planes * P,
          rowStep: 4,
          kStep: 4 * P,
          M: P,
          K: Math.min(perPass, planes - pass * perPass),
          packed: addBytes(packed, pass * passBytes),
          packedStep: pictureBytes,
          rowsPerChunk: PACK_ROWS,
          chunksPerMatrix: ceilDiv(P, PACK_ROWS),
          sums: null,
          accumulate: false,
        })
      runtime.launch(convTallAdjoint, ceilDiv(M, channelsPerChunk), {
        packed,
        passBytes,
        pictureBytes,
        pictures: N,
        P,
        columns,
        w,
        M,
        planes,
        planesPerPass: perPass,
        taps: table,
        kernel,
        sy,
        sx,
        out,
        H,
        W,
        channelsPerChunk,
        scratch,
        threadBytes,
        packedBytes,
      })
    })
  }

  /** Writes one phase (planes, rows, columns) of pictures (planes, H, W), or zeros. */
  function spread(
    phase: Address | null,
    [rows, columns]: Pair,
    to: Address,
    shape: Shape,
    first: Pair,
    step: Pair,
  ): void {
    const planes = shape[0] * shape[1]
    const planesPerChunk = Math.max(1, Math.floor(CHUNK / (rows * columns)))
    runtime.launch(convSpread, ceilDiv(planes, planesPerChunk), {
      phase,
      rows,
      columns,
      picture: to,
      planes,
      H: shape[2],
      W: shape[3],
      y: first[0],
      x: first[1],
      sy: step[0],
      sx: step[1],
      planesPerChunk,
    })
  }

  return {
    conv2d(x, w, b, conv, out) {
      const y = context.output(out)
      const [O, , kh, kw] = w.shape
      const { pictures, positions } = windowOn(addressOf(x), x.shape, conv)
      const weights = { address: addressOf(w), adjoint: false, M: O / conv.groups, kernel: kh * kw }
      convolve(pictures, positions, weights, addressOf(b), y.address)
      return y
    },

    conv2dInputGrad(g, w, conv, out) {
      const y = context.output(out)
      const [O, C, kh, kw] = w.shape
      const { pictures, positions } = windowOn(y.address, out.shape, conv)
      const { N, groups, H, W } = pictures
      const gradient = { address: addressOf(g), N, groups, planes: O / groups, H: positions.rows, W: positions.columns }
      const weights = { address: addressOf(w), adjoint: true, M: C, kernel: kh * kw }
      if (groups === 1 && N * positions.rows * positions.columns <= TALL.positions && C >= TALL.channels) {
        convolveTallAdjoint(gradient, positions, weights, pictures)
        return y
      }
      const [sy, sx] = positions.stride
      for (let first = 0; first < Math.min(sy, H) * sx; first++) {
        const [py, px] = [Math.floor(first / sx), first % sx]
        if (px >= W) continue
        const [rows, columns] = [ceilDiv(H - py, sy), ceilDiv(W - px, sx)]
        // The positions whose tap falls on these pixels.
        const taps = positions.taps
          .map(([down, right, place]): Tap => [(py - down) / sy, (px - right) / sx, place])
          .filter(([down, right]) => Number.isInteger(down) && Number.isInteger(right))
        const phase = { rows, columns, stride: [1, 1], taps } as const
        if (sy * sx === 1) convolve(gradient, phase, weights, null, y.address)
        else if (taps.length === 0) spread(null, [rows, columns], y.address, out.shape, [py, px], [sy, sx])
        else
          context.scratch(4 * N * groups * C * rows * columns, part => {
            convolve(gradient, phase, weights, null, part)
            spread(part, [rows, columns], y.address, out.shape, [py, px], [sy, sx])
          })
      }
      return y
    },
  }
}

type Pair = readonly [number, number]

/** Bytes that the products of one pixel with all channels and taps take, in whole panels of 4. */
function productBytes(M: number, taps: readonly Tap[]): number {
  return 16 * ceilDiv(M * taps.length, 4)
}

/** Rows that the taps of one position span. */
function spanOf(taps: readonly Tap[]): number {
  const rows = taps.map(([down]) => down)
  return 1 + Math.max(...rows) - Math.min(...rows)
}
