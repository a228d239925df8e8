/**
 * Reductions of the middle axis of (outer, length, inner), 64 elements into one per pass, so that f32 suffices for long
 * sums. Neighbouring threads read neighbouring elements.
 */

import {
  type BackendKernels,
  type Kernels,
  type Operand,
  type ReduceName,
  reduceIdentity,
  type Spec,
  type Storage,
} from '../../../../backend.ts'
import { ceilDiv, reduceGroups, sizeOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type FlatKernel, type Thread } from '../kernel.ts'
import { functionOf } from '../library.ts'
import { reduceScalars } from '../scalars.ts'

declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function along(at: number, n: number, inner: number): number
declare function element(outer: number, rows: number, row: number, width: number, column: number): number
declare function place(i: number, s: number, j: number, t: number, k: number, u: number): number
declare function join(a: number, b: number): number

/** Elements that one thread reduces. */
const chunk = 64

/** x (outer, length, inner) → (outer, chunks, inner): chunk i reduces elements i, i + chunks, i + 2 chunks, … */
function reduceChunks(this: Thread, x: Elements, length: number, inner: number, chunks: number): number {
  const outer = quotient(this.thread.x, inner * chunks)
  const first = along(this.thread.x, chunks, inner)
  const column = remainder(this.thread.x, inner)
  let total = x[element(outer, length, first, inner, column)]
  for (let k = 1; k < 64; k++) {
    if (place(first, 1, k, chunks, 0, 0) < length) {
      total = join(total, x[element(outer, length, place(first, 1, k, chunks, 0, 0), inner, column)])
    }
  }
  return total
}

/** Adds the squares of x to running sums, one per lane: lane i takes elements i, i + lanes, … */
function addSquares(this: Thread, x: Elements, before: Elements, length: number, lanes: number): number {
  let total = before[this.thread.x]
  for (let k = 0; k * lanes < length; k++) {
    if (k * lanes + this.thread.x < length) {
      total += x[k * lanes + this.thread.x] * x[k * lanes + this.thread.x]
    }
  }
  return total
}

/** Lanes of a sum of squares: enough to occupy a device, few enough to be cheap for small tensors. */
const squareLanes = 4096

/** Reduces x, seen as (outer, length, inner), over the middle axis. */
export type ReduceMiddle = (name: ReduceName, x: Operand, length: number, inner: number, out: Spec) => Storage

export function createReduceMiddle({ launch, free }: Launcher, { fill }: Pick<Kernels, 'fill'>): ReduceMiddle {
  const reduceMiddle: ReduceMiddle = (name, x, length, inner, out) => {
    if (length === 0) return fill(reduceIdentity[name], out)
    const program: FlatKernel = {
      key: `reduce ${name}`,
      kernel: reduceChunks,
      functions: { join: functionOf('join', 2, reduceScalars[name]) },
    }
    const chunks = ceilDiv(length, chunk)
    coordinate('reduce', Math.max(chunks, inner, sizeOf(out.shape) / inner))
    if (chunks <= 1) return launch(program, [x], out, [length, inner, 1])
    const partial = { dtype: out.dtype, shape: [sizeOf(out.shape) * chunks] }
    const storage = launch(program, [x], partial, [length, inner, chunks])
    const y = reduceMiddle(name, { ...partial, storage }, chunks, inner, out)
    free(storage)
    return y
  }
  return reduceMiddle
}

export function createReduceKernels(
  { launch, free }: Launcher,
  { fill, permute }: Pick<Kernels, 'fill' | 'permute'>,
  reduceMiddle: ReduceMiddle,
) {
  return {
    reduce(name, x, axes, out) {
      if (sizeOf(x.shape) === 0) return fill(reduceIdentity[name], out)
      const length = sizeOf(axes.map(axis => x.shape[axis]))
      const groups = reduceGroups(x.shape, axes)
      if (groups.filter(group => group.reduced).length <= 1) {
        const last = groups[groups.length - 1]
        const inner = length === 1 || last.reduced ? 1 : last.extent
        return reduceMiddle(name, x, length, inner, out)
      }
      // Reduced axes that are not adjacent are moved to the end first.
      const order = [...x.shape.keys()].sort((i, j) => Number(axes.includes(i)) - Number(axes.includes(j)))
      const turned = { dtype: x.dtype, shape: order.map(axis => x.shape[axis]) }
      const storage = permute(x, order, turned)
      const y = reduceMiddle(name, { ...turned, storage }, length, 1, out)
      free(storage)
      return y
    },

    sumOfSquares(xs, out) {
      const lanes = { dtype: 'f32', shape: [squareLanes] } as const
      let total = fill(0, lanes)
      for (const x of xs) {
        const length = sizeOf(x.shape)
        const operands = [x, { ...lanes, storage: total }]
        const next = launch({ key: 'addSquares', kernel: addSquares }, operands, lanes, [length, squareLanes])
        free(total)
        total = next
      }
      const y = reduceMiddle('sum', { ...lanes, storage: total }, squareLanes, 1, out)
      free(total)
      return y
    },
  } satisfies Partial<BackendKernels>
}
