/**
 * Softmax and its logarithm over the last axis, with their gradients, as written in textbooks: the maximum is taken off
 * first, so that no exponential overflows.
 */

import type { BackendKernels, Operand } from '../../backend.ts'
import { sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function softmaxLoops(host: Host) {
  return {
    softmax(x, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const [R, D] = rows(x)
      const e = new Float64Array(D)
      for (let r = 0; r < R; r++) {
        let max = -Infinity
        for (let d = 0; d < D; d++) max = Math.max(max, X[r * D + d])
        let sum = 0
        for (let d = 0; d < D; d++) {
          e[d] = Math.exp(X[r * D + d] - max)
          sum += e[d]
        }
        for (let d = 0; d < D; d++) Y[r * D + d] = e[d] / sum
      }
      return y
    },

    softmaxGrad(g, y, out) {
      const gx = output(host, out)
      const [G, Y, GX] = [host.view(g.storage), host.view(y.storage), host.view(gx)]
      const [R, D] = rows(y)
      for (let r = 0; r < R; r++) {
        let dot = 0
        for (let d = 0; d < D; d++) dot += G[r * D + d] * Y[r * D + d]
        for (let d = 0; d < D; d++) GX[r * D + d] = Y[r * D + d] * (G[r * D + d] - dot)
      }
      return gx
    },

    logSoftmax(x, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const [R, D] = rows(x)
      for (let r = 0; r < R; r++) {
        let max = -Infinity
        for (let d = 0; d < D; d++) max = Math.max(max, X[r * D + d])
        let sum = 0
        for (let d = 0; d < D; d++) sum += Math.exp(X[r * D + d] - max)
        const log = Math.log(sum)
        for (let d = 0; d < D; d++) Y[r * D + d] = X[r * D + d] - max - log
      }
      return y
    },

    logSoftmaxGrad(g, y, out) {
      const gx = output(host, out)
      const [G, Y, GX] = [host.view(g.storage), host.view(y.storage), host.view(gx)]
      const [R, D] = rows(y)
      for (let r = 0; r < R; r++) {
        let sum = 0
        for (let d = 0; d < D; d++) sum += G[r * D + d]
        for (let d = 0; d < D; d++) GX[r * D + d] = G[r * D + d] - Math.exp(Y[r * D + d]) * sum
      }
      return gx
    },
  } satisfies Partial<BackendKernels>
}

/** Number of rows along the last axis, and their length. */
function rows(x: Operand): [number, number] {
  return [sizeOf(x.shape.slice(0, -1)), x.shape[x.shape.length - 1]]
}
