/**
 * Launches reductions. Axes are collapsed into groups, reduced ones and kept ones in turn. Each reduced group, the last
 * one first, is one pass: over rows if no group is kept after it, over columns otherwise. A pass over much data with few
 * results is divided into segments and followed by a pass over the segments. Kernels: kernels/reduce.as.ts.
 */

import { type Kernels, type ReduceName, reduceIdentity } from '../../../backend.ts'
import { ceilDiv, type ReduceGroup, reduceGroups, sizeOf } from '../../../shape.ts'
import type { Address } from '../memory.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'

/** Columns that one pass of the column kernel takes: their running results stay in the first-level cache. */
const BLOCK_COLUMNS = 1024

/** Rows of a segment of columns at most: a column is one chain of sums of eight. */
const SEGMENT_ROWS = 256

/** Passes over (outer, R, inner) → (outer, inner), from address to address. */
export type Reduce = (name: ReduceName, from: Address, to: Address, outer: number, R: number, inner: number) => void

export function reducer(context: LaunchContext): Reduce {
  const { runtime } = context
  const { rowsSum, rowsMax, rowsMin, columnsSum, columnsMax, columnsMin } = runtime.kernels
  const rowKernels = { sum: rowsSum, max: rowsMax, min: rowsMin }
  const columnKernels = { sum: columnsSum, max: columnsMax, min: columnsMin }

  function rows(name: ReduceName, from: Address, to: Address, count: number, R: number): void {
    const length = R > 2 * CHUNK ? CHUNK : R
    const segmentsPerRow = ceilDiv(R, length)
    const segments = count * segmentsPerRow
    const segmentsPerChunk = Math.max(1, Math.floor(CHUNK / length))
    const launch = (y: Address) =>
      runtime.launch(rowKernels[name], ceilDiv(segments, segmentsPerChunk), {
        x: from,
        y,
        R,
        segments,
        segmentsPerChunk,
        segmentLength: length,
        segmentsPerRow,
      })
    if (segmentsPerRow === 1) launch(to)
    else
      context.scratch(4 * segments, slots => {
        launch(slots)
        rows(name, slots, to, count, segmentsPerRow)
      })
  }

  function columns(name: ReduceName, from: Address, to: Address, outer: number, R: number, inner: number): void {
    const columnsPerBlock = Math.min(inner, BLOCK_COLUMNS)
    const columnBlocks = ceilDiv(inner, columnsPerBlock)
    // As few segments as there are enough of, each of at least 64 rows.
    const wanted = Math.ceil(64 / (outer * columnBlocks))
    const rowsPerSegment = Math.min(SEGMENT_ROWS, Math.max(64, ceilDiv(CHUNK, columnsPerBlock), ceilDiv(R, wanted)))
    const segments = ceilDiv(R, rowsPerSegment)
    const units = outer * segments * columnBlocks
    const unitsPerChunk = Math.max(1, Math.floor(CHUNK / (columnsPerBlock * Math.min(R, rowsPerSegment))))
    const launch = (y: Address) =>
      runtime.launch(columnKernels[name], ceilDiv(units, unitsPerChunk), {
        x: from,
        y,
        R,
        inner,
        units,
        unitsPerChunk,
        rowsPerSegment,
        segments,
        columnsPerBlock,
        columnBlocks,
      })
    if (segments === 1) launch(to)
    else
      context.scratch(4 * outer * segments * inner, slots => {
        launch(slots)
        columns(name, slots, to, outer, segments, inner)
      })
  }

  return (name, from, to, outer, R, inner) => {
    if (inner === 1) rows(name, from, to, outer, R)
    else columns(name, from, to, outer, R, inner)
  }
}

/** Returns passes over integers. They compute one result after the other: reductions of integers are rare. */
function intReducer({ runtime }: LaunchContext): Reduce {
  const { reduceIntSum, reduceIntMax, reduceIntMin } = runtime.kernels
  const kernels = { sum: reduceIntSum, max: reduceIntMax, min: reduceIntMin }
  return (name, from, to, outer, R, inner) => {
    const results = outer * inner
    const resultsPerChunk = Math.max(1, Math.floor(CHUNK / R))
    runtime.launch(kernels[name], ceilDiv(results, resultsPerChunk), {
      x: from,
      y: to,
      R,
      inner,
      results,
      resultsPerChunk,
    })
  }
}

export function reductions(context: LaunchContext, reduce: Reduce): Pick<Kernels, 'reduce'> {
  const reduceInts = intReducer(context)

  return {
    reduce(name, x, axes, out) {
      const y = context.output(out)
      const whole = x.dtype === 'i32'
      if (sizeOf(x.shape) === 0) {
        if (whole) context.runtime.ints(y.address, y.length).fill(reduceIdentity[name])
        else context.runtime.floats(y.address, y.length).fill(reduceIdentity[name])
        return y
      }
      const passOf = whole ? reduceInts : reduce
      const groups = reduceGroups(x.shape, axes)
      const passes = groups.filter(group => group.reduced).length
      // At least one pass, if only over groups of one: that copies.
      if (passes === 0) {
        passOf(name, addressOf(x), y.address, 1, 1, y.length)
        return y
      }
      pass(passOf, groups, passes, addressOf(x), y.address, name)
      return y
    },
  }

  function pass(
    run: Reduce,
    groups: readonly ReduceGroup[],
    passes: number,
    from: Address,
    to: Address,
    name: ReduceName,
  ): void {
    const last = groups.findLastIndex(group => group.reduced)
    const outer = sizeOf(groups.slice(0, last).map(group => group.extent))
    const inner = sizeOf(groups.slice(last + 1).map(group => group.extent))
    if (passes === 1) {
      run(name, from, to, outer, groups[last].extent, inner)
      return
    }
    context.scratch(4 * outer * inner, between => {
      run(name, from, between, outer, groups[last].extent, inner)
      pass(run, groups.toSpliced(last, 1), passes - 1, between, to, name)
    })
  }
}
