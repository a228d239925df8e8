/**
 * Kernels that go along an axis in order: running sums, and the order that sorts a row.
 */

import type { BackendKernels } from '../../backend.ts'
import { sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function scanLoops(host: Host) {
  return {
    cumsum(x, axis, reverse, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const n = x.shape[axis]
      const inner = sizeOf(x.shape.slice(axis + 1))
      const sums = new Float64Array(inner)
      for (let start = 0; start < X.length; start += n * inner) {
        sums.fill(0)
        for (let k = 0; k < n; k++) {
          const from = start + (reverse ? n - 1 - k : k) * inner
          for (let i = 0; i < inner; i++) Y[from + i] = sums[i] += X[from + i]
        }
      }
      return y
    },

    argsort(x, descending, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const n = x.shape[x.shape.length - 1]
      const sign = descending ? -1 : 1
      for (let start = 0; start < X.length; start += n) {
        const row = X.subarray(start, start + n)
        const order = Int32Array.from(row, (_, i) => i)
        Y.set(
          order.sort((i, j) => sign * compare(row[i], row[j])), // a typed array sorts stably
          start,
        )
      }
      return y
    },
  } satisfies Partial<BackendKernels>
}

/** Below 0 where a comes first. NaN comes last. */
function compare(a: number, b: number): number {
  if (a < b) return -1
  if (a > b) return 1
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b))
}
