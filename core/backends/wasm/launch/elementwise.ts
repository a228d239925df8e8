/**
 * Launches fill, unary, binary, where, cast and copy. Kernels: kernels/elementwise.as.ts. Next: movement.ts.
 */

import type { BinaryName, Kernels, Operand, Spec, Storage, UnaryName } from '../../../backend.ts'
import { broadcastStrides, sizeOf } from '../../../shape.ts'
import { bits } from '../runtime.ts'
import { addressOf, CHUNK, ceilDiv, type LaunchContext } from '../storage.ts'
import { fold, outerTable, splitIntoChunks } from './fold.ts'

/** Vectors per chunk of a flat kernel. */
const VECTORS = CHUNK / 4

const unaryNames: readonly UnaryName[] = [
  'neg',
  'abs',
  'sign',
  'floor',
  'square',
  'sqrt',
  'rsqrt',
  'reciprocal',
  'exp',
  'log',
  'sin',
  'cos',
  'tanh',
  'erf',
  'sigmoid',
  'softplus',
  'relu',
  'silu',
  'gelu',
  'geluTanh',
  'affine',
  'pow',
  'clamp',
  'isFinite',
]
const binaryNames: readonly BinaryName[] = [
  'add',
  'sub',
  'mul',
  'div',
  'pow',
  'maximum',
  'minimum',
  'equal',
  'less',
  'lessEqual',
  'siluGrad',
  'geluGrad',
  'geluTanhGrad',
]
const intNames: readonly BinaryName[] = ['add', 'sub', 'mul', 'maximum', 'minimum', 'equal', 'less', 'lessEqual']

function capital(name: string): string {
  return name[0].toUpperCase() + name.slice(1)
}

/** Kernels whose names are not in the tables (i32 exp, say) come from `loops`. */
export function elementwise(
  context: LaunchContext,
  loops: Kernels,
): Pick<Kernels, 'fill' | 'unary' | 'binary' | 'where' | 'cast' | 'copy'> {
  const { runtime } = context
  const numbers = <N extends string>(prefix: string, names: readonly N[], suffix = '') =>
    new Map<string, number>(names.map(name => [name, runtime.kernel(`${prefix}${capital(name)}${suffix}`)]))
  const unaryFloat = numbers('unary', unaryNames)
  const unaryInt = numbers('unary', ['affine', 'neg'], 'Int')
  const binaryFloat = numbers('binary', binaryNames)
  const binaryInt = numbers('binary', intNames, 'Int')
  const toFloat = runtime.kernel('castToFloat')
  const toInt = runtime.kernel('castToInt')
  const fillKernel = runtime.kernel('fill')
  const whereKernel = runtime.kernel('where')
  const copyKernel = runtime.kernel('copyRows')

  function map(kernel: number, x: Operand, out: Spec, p: number, q: number): Storage {
    const y = context.output(out)
    const vectors = (y.length + 3) >> 2
    runtime.launchWords(kernel, ceilDiv(vectors, VECTORS), addressOf(x), y.address, vectors, VECTORS, p, q)
    return y
  }

  return {
    fill(value, out) {
      const y = context.output(out)
      const vectors = (y.length + 3) >> 2
      const word = out.dtype === 'f32' ? bits(value) : value
      runtime.launchWords(fillKernel, ceilDiv(vectors, VECTORS), y.address, vectors, VECTORS, word)
      return y
    },

    unary(name, x, out, p = 0, q = 0) {
      if (x.dtype === 'f32') return map(unaryFloat.get(name)!, x, out, bits(p), bits(q))
      const kernel = unaryInt.get(name)
      if (kernel === undefined || !Number.isInteger(p) || !Number.isInteger(q)) return loops.unary(name, x, out, p, q)
      return map(kernel, x, out, p, q)
    },

    binary(name, a, b, out) {
      const kernel = (a.dtype === 'f32' ? binaryFloat : binaryInt).get(name)
      if (kernel === undefined) return loops.binary(name, a, b, out)
      const y = context.output(out)
      const n = y.length
      const [sizeA, sizeB] = [a.storage.length, b.storage.length]
      if ((sizeA === n || sizeA === 1) && (sizeB === n || sizeB === 1)) {
        // One row: operands run along, or are one element.
        const { columnsPerChunk, columnChunks } = splitIntoChunks(1, n)
        runtime.launchWords(
          kernel,
          n === 0 ? 0 : columnChunks,
          addressOf(a),
          addressOf(b),
          y.address,
          n,
          sizeA === n ? 1 : 0,
          sizeB === n ? 1 : 0,
          1,
          1,
          columnsPerChunk,
          columnChunks,
          1,
          0,
          0,
          0,
        )
        return y
      }
      if (n === 0) return y
      const folded = fold(out.shape, [broadcastStrides(a.shape, out.shape), broadcastStrides(b.shape, out.shape)])
      const {
        extents,
        strides: [stepA, stepB],
      } = folded
      const last = extents.length - 1
      const mid = last > 0 ? extents[last - 1] : 1
      const rows = n / extents[last]
      const { rowsPerChunk, columnsPerChunk, columnChunks, chunks } = splitIntoChunks(rows, extents[last])
      const rank = Math.max(0, last - 1)
      runtime.launchWords(
        kernel,
        chunks,
        addressOf(a),
        addressOf(b),
        y.address,
        extents[last],
        stepA[last],
        stepB[last],
        rows,
        rowsPerChunk,
        columnsPerChunk,
        columnChunks,
        mid,
        last > 0 ? 4 * stepA[last - 1] : 0,
        last > 0 ? 4 * stepB[last - 1] : 0,
        rank,
        ...outerTable(folded, rank),
      )
      return y
    },

    where(condition, a, b, out) {
      const y = context.output(out)
      if (y.length === 0) return y
      const folded = fold(
        out.shape,
        [condition, a, b].map(x => broadcastStrides(x.shape, out.shape)),
      )
      const { extents, strides } = folded
      const last = extents.length - 1
      const rows = y.length / extents[last]
      const { rowsPerChunk, columnsPerChunk, columnChunks, chunks } = splitIntoChunks(rows, extents[last])
      runtime.launchWords(
        whereKernel,
        chunks,
        addressOf(condition),
        addressOf(a),
        addressOf(b),
        y.address,
        extents[last],
        strides[0][last],
        strides[1][last],
        strides[2][last],
        rows,
        rowsPerChunk,
        columnsPerChunk,
        columnChunks,
        condition.dtype === 'i32' ? 1 : 0,
        last,
        ...outerTable(folded, last),
      )
      return y
    },

    cast(x, out) {
      if (x.dtype === out.dtype) return this.copy(x)
      return map(out.dtype === 'f32' ? toFloat : toInt, x, out, 0, 0)
    },

    copy(x) {
      const y = context.output(x)
      const n = sizeOf(x.shape)
      const { columnsPerChunk, columnChunks } = splitIntoChunks(1, n)
      const chunks = n === 0 ? 0 : columnChunks
      runtime.launchWords(
        copyKernel,
        chunks,
        addressOf(x),
        y.address,
        n,
        4,
        4,
        1,
        1,
        columnsPerChunk,
        columnChunks,
        1,
        0,
        0,
        0,
      )
      return y
    },
  }
}
