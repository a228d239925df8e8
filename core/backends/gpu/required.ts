/**
 * The required kernels of the contract on gpu.js: the host works out shapes, strides and where things begin, and
 * launches the flat functions of kernels.ts. There are no fused kernels: those ops run their decompositions.
 */

import type { Kernels, Operand, Spec, Storage, Window2d } from '../../backend.ts'
import { broadcastStrides, type Shape, sizeOf, stridesOf } from '../../shape.ts'
import type { Argument, Program } from './device.ts'
import * as kernels from './kernels.ts'
import { binaryScalars, functionOf, reduceScalars, stores, unaryScalars } from './scalars.ts'

/** Dispatches kernels on a backend's memory. */
export interface Launcher {
  /** `args` follow the operands. */
  launch(program: Program, operands: readonly Operand[], args: readonly Argument[], out: Spec): Storage
  free(storage: Storage): void
  /** Throws at the next read, as an error of `op`, when the element of this storage is not 0; then frees it. */
  expectZero(op: string, count: Storage, message: (count: number) => string): void
}

export function requiredKernels({ launch, free, expectZero }: Launcher): Kernels {
  const reduce: Kernels['reduce'] = (name, x, axes, out) => {
    if (sizeOf(x.shape) === 0) return all.fill({ sum: 0, max: -Infinity, min: Infinity }[name], out)
    const length = sizeOf(axes.map(axis => x.shape[axis]))
    if (axes.every((axis, i) => axis === axes[0] + i)) {
      const inner = axes.length === 0 ? 1 : sizeOf(x.shape.slice(axes[axes.length - 1] + 1))
      return reduceMiddle(name, x, length, inner, out)
    }
    // Axes that do not lie together are brought to the end first.
    const order = [...x.shape.keys()].sort((i, j) => Number(axes.includes(i)) - Number(axes.includes(j)))
    const turned = { dtype: x.dtype, shape: order.map(axis => x.shape[axis]) }
    const storage = all.permute(x, order, turned)
    const y = reduceMiddle(name, { ...turned, storage }, length, 1, out)
    free(storage)
    return y
  }

  /** x as (outer, length, inner), reduced over the middle. */
  function reduceMiddle(name: 'sum' | 'max' | 'min', x: Operand, length: number, inner: number, out: Spec): Storage {
    const program: Program = {
      key: `reduce ${name}`,
      kernel: kernels.reduceChunks,
      functions: { join: functionOf('join', 'a, b', reduceScalars[name]) },
    }
    const chunks = Math.ceil(length / 64)
    if (chunks === 1) return launch(program, [x], [length, inner, 1], out)
    const partial = { dtype: out.dtype, shape: [sizeOf(out.shape) * chunks] }
    const storage = launch(program, [x], [length, inner, chunks], partial)
    const y = reduceMiddle(name, { ...partial, storage }, chunks, inner, out)
    free(storage)
    return y
  }

  /** An index out of range cannot throw on the device: it is counted there, and told at the next read. */
  function checkIndices(op: string, index: Operand, R: number): void {
    const flags = { dtype: 'f32', shape: [sizeOf(index.shape)] } as const
    const storage = launch({ key: 'outside', kernel: kernels.outside }, [index], [R], flags)
    const count = reduce('sum', { ...flags, storage }, [0], { dtype: 'f32', shape: [] })
    free(storage)
    expectZero(op, count, n => `wanted indices in [0, ${R}), got ${n} outside`)
  }

  const all: Kernels = {
    fill: (value, out) =>
      launch({ key: `fill ${out.dtype}`, kernel: kernels.fill, functions: storeOf(out) }, [], [value], out),

    unary(name, x, out, p = 0, q = 0) {
      const functions = { unaryOp: functionOf('unaryOp', 'x, p, q', unaryScalars[name]), ...storeOf(out) }
      return launch({ key: `${name} ${out.dtype}`, kernel: kernels.unary, functions }, [x], [p, q], out)
    },

    binary(name, a, b, out) {
      const { axes, rank } = axesOf(out.shape, [
        broadcastStrides(a.shape, out.shape),
        broadcastStrides(b.shape, out.shape),
      ])
      const functions = { binaryOp: functionOf('binaryOp', 'a, b', binaryScalars[name]), ...storeOf(out) }
      return launch({ key: `${name} ${out.dtype}`, kernel: kernels.binary, functions, rank }, [a, b], [axes], out)
    },

    where(condition, a, b, out) {
      const strides = [condition, a, b].map(x => broadcastStrides(x.shape, out.shape))
      const { axes, rank } = axesOf(out.shape, strides)
      return launch({ key: 'where', kernel: kernels.where, rank }, [condition, a, b], [axes], out)
    },

    reduce,

    matmul(a, b, transposeA, transposeB, out) {
      const [M, N] = out.shape.slice(-2)
      const K = a.shape[a.shape.length - (transposeA ? 2 : 1)]
      const m = Float32Array.of(M, N, K, ...(transposeA ? [1, M] : [K, 1]), ...(transposeB ? [1, K] : [N, 1]))
      const starts = startsOf(out.shape.slice(0, -2), a.shape, b.shape)
      return launch({ key: 'matmul', kernel: kernels.matmul, loop: K }, [a, b], [starts, m], out)
    },

    permute(x, order, out) {
      const own = stridesOf(x.shape)
      return strided(
        x,
        0,
        order.map(axis => own[axis]),
        out,
      )
    },

    slice(x, starts, out) {
      const strides = stridesOf(x.shape)
      return strided(
        x,
        starts.reduce((sum, start, axis) => sum + start * strides[axis], 0),
        strides,
        out,
      )
    },

    pad(x, before, value, out) {
      const strides = stridesOf(x.shape)
      const axes = out.shape.map((size, i) => [size, before[i], x.shape[i], strides[i]]).reverse()
      const program = { key: `pad ${out.dtype}`, kernel: kernels.pad, functions: storeOf(out), rank: axes.length }
      return launch(program, [x], [value, Float32Array.from(axes.flat())], out)
    },

    concat(xs, axis, out) {
      if (xs.length === 1) return all.copy(xs[0])
      // Two at a time: a shader may bind few buffers.
      let joined = xs[0]
      for (let i = 1; i < xs.length; i++) {
        const width = joined.shape[axis] + xs[i].shape[axis]
        const shape = out.shape.map((n, j) => (j === axis ? width : n))
        const widths = [joined, xs[i]].map(x => sizeOf(x.shape.slice(axis)))
        const storage = launch({ key: 'concat', kernel: kernels.concat }, [joined, xs[i]], widths, { ...out, shape })
        if (i > 1) free(joined.storage)
        joined = { dtype: out.dtype, shape, storage }
      }
      return joined.storage
    },

    gather(x, index, out) {
      const [, R, D] = x.shape
      checkIndices('gather', index, R)
      return launch({ key: 'gather', kernel: kernels.gather }, [x, index], [R, index.shape[1], D], out)
    },

    scatterAdd(index, source, out) {
      const [, R, D] = out.shape
      const K = index.shape[1]
      checkIndices('scatterAdd', index, R)
      return launch({ key: 'scatterAdd', kernel: kernels.scatterAdd, loop: K }, [index, source], [R, K, D], out)
    },

    cast: (x, out) => all.unary('affine', x, out, 1, 0),

    unfold: (x, window, out) =>
      launch({ key: 'unfold', kernel: kernels.unfold }, [x], [windowOf(x.shape, window)], out),

    fold: (x, window, out) =>
      launch(
        { key: 'fold', kernel: kernels.fold, loop: Math.max(...window.kernel) },
        [x],
        [windowOf(out.shape, window)],
        out,
      ),

    copy: x => all.unary('affine', x, x, 1, 0),
  }

  function strided(x: Operand, base: number, strides: readonly number[], out: Spec): Storage {
    const { axes, rank } = axesOf(out.shape, [strides])
    return launch({ key: 'strided', kernel: kernels.strided, rank }, [x], [base, axes], out)
  }

  return all
}

function storeOf({ dtype }: Spec): Record<string, string> {
  return { store: functionOf('store', 'x', stores[dtype === 'i32' ? 'i32' : 'f32']) }
}

/**
 * What kernels read of a shape: per axis, last first, its size and the stride of each operand. Axes of size 1 are left
 * out, and neighbours along which every operand runs on are one axis, so most calls are of rank 1.
 */
function axesOf(shape: Shape, strides: readonly (readonly number[])[]): { axes: Float32Array; rank: number } {
  const rows: number[][] = []
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] === 1) continue
    const inner = rows[rows.length - 1]
    if (inner !== undefined && strides.every((s, k) => s[axis] === inner[0] * inner[k + 1])) inner[0] *= shape[axis]
    else rows.push([shape[axis], ...strides.map(s => s[axis])])
  }
  return { axes: Float32Array.from([...rows.flat(), 0]), rank: rows.length }
}

/** Where the matrices of a and b begin, for each matrix of the result. */
function startsOf(batch: Shape, a: Shape, b: Shape): Float32Array {
  const strides = [a, b].map(shape => broadcastStrides(shape.slice(0, -2), batch).map(s => s * sizeOf(shape.slice(-2))))
  const steps = stridesOf(batch)
  return Float32Array.from({ length: 2 * sizeOf(batch) }, (_, i) =>
    batch.reduce((sum, n, axis) => sum + (Math.floor((i >> 1) / steps[axis]) % n) * strides[i & 1][axis], 0),
  )
}

/** H, W, kh, kw, vertical and horizontal stride, top, left, H', W'. */
function windowOf([, , H, W]: Shape, { kernel, stride, padding: [top, bottom, left, right] }: Window2d): Float32Array {
  const rows = Math.floor((H + top + bottom - kernel[0]) / stride[0]) + 1
  const columns = Math.floor((W + left + right - kernel[1]) / stride[1]) + 1
  return Float32Array.of(H, W, ...kernel, ...stride, top, left, rows, columns)
}
