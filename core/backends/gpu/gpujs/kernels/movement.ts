/**
 * permute, slice, pad and concat. permute and slice read by strides; pad and concat work along one axis of (outer, n,
 * inner).
 */

import type { BackendKernels, Kernels, Operand, Spec, Storage } from '../../../../backend.ts'
import { sizeOf, stridesOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import type { Elements, Thread } from '../kernel.ts'
import { offsetArguments, storeOf } from './elementwise.ts'

declare function offset(at: number, ...sizesAndStrides: number[]): number
declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function element(outer: number, rows: number, row: number, width: number, column: number): number
declare function store(x: number): number

// biome-ignore format: one group of parameters a line
function strided(
  this: Thread, x: Elements, base: number,
  n1: number, n2: number, n3: number, n4: number, n5: number,
  s1: number, s2: number, s3: number, s4: number, s5: number, s6: number,
): number {
  return x[base + offset(this.thread.x, n1, n2, n3, n4, n5, s1, s2, s3, s4, s5, s6)]
}

/** Pads x (outer, n, inner) to (outer, total, inner), with x at `before`. */
function pad(
  this: Thread,
  x: Elements,
  inner: number,
  total: number,
  before: number,
  n: number,
  value: number,
): number {
  if (along(this.thread.x, total, inner) >= before && along(this.thread.x, total, inner) < before + n) {
    return x[
      element(
        quotient(this.thread.x, inner * total),
        n,
        along(this.thread.x, total, inner) - before,
        inner,
        remainder(this.thread.x, inner),
      )
    ]
  }
  return store(value)
}

/** Joins each row of a (widthA) and row of b (widthB). */
function concat(this: Thread, a: Elements, b: Elements, widthA: number, widthB: number): number {
  if (remainder(this.thread.x, widthA + widthB) < widthA) {
    return a[quotient(this.thread.x, widthA + widthB) * widthA + remainder(this.thread.x, widthA + widthB)]
  }
  return b[quotient(this.thread.x, widthA + widthB) * widthB + remainder(this.thread.x, widthA + widthB) - widthA]
}

export function createMovementKernels({ launch, free }: Launcher, { copy }: Pick<Kernels, 'copy'>) {
  function byStrides(x: Operand, base: number, strides: readonly number[], out: Spec): Storage {
    const { ints, rank } = offsetArguments(out.shape, [strides])
    return launch({ key: 'strided', kernel: strided, rank }, [x], out, [base, ...ints])
  }

  return {
    permute(x, order, out) {
      const own = stridesOf(x.shape)
      const strides = order.map(axis => own[axis])
      return byStrides(x, 0, strides, out)
    },

    slice(x, starts, out) {
      const strides = stridesOf(x.shape)
      const base = starts.reduce((sum, start, axis) => sum + start * strides[axis], 0)
      return byStrides(x, base, strides, out)
    },

    pad(x, before, value, out) {
      const program = { key: `pad ${out.dtype}`, kernel: pad, functions: storeOf(out) }
      const axes = [...out.shape.keys()].filter(axis => out.shape[axis] !== x.shape[axis])
      if (axes.length === 0) return copy(x)
      let padded = x
      for (const axis of axes) {
        const shape = padded.shape.with(axis, out.shape[axis])
        const ints = [sizeOf(shape.slice(axis + 1)), shape[axis], before[axis], x.shape[axis]]
        const storage = launch(program, [padded], { ...out, shape }, ints, [value])
        if (padded !== x) free(padded.storage)
        padded = { dtype: out.dtype, shape, storage }
      }
      return padded.storage
    },

    concat(xs, axis, out) {
      if (xs.length === 1) return copy(xs[0])
      // Joins two at a time: a shader can bind few buffers.
      let joined = xs[0]
      for (const next of xs.slice(1)) {
        const shape = out.shape.with(axis, joined.shape[axis] + next.shape[axis])
        const widths = [joined, next].map(x => sizeOf(x.shape.slice(axis)))
        const storage = launch({ key: 'concat', kernel: concat }, [joined, next], { ...out, shape }, widths)
        if (joined !== xs[0]) free(joined.storage)
        joined = { dtype: out.dtype, shape, storage }
      }
      return joined.storage
    },
  } satisfies Partial<BackendKernels>
}
