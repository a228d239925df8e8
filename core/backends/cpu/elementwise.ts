/**
 * Elementwise kernels. All arithmetic is in f64 and rounded once, on the store; a store to i32 drops the fraction and
 * keeps the low 32 bits, except in `cast`, which saturates. Products of whole numbers are exact in those bits.
 * Each kernel cuts its result into rows along which every operand advances by a constant step: 1, or 0 where it is
 * broadcast. Equal shapes and single elements are the case of one long row.
 */

import type { BackendKernels, BinaryName, Operand, UnaryName } from '../../backend.ts'
import { type TypedArray, toTypedArray } from '../../dtype.ts'
import { broadcastStrides, type Shape, sameShape, sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'
import { binaryFunctions, unaryFunctions } from './scalars.ts'
import { eachRow, lastStride } from './walk.ts'

export function elementwiseLoops(host: Host) {
  return {
    fill(value, out) {
      const y = output(host, out)
      host.view(y).fill(value)
      return y
    },

    unary(name, x, out, p = 0, q = 0) {
      const y = output(host, out)
      unaryRow(name, host.view(x.storage), host.view(y), p, q)
      return y
    },

    binary(name, a, b, out) {
      const y = output(host, out)
      const [A, B, Y] = [host.view(a.storage), host.view(b.storage), host.view(y)]
      const n = sizeOf(out.shape)
      if (isPlain(a, out.shape, n) && isPlain(b, out.shape, n)) {
        binaryRow(name, A, 0, step(a, n), B, 0, step(b, n), Y, 0, n)
        return y
      }
      const [sa, sb] = [broadcastStrides(a.shape, out.shape), broadcastStrides(b.shape, out.shape)]
      const [da, db, length] = [lastStride(sa), lastStride(sb), out.shape[out.shape.length - 1]]
      eachRow(out.shape, [sa, sb], (start, at) => binaryRow(name, A, at[0], da, B, at[1], db, Y, start, length))
      return y
    },

    where(condition, a, b, out) {
      const y = output(host, out)
      const [C, A, B, Y] = [host.view(condition.storage), host.view(a.storage), host.view(b.storage), host.view(y)]
      const strides = [condition, a, b].map(x => broadcastStrides(x.shape, out.shape))
      const [dc, da, db] = strides.map(lastStride)
      const length = out.shape[out.shape.length - 1] ?? 1
      eachRow(out.shape, strides, (start, [c, i, j]) => {
        for (let k = 0; k < length; k++) Y[start + k] = C[c + k * dc] !== 0 ? A[i + k * da] : B[j + k * db]
      })
      return y
    },

    cast(x, out) {
      const y = output(host, out)
      host.view(y).set(toTypedArray(out.dtype, host.view(x.storage)))
      return y
    },

    copy(x) {
      const y = output(host, x)
      host.view(y).set(host.view(x.storage))
      return y
    },
  } satisfies Partial<BackendKernels>
}

/** True if an operand is read along the whole result with one step. */
function isPlain(x: Operand, shape: Shape, n: number): boolean {
  return sizeOf(x.shape) === 1 || (sizeOf(x.shape) === n && sameShape(x.shape, shape))
}

function step(x: Operand, n: number): number {
  return n > 1 && sizeOf(x.shape) === 1 ? 0 : 1
}

// The commonest ops have loops of their own: a call through a table is several times slower than an addition.
function unaryRow(name: UnaryName, x: TypedArray, y: TypedArray, p: number, q: number): void {
  const n = y.length
  switch (name) {
    case 'neg':
      for (let i = 0; i < n; i++) y[i] = -x[i]
      return
    case 'square':
      if (y instanceof Int32Array) for (let i = 0; i < n; i++) y[i] = Math.imul(x[i], x[i])
      else for (let i = 0; i < n; i++) y[i] = x[i] * x[i]
      return
    case 'exp':
      for (let i = 0; i < n; i++) y[i] = Math.exp(x[i])
      return
    case 'affine':
      if (y instanceof Int32Array && Number.isInteger(p)) for (let i = 0; i < n; i++) y[i] = Math.imul(p, x[i]) + q
      else for (let i = 0; i < n; i++) y[i] = p * x[i] + q
      return
    default: {
      const f = unaryFunctions[name]
      for (let i = 0; i < n; i++) y[i] = f(x[i], p, q)
    }
  }
}

/** y[k + m] = f(a[i + m·da], b[j + m·db]) for m < n. */
function binaryRow(
  name: BinaryName,
  a: TypedArray,
  i: number,
  da: number,
  b: TypedArray,
  j: number,
  db: number,
  y: TypedArray,
  k: number,
  n: number,
): void {
  const end = k + n
  switch (name) {
    case 'add':
      for (; k < end; k++, i += da, j += db) y[k] = a[i] + b[j]
      return
    case 'sub':
      for (; k < end; k++, i += da, j += db) y[k] = a[i] - b[j]
      return
    case 'mul':
      // A product of two i32 can pass 2^53, where f64 would round it before the store wraps it.
      if (y instanceof Int32Array) for (; k < end; k++, i += da, j += db) y[k] = Math.imul(a[i], b[j])
      else for (; k < end; k++, i += da, j += db) y[k] = a[i] * b[j]
      return
    case 'div':
      for (; k < end; k++, i += da, j += db) y[k] = a[i] / b[j]
      return
    default: {
      const f = binaryFunctions[name]
      for (; k < end; k++, i += da, j += db) y[k] = f(a[i], b[j])
    }
  }
}
