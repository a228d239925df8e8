/**
 * Layer normalisation over the last axis, plain and with the scale and shift that adaptive layer norm takes from the
 * condition, and the gated residual that goes with it in DiT's blocks. The two norms share their loops: y = x̂ ⊙ a + b
 * with x̂ = (x − mean) / √(var + eps), where a and b are the same for all rows or one per example.
 */

import type { BackendKernels } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { sizeOf } from '../../shape.ts'
import { type Host, output } from './host.ts'

export function normLoops(host: Host) {
  return {
    layerNorm(x, w, b, eps, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const W = w === null ? null : host.view(w.storage)
      const B = b === null ? null : host.view(b.storage)
      const D = x.shape[x.shape.length - 1]
      eachNormalised(X, D, eps, (r, unit) => {
        for (let d = 0; d < D; d++) Y[r * D + d] = unit[d] * (W === null ? 1 : W[d]) + (B === null ? 0 : B[d])
      })
      return y
    },

    layerNormGrad(g, x, w, eps) {
      const gx = output(host, x)
      const gw = w === null ? null : output(host, w)
      const gb = w === null ? null : output(host, w)
      const [G, X, GX] = [host.view(g.storage), host.view(x.storage), host.view(gx)]
      const W = w === null ? null : host.view(w.storage)
      const D = x.shape[x.shape.length - 1]
      const [sumW, sumB, gUnit] = [new Float64Array(D), new Float64Array(D), new Float64Array(D)]
      eachNormalised(X, D, eps, (r, unit, inverseStd) => {
        for (let d = 0; d < D; d++) {
          const gd = G[r * D + d]
          gUnit[d] = gd * (W === null ? 1 : W[d])
          sumW[d] += gd * unit[d]
          sumB[d] += gd
        }
        normaliseGrad(gUnit, unit, inverseStd, GX, r * D)
      })
      if (gw === null || gb === null) return [gx]
      host.view(gw).set(sumW)
      host.view(gb).set(sumB)
      return [gx, gw, gb]
    },

    adaLayerNorm(x, shift, scale, eps, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const [B, A] = [host.view(shift.storage), host.view(scale.storage)]
      const [, T, D] = x.shape
      eachNormalised(X, D, eps, (r, unit) => {
        const n = Math.floor(r / T) * D
        for (let d = 0; d < D; d++) Y[r * D + d] = unit[d] * (1 + A[n + d]) + B[n + d]
      })
      return y
    },

    adaLayerNormGrad(g, x, scale, eps) {
      const gx = output(host, x)
      const gshift = output(host, scale)
      const gscale = output(host, scale)
      const [G, X, GX, A] = [host.view(g.storage), host.view(x.storage), host.view(gx), host.view(scale.storage)]
      const [N, T, D] = x.shape
      const [sumA, sumB, gUnit] = [new Float64Array(N * D), new Float64Array(N * D), new Float64Array(D)]
      eachNormalised(X, D, eps, (r, unit, inverseStd) => {
        const n = Math.floor(r / T) * D
        for (let d = 0; d < D; d++) {
          const gd = G[r * D + d]
          gUnit[d] = gd * (1 + A[n + d])
          sumA[n + d] += gd * unit[d]
          sumB[n + d] += gd
        }
        normaliseGrad(gUnit, unit, inverseStd, GX, r * D)
      })
      host.view(gshift).set(sumB)
      host.view(gscale).set(sumA)
      return [gx, gshift, gscale]
    },

    gatedResidual(x, gate, y, out) {
      const z = output(host, out)
      const [X, A, Y, Z] = [host.view(x.storage), host.view(gate.storage), host.view(y.storage), host.view(z)]
      const [N, T, D] = x.shape
      for (let n = 0, i = 0; n < N; n++)
        for (let t = 0; t < T; t++) for (let d = 0; d < D; d++, i++) Z[i] = X[i] + A[n * D + d] * Y[i]
      return z
    },

    gatedResidualGrad(g, gate, y) {
      const ggate = output(host, gate)
      const gy = output(host, y)
      const [G, A, Y, GY] = [host.view(g.storage), host.view(gate.storage), host.view(y.storage), host.view(gy)]
      const [N, T, D] = y.shape
      const sums = new Float64Array(sizeOf(gate.shape))
      for (let n = 0, i = 0; n < N; n++) {
        for (let t = 0; t < T; t++) {
          for (let d = 0; d < D; d++, i++) {
            sums[n * D + d] += G[i] * Y[i]
            GY[i] = G[i] * A[n * D + d]
          }
        }
      }
      host.view(ggate).set(sums)
      return [ggate, gy]
    },
  } satisfies Partial<BackendKernels>
}

/** For each row of x (R, D): its number, x̂ in a buffer that is used again, and 1/√(var + eps); var is over D, not D − 1. */
function eachNormalised(
  x: TypedArray,
  D: number,
  eps: number,
  each: (r: number, unit: Float64Array, inverseStd: number) => void,
): void {
  const unit = new Float64Array(D)
  for (let r = 0; r * D < x.length; r++) {
    let mean = 0
    for (let d = 0; d < D; d++) mean += x[r * D + d]
    mean /= D
    let variance = 0
    for (let d = 0; d < D; d++) {
      unit[d] = x[r * D + d] - mean
      variance += unit[d] * unit[d]
    }
    variance /= D
    const inverseStd = 1 / Math.sqrt(variance + eps)
    for (let d = 0; d < D; d++) unit[d] *= inverseStd
    each(r, unit, inverseStd)
  }
}

/** gx = (gx̂ − mean(gx̂) − x̂ mean(gx̂ ⊙ x̂)) / √(var + eps): what is left of gx̂ once mean and variance follow x. */
function normaliseGrad(gUnit: Float64Array, unit: Float64Array, inverseStd: number, gx: TypedArray, at: number): void {
  const D = unit.length
  let [mean, dot] = [0, 0]
  for (let d = 0; d < D; d++) {
    mean += gUnit[d]
    dot += gUnit[d] * unit[d]
  }
  mean /= D
  dot /= D
  for (let d = 0; d < D; d++) gx[at + d] = (gUnit[d] - mean - unit[d] * dot) * inverseStd
}
