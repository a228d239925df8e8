/**
 * Launches fill, unary, binary, where, cast and copy. Kernels: kernels/elementwise.as.ts and integers.as.ts.
 */

import {
  type BinaryName,
  binaryNames,
  type Kernels,
  type Operand,
  type Spec,
  type Storage,
  type UnaryName,
  unaryNames,
} from '../../../backend.ts'
import { broadcastStrides, ceilDiv, sizeOf } from '../../../shape.ts'
import type { BinaryArgs, UnaryArgs, UnaryIntArgs } from '../generated/kernels.ts'
import type { Kernel } from '../runtime.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'
import { collapseToRows, outerTable, splitIntoChunks } from './rows.ts'

/** Vectors per chunk of a flat kernel. */
const VECTORS = CHUNK / 4

/** Functions with a kernel for integers. The others run as loops of the cpu backend. */
const unaryIntNames = ['affine', 'neg'] as const
const binaryIntNames = ['add', 'sub', 'mul', 'maximum', 'minimum', 'equal', 'less', 'lessEqual'] as const

/** Returns kernels by the name of their function. A name without a kernel does not compile. */
function kernelsByName<
  P extends string,
  N extends string,
  T extends { readonly [K in `${P}${Capitalize<N>}`]: unknown },
>(kernels: T, prefix: P, names: readonly N[]): Readonly<Record<N, T[`${P}${Capitalize<N>}`]>> {
  const capitalize = (name: N) => (name[0].toUpperCase() + name.slice(1)) as Capitalize<N>
  const entries = names.map(name => [name, kernels[`${prefix}${capitalize(name)}`]] as const)
  return Object.fromEntries(entries) as Record<N, T[`${P}${Capitalize<N>}`]>
}

export function elementwise(
  context: LaunchContext,
  loops: Kernels,
): Pick<Kernels, 'fill' | 'unary' | 'binary' | 'where' | 'cast' | 'copy'> {
  const { runtime } = context
  const { unaryToFloat, unaryToInt, fill, fillInts, where, copyRows } = runtime.kernels
  const unaryFloat = kernelsByName(runtime.kernels, 'unary', unaryNames)
  const unaryInt: Partial<Record<UnaryName, Kernel<UnaryIntArgs>>> = kernelsByName(
    runtime.kernels,
    'unaryInt',
    unaryIntNames,
  )
  const binaryFloat = kernelsByName(runtime.kernels, 'binary', binaryNames)
  const binaryInt: Partial<Record<BinaryName, Kernel<BinaryArgs>>> = kernelsByName(
    runtime.kernels,
    'binaryInt',
    binaryIntNames,
  )

  function mapFlat(kernel: Kernel<UnaryArgs | UnaryIntArgs>, x: Operand, out: Spec, p: number, q: number): Storage {
    const y = context.output(out)
    const vectors = (y.length + 3) >> 2
    const args = { x: addressOf(x), y: y.address, vectors, vectorsPerChunk: VECTORS, p, q }
    runtime.launch(kernel, ceilDiv(vectors, VECTORS), args)
    return y
  }

  return {
    fill(value, out) {
      const y = context.output(out)
      const vectors = (y.length + 3) >> 2
      const args = { y: y.address, vectors, vectorsPerChunk: VECTORS, value }
      runtime.launch(out.dtype === 'f32' ? fill : fillInts, ceilDiv(vectors, VECTORS), args)
      return y
    },

    unary(name, x, out, p = 0, q = 0) {
      if (x.dtype === 'f32') return mapFlat(unaryFloat[name], x, out, p, q)
      const kernel = unaryInt[name]
      if (kernel === undefined || !Number.isInteger(p) || !Number.isInteger(q)) return loops.unary(name, x, out, p, q)
      return mapFlat(kernel, x, out, p, q)
    },

    binary(name, a, b, out) {
      const kernel = (a.dtype === 'f32' ? binaryFloat : binaryInt)[name]
      if (kernel === undefined) return loops.binary(name, a, b, out)
      const y = context.output(out)
      const n = y.length
      const [sizeA, sizeB] = [a.storage.length, b.storage.length]
      if ((sizeA === n || sizeA === 1) && (sizeB === n || sizeB === 1)) {
        // One row: an operand has as many elements, or one.
        const { columnsPerChunk, columnChunks } = splitIntoChunks(1, n)
        runtime.launch(kernel, n === 0 ? 0 : columnChunks, {
          a: addressOf(a),
          b: addressOf(b),
          out: y.address,
          length: n,
          aStep: sizeA === n ? 1 : 0,
          bStep: sizeB === n ? 1 : 0,
          rows: 1,
          rowsPerChunk: 1,
          columnsPerChunk,
          columnChunks,
          rowsPerOuter: 1,
          aRowStep: 0,
          bRowStep: 0,
          rank: 0,
          table: [],
        })
        return y
      }
      if (n === 0) return y
      const walk = collapseToRows(out.shape, [
        broadcastStrides(a.shape, out.shape),
        broadcastStrides(b.shape, out.shape),
      ])
      const {
        extents,
        strides: [stepA, stepB],
      } = walk
      const last = extents.length - 1
      const rows = n / extents[last]
      const { rowsPerChunk, columnsPerChunk, columnChunks, chunks } = splitIntoChunks(rows, extents[last])
      const rank = Math.max(0, last - 1)
      runtime.launch(kernel, chunks, {
        a: addressOf(a),
        b: addressOf(b),
        out: y.address,
        length: extents[last],
        aStep: stepA[last],
        bStep: stepB[last],
        rows,
        rowsPerChunk,
        columnsPerChunk,
        columnChunks,
        rowsPerOuter: last > 0 ? extents[last - 1] : 1,
        aRowStep: last > 0 ? 4 * stepA[last - 1] : 0,
        bRowStep: last > 0 ? 4 * stepB[last - 1] : 0,
        rank,
        table: outerTable(walk, rank),
      })
      return y
    },

    where(condition, a, b, out) {
      const y = context.output(out)
      if (y.length === 0) return y
      const walk = collapseToRows(
        out.shape,
        [condition, a, b].map(x => broadcastStrides(x.shape, out.shape)),
      )
      const { extents, strides } = walk
      const last = extents.length - 1
      const rows = y.length / extents[last]
      const { rowsPerChunk, columnsPerChunk, columnChunks, chunks } = splitIntoChunks(rows, extents[last])
      runtime.launch(where, chunks, {
        condition: addressOf(condition),
        a: addressOf(a),
        b: addressOf(b),
        out: y.address,
        length: extents[last],
        conditionStep: strides[0][last],
        aStep: strides[1][last],
        bStep: strides[2][last],
        rows,
        rowsPerChunk,
        columnsPerChunk,
        columnChunks,
        isConditionInt: condition.dtype === 'i32',
        rank: last,
        table: outerTable(walk, last),
      })
      return y
    },

    cast(x, out) {
      if (x.dtype === out.dtype) return this.copy(x)
      return mapFlat(out.dtype === 'f32' ? unaryToFloat : unaryToInt, x, out, 0, 0)
    },

    copy(x) {
      const y = context.output(x)
      const n = sizeOf(x.shape)
      const { columnsPerChunk, columnChunks } = splitIntoChunks(1, n)
      runtime.launch(copyRows, n === 0 ? 0 : columnChunks, {
        from: addressOf(x),
        to: y.address,
        length: n,
        fromStep: 4,
        toStep: 4,
        rows: 1,
        rowsPerChunk: 1,
        columnsPerChunk,
        columnChunks,
        rowsPerOuter: 1,
        fromRowStep: 0,
        toRowStep: 0,
        rank: 0,
        table: [],
      })
      return y
    },
  }
}
