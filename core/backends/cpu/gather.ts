/**
 * Rows by index, and the adjoint of that. Indices are checked before memory is taken, so a bad one leaks nothing.
 */

import { type BackendKernels, indexError, type Operand } from '../../backend.ts'
import { type Host, output } from './host.ts'

export function gatherLoops(host: Host) {
  return {
    gatherRows(x, index, out) {
      const [B, R, D] = x.shape
      const K = index.shape[1]
      checkIndices('gatherRows', host, index, R)
      const y = output(host, out)
      const [X, I, Y] = [host.view(x.storage), host.view(index.storage), host.view(y)]
      for (let b = 0; b < B; b++) {
        for (let k = 0; k < K; k++) {
          const from = (b * R + I[b * K + k]) * D
          Y.set(X.subarray(from, from + D), (b * K + k) * D)
        }
      }
      return y
    },

    scatterAdd(index, source, out) {
      const [B, R, D] = out.shape
      const K = index.shape[1]
      checkIndices('scatterAdd', host, index, R)
      const y = output(host, out)
      const [I, S, Y] = [host.view(index.storage), host.view(source.storage), host.view(y)]
      const sums = new Float64Array(B * R * D)
      for (let b = 0; b < B; b++) {
        for (let k = 0; k < K; k++) {
          const to = (b * R + I[b * K + k]) * D
          const from = (b * K + k) * D
          for (let d = 0; d < D; d++) sums[to + d] += S[from + d]
        }
      }
      Y.set(sums)
      return y
    },
  } satisfies Partial<BackendKernels>
}

function checkIndices(op: string, host: Host, index: Operand, R: number): void {
  const I = host.view(index.storage)
  for (let i = 0; i < I.length; i++) {
    if (I[i] >= 0 && I[i] < R) continue
    const K = index.shape[1]
    throw indexError(op, R, I[i], [Math.floor(i / K), i % K])
  }
}
