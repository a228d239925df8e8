/**
 * Launches permute, slice, pad, concat, gatherRows and scatterAdd. Kernels: kernels/movement.as.ts and gather.as.ts.
 */

import { indexError, type Kernels, type Operand } from '../../../backend.ts'
import { ceilDiv, sizeOf, stridesOf, type Walk } from '../../../shape.ts'
import { type Address, addBytes } from '../memory.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'
import { collapseToRows, outerTable, splitIntoChunks } from './rows.ts'

/** Rows of the result per unit of the transpose kernel: 16 words are the cache line that it reads. */
const BAND = 16

type Names = 'permute' | 'slice' | 'pad' | 'concat' | 'gatherRows' | 'scatterAdd'

export function movement(context: LaunchContext, kernels: () => Kernels): Pick<Kernels, Names> {
  const { runtime } = context
  const { copyRows, transpose, firstBad, gatherRows, scatterAdd, scatterAddInts } = runtime.kernels

  /** Copies a box of `extents` from one address to another, each with its own strides in elements. */
  function copyBox(
    from: Address,
    to: Address,
    extents: readonly number[],
    fromStrides: readonly number[],
    toStrides: readonly number[],
  ): void {
    if (sizeOf(extents) === 0) return
    const walk = collapseToRows(extents, [fromStrides, toStrides])
    const last = walk.extents.length - 1
    const [own, theirs] = walk.strides
    const along = own.indexOf(1)
    if (own[last] !== 1 && theirs[last] === 1 && along >= 0) transposeBox(from, to, walk, along)
    else copyBoxRows(from, to, walk)
  }

  function copyBoxRows(from: Address, to: Address, walk: Walk): void {
    const {
      extents,
      strides: [own, theirs],
    } = walk
    const last = extents.length - 1
    const rows = sizeOf(extents) / extents[last]
    const { rowsPerChunk, columnsPerChunk, columnChunks, chunks } = splitIntoChunks(rows, extents[last])
    const rank = Math.max(0, last - 1)
    runtime.launch(copyRows, chunks, {
      from,
      to,
      length: extents[last],
      fromStep: 4 * own[last],
      toStep: 4 * theirs[last],
      rows,
      rowsPerChunk,
      columnsPerChunk,
      columnChunks,
      rowsPerOuter: last > 0 ? extents[last - 1] : 1,
      fromRowStep: last > 0 ? 4 * own[last - 1] : 0,
      toRowStep: last > 0 ? 4 * theirs[last - 1] : 0,
      rank,
      table: outerTable(walk, rank),
    })
  }

  /** The source runs along axis `along`, the result along the last: matrices to transpose, many of them. */
  function transposeBox(from: Address, to: Address, { extents, strides: [own, theirs] }: Walk, along: number): void {
    const last = extents.length - 1
    const others = extents.map((_, axis) => axis).filter(axis => axis !== along && axis !== last)
    const table = others.flatMap(axis => [extents[axis], 4 * own[axis], 4 * theirs[axis]])
    const [R, C] = [extents[along], extents[last]]
    const units = ceilDiv(R, BAND) * others.reduce((n, axis) => n * extents[axis], 1)
    const unitsPerChunk = Math.max(1, Math.floor(CHUNK / (C * Math.min(R, BAND))))
    runtime.launch(transpose, ceilDiv(units, unitsPerChunk), {
      from,
      to,
      R,
      C,
      fromStep: 4 * own[last],
      toStep: 4 * theirs[along],
      rowsPerUnit: BAND,
      units,
      unitsPerChunk,
      rank: others.length,
      table,
    })
  }

  function checkIndices(op: string, index: Operand, R: number): void {
    const n = sizeOf(index.shape)
    const bad = context.scratch(4, position => {
      runtime.launch(firstBad, 1, { index: addressOf(index), n, R, out: position })
      return runtime.ints(position, 1)[0]
    })
    if (bad < 0) return
    const K = index.shape[1]
    throw indexError(op, R, runtime.ints(addressOf(index), n)[bad], [Math.floor(bad / K), bad % K])
  }

  return {
    permute(x, order, out) {
      const y = context.output(out)
      const own = stridesOf(x.shape)
      copyBox(
        addressOf(x),
        y.address,
        out.shape,
        order.map(axis => own[axis]),
        stridesOf(out.shape),
      )
      return y
    },

    slice(x, starts, out) {
      const y = context.output(out)
      const strides = stridesOf(x.shape)
      const corner = starts.reduce((sum, start, axis) => sum + start * strides[axis], 0)
      copyBox(addBytes(addressOf(x), 4 * corner), y.address, out.shape, strides, stridesOf(out.shape))
      return y
    },

    pad(x, before, value, out) {
      const y = kernels().fill(value, out)
      const strides = stridesOf(out.shape)
      const corner = before.reduce((sum, start, axis) => sum + start * strides[axis], 0)
      copyBox(
        addressOf(x),
        addBytes(addressOf({ ...out, storage: y }), 4 * corner),
        x.shape,
        stridesOf(x.shape),
        strides,
      )
      return y
    },

    concat(xs, axis, out) {
      const y = context.output(out)
      const strides = stridesOf(out.shape)
      let to = y.address
      for (const x of xs) {
        copyBox(addressOf(x), to, x.shape, stridesOf(x.shape), strides)
        to = addBytes(to, 4 * x.shape[axis] * strides[axis])
      }
      return y
    },

    gatherRows(x, index, out) {
      const [, R, D] = x.shape
      const [B, K] = index.shape
      checkIndices('gatherRows', index, R)
      const y = context.output(out)
      const rows = B * K
      const rowsPerChunk = Math.max(1, Math.floor(CHUNK / Math.max(D, 1)))
      runtime.launch(gatherRows, ceilDiv(rows, rowsPerChunk), {
        x: addressOf(x),
        index: addressOf(index),
        y: y.address,
        rows,
        rowsPerChunk,
        K,
        R,
        D,
      })
      return y
    },

    scatterAdd(index, source, out) {
      const [B, R, D] = out.shape
      const K = index.shape[1]
      checkIndices('scatterAdd', index, R)
      const y = context.output(out)
      // Columns in multiples of a cache line, so that threads do not share lines; about CHUNK elements in all.
      const columnsPerChunk = Math.max(64, Math.ceil(CHUNK / Math.max(R + K, 1) / 16) * 16)
      const columnChunks = ceilDiv(D, columnsPerChunk)
      runtime.launch(out.dtype === 'f32' ? scatterAdd : scatterAddInts, B * columnChunks, {
        index: addressOf(index),
        source: addressOf(source),
        y: y.address,
        R,
        K,
        D,
        columnsPerChunk,
        columnChunks,
      })
      return y
    },
  }
}
