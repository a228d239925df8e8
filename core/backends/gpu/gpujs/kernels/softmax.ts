/**
 * Softmax and log-softmax over the last axis, with gradients: one number per row first, then every element. Used where
 * webgpu/wgsl/softmax.ts is not.
 */

import type { BackendKernels, Operand, Storage } from '../../../../backend.ts'
import { sizeOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'
import { functionOf } from '../library.ts'
import type { ReduceMiddle } from './reduce.ts'

declare function quotient(a: number, b: number): number
declare function place(i: number, s: number, j: number, t: number, k: number, u: number): number
declare function term(a: number, b: number): number
declare function finish(a: number, b: number, c: number): number

/** Per row of a and b (R, width): Σ term(a, b), in blocks of 64. */
function rowSum(this: Thread, a: Elements, b: Elements, width: number): number {
  let total = 0
  for (let from = 0; from < width; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < width) {
        part += term(
          a[place(this.thread.x, width, from + k, 1, 0, 0)],
          b[place(this.thread.x, width, from + k, 1, 0, 0)],
        )
      }
    }
    total += part
  }
  return total
}

/** The same with one element of b per row. */
function rowSumShifted(this: Thread, a: Elements, b: Elements, width: number): number {
  let total = 0
  for (let from = 0; from < width; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < width) {
        part += term(a[place(this.thread.x, width, from + k, 1, 0, 0)], b[this.thread.x])
      }
    }
    total += part
  }
  return total
}

/** finish(x, m, s) with m and s of the row. */
function finishByRow(this: Thread, x: Elements, m: Elements, s: Elements, width: number): number {
  return finish(x[this.thread.x], m[quotient(this.thread.x, width)], s[quotient(this.thread.x, width)])
}

/** finish(g, y, s) with s of the row. */
function finishPair(this: Thread, g: Elements, y: Elements, s: Elements, width: number): number {
  return finish(g[this.thread.x], y[this.thread.x], s[quotient(this.thread.x, width)])
}

export function createSoftmaxKernels({ launch, free }: Launcher, reduceMiddle: ReduceMiddle) {
  const rowsOf = (x: Operand) => {
    const width = x.shape[x.shape.length - 1]
    const R = sizeOf(x.shape.slice(0, -1))
    coordinate('softmax', Math.max(R, width))
    return { width, perRow: { dtype: x.dtype, shape: [R] } as const }
  }

  const forward = (key: string, f: (x: number, m: number, s: number) => number) => (x: Operand) => {
    const { width, perRow } = rowsOf(x)
    const largest = { ...perRow, storage: reduceMiddle('max', x, width, 1, perRow) }
    const exps = { term: functionOf('term', 2, (a: number, b: number) => Math.exp(a - b)) }
    const sums = launch({ key: 'expSum', kernel: rowSumShifted, functions: exps }, [x, largest], perRow, [width])
    const functions = { finish: functionOf('finish', 3, f) }
    const operands = [x, largest, { ...perRow, storage: sums }]
    const y = launch({ key, kernel: finishByRow, functions }, operands, x, [width])
    free(largest.storage)
    free(sums)
    return y
  }

  const backward =
    (key: string, t: (g: number, y: number) => number, f: (g: number, y: number, s: number) => number) =>
    (g: Operand, y: Operand): Storage => {
      const { width, perRow } = rowsOf(g)
      const terms = { term: functionOf('term', 2, t) }
      const sums = launch({ key: `${key} sum`, kernel: rowSum, functions: terms }, [g, y], perRow, [width])
      const functions = { finish: functionOf('finish', 3, f) }
      const gx = launch({ key, kernel: finishPair, functions }, [g, y, { ...perRow, storage: sums }], g, [width])
      free(sums)
      return gx
    }

  return {
    softmax: forward('softmax', (x, m, s) => Math.exp(x - m) / s),
    logSoftmax: forward('logSoftmax', (x, m, s) => x - m - Math.log(s)),
    softmaxGrad: backward(
      'softmaxGrad',
      (g, y) => g * y,
      (g, y, s) => y * (g - s),
    ),
    logSoftmaxGrad: backward(
      'logSoftmaxGrad',
      g => g,
      (g, y, s) => g - Math.exp(y) * s,
    ),
  } satisfies Partial<BackendKernels>
}
