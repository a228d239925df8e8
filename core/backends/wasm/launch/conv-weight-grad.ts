/**
 * Launches the gradient of a convolution's weights: a product over all positions, whose rows are planes of g and whose
 * columns are the taps of the picture's planes. With a stride of 1 the two may be exchanged, which pays if g has far fewer
 * planes: each is then packed once for each tap in place of the picture's. Kernels: kernels/conv.as.ts, conv-pack.as.ts.
 */

import type { FusedKernels } from '../../../backend.ts'
import { ceilDiv } from '../../../shape.ts'
import type { Address } from '../memory.ts'
import { addressOf, type LaunchContext } from '../storage.ts'
import { listBytes, type Pictures, type Positions, type Tap, windowOn, withTaps } from './conv-window.ts'
import { blocks, PACK_ROWS } from './matmul.ts'

/** Quads of positions in one pass at most: 512 steps of k, as in matmul.ts. */
const PASS_QUADS = 128
/** Quads that one chunk lists. */
const LIST_QUADS = 16
/** Ratio of planes of the picture to those of g from which the picture becomes the rows. */
const FEWER = 4

/** Planes (N, groups · M, P) that are the rows of the product. */
interface Rows {
  readonly address: Address
  readonly M: number
}

export function convWeightGrad(context: LaunchContext): Pick<FusedKernels, 'conv2dWeightGrad'> {
  const { runtime } = context
  const { convLocate, convPackPlanes, convWeights, convSwap } = runtime.kernels

  /** out (groups, M, planes, taps) = Σ over all positions of a row's plane times what the tap sees. */
  function multiply(
    { address: planesOfRows, M }: Rows,
    { address, N, groups, planes, H, W }: Pictures,
    { rows, columns, stride: [sy, sx], taps }: Positions,
    out: Address,
  ): void {
    const P = rows * columns
    const tapCount = taps.length
    const quadsPerPicture = ceilDiv(P, 4)
    const total = N * quadsPerPicture
    const perPass = ceilDiv(total, ceilDiv(total, PASS_QUADS))
    const columnCount = planes * tapCount
    const { rowsPerBlock, columnsPerBlock } = blocks(M, columnCount, 4 * perPass, groups)
    const [rowBlocks, columnBlocks] = [ceilDiv(M, rowsPerBlock), ceilDiv(columnCount, columnsPerBlock)]
    const rowsStep = 16 * ceilDiv(M, 4) * 4 * perPass
    const threadBytes = 16 * columnsPerBlock * perPass
    const chunksPerGroup = ceilDiv(M, PACK_ROWS)
    const sizes = [listBytes(perPass, tapCount), groups * rowsStep, runtime.threads * threadBytes]
    withTaps(context, taps, sizes, (table, list, packed, scratch) => {
      for (let firstQuad = 0; firstQuad < total; firstQuad += perPass) {
        const quads = Math.min(perPass, total - firstQuad)
        runtime.launch(convLocate, ceilDiv(quads, LIST_QUADS), {
          taps: table,
          tapCount,
          H,
          W,
          sy,
          sx,
          columns,
          P,
          pictureBytes: 4 * groups * planes * H * W,
          quadsPerPicture,
          firstQuad,
          quads,
          quadsPerChunk: LIST_QUADS,
          list,
        })
        runtime.launch(convPackPlanes, groups * chunksPerGroup, {
          planes: planesOfRows,
          pictureBytes: 4 * groups * M * P,
          M,
          P,
          quadsPerPicture,
          firstQuad,
          quads,
          packed,
          packedStep: rowsStep,
          rowsPerChunk: PACK_ROWS,
          chunksPerGroup,
        })
        runtime.launch(convWeights, groups * rowBlocks * columnBlocks, {
          packedRows: packed,
          rowsStep,
          picture: address,
          groupBytes: 4 * planes * H * W,
          planeBytes: 4 * H * W,
          tapCount,
          list,
          quads,
          out,
          M,
          N: columnCount,
          rowsPerBlock,
          columnsPerBlock,
          rowBlocks,
          columnBlocks,
          scratch,
          threadBytes,
          accumulate: firstQuad > 0,
        })
      }
    })
  }

  return {
    conv2dWeightGrad(g, x, conv, out) {
      const y = context.output(out)
      const { pictures, positions } = windowOn(addressOf(x), x.shape, conv)
      const { groups, planes, H, W } = pictures
      const { rows, columns, stride, taps } = positions
      const [O] = out.shape
      const exchanged = groups === 1 && stride[0] === 1 && stride[1] === 1 && FEWER * O <= planes
      if (!exchanged) {
        multiply({ address: addressOf(g), M: O / groups }, pictures, positions, y.address)
        return y
      }
      const mirrored = taps.map(([down, right, place]): Tap => [-down, -right, place])
      context.scratch(4 * y.length, exchangedOut => {
        multiply(
          { address: pictures.address, M: planes },
          { ...pictures, address: addressOf(g), planes: O, H: rows, W: columns },
          { rows: H, columns: W, stride, taps: mirrored },
          exchangedOut,
        )
        runtime.launch(convSwap, O, {
          from: exchangedOut,
          to: y.address,
          A: planes,
          B: O,
          length: taps.length,
          g: addressOf(g),
          pictures: pictures.N,
          P: rows * columns,
        })
      })
      return y
    },
  }
}
