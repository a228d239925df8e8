/**
 * Kernels of an optimizer step: the squared norm of all gradients, and updates in place, which write nothing
 * where the step's gradients are not finite. The formulas are those of ops/update.ts.
 */

import type { FusedKernels, Kernels, Operand, UpdateKernels } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { type Host, output } from './host.ts'

export function optimizerLoops(
  host: Host,
): Pick<Kernels, 'assign'> & Pick<FusedKernels, 'sumOfSquares'> & UpdateKernels {
  const elements = (x: Operand): TypedArray => host.view(x.storage)
  const scalarOf = (scalar: Operand): number => elements(scalar)[0]

  return {
    sumOfSquares(xs, out) {
      const y = output(host, out)
      let sum = 0
      for (const x of xs) {
        const X = elements(x)
        for (let i = 0; i < X.length; i++) sum += X[i] * X[i]
      }
      host.view(y)[0] = sum
      return y
    },

    assign(rows, _, { finite }) {
      if (scalarOf(finite) === 0) return
      for (const { target, source } of rows) elements(target).set(elements(source))
    },

    lerp(rows, { weight }, { finite }) {
      if (scalarOf(finite) === 0) return
      for (const { target, source } of rows) {
        const [Y, X] = [elements(target), elements(source)]
        for (let i = 0; i < Y.length; i++) Y[i] += weight * (X[i] - Y[i])
      }
    },

    // [AdamW alg. 2], in PyTorch's order: decay first, then the step; eps joins the corrected root.
    adamW(rows, { lr, betas: [beta1, beta2], eps, weightDecay, maximize }, scalars) {
      if (scalarOf(scalars.finite) === 0) return
      const clip = maximize ? -scalarOf(scalars.clip) : scalarOf(scalars.clip)
      const stepSize = lr / scalarOf(scalars.correction1)
      const rootCorrection2 = Math.sqrt(scalarOf(scalars.correction2))
      for (const { p, g, m, v, vmax } of rows) {
        const [P, G, M, V] = [p, g, m, v].map(elements)
        const Vmax = vmax === undefined ? V : elements(vmax)
        for (let i = 0; i < P.length; i++) {
          const gi = clip * G[i]
          M[i] = beta1 * M[i] + (1 - beta1) * gi
          V[i] = beta2 * V[i] + (1 - beta2) * gi * gi
          if (Vmax !== V) Vmax[i] = Math.max(Vmax[i], V[i])
          const denominator = Math.sqrt(Vmax[i]) / rootCorrection2 + eps
          P[i] = P[i] * (1 - lr * weightDecay) - (stepSize * M[i]) / denominator
        }
      }
    },

    // [Adan alg. 1]
    adan(rows, { lr, betas: [beta1, beta2, beta3], eps, weightDecay, decay }, scalars) {
      if (scalarOf(scalars.finite) === 0) return
      const clip = scalarOf(scalars.clip)
      const c1 = scalarOf(scalars.correction1)
      const c2 = scalarOf(scalars.correction2)
      const rootCorrection3 = Math.sqrt(scalarOf(scalars.correction3))
      const shrink = lr * weightDecay
      for (const { p, g, m, d, v, before, started } of rows) {
        const [P, G, M, D, V, B] = [p, g, m, d, v, before].map(elements)
        const first = scalarOf(started) === 0
        for (let i = 0; i < P.length; i++) {
          const gi = clip * G[i]
          const change = first ? 0 : gi - B[i]
          const ahead = gi + beta2 * change
          M[i] = beta1 * M[i] + (1 - beta1) * gi
          D[i] = beta2 * D[i] + (1 - beta2) * change
          V[i] = beta3 * V[i] + (1 - beta3) * ahead * ahead
          B[i] = gi
          const direction = (M[i] / c1 + (beta2 * D[i]) / c2) / (Math.sqrt(V[i]) / rootCorrection3 + eps)
          P[i] = decay === 'before' ? P[i] * (1 - shrink) - lr * direction : (P[i] - lr * direction) / (1 + shrink)
        }
      }
    },

    sgd(rows, { lr, momentum, dampening, nesterov, weightDecay, maximize }, scalars) {
      if (scalarOf(scalars.finite) === 0) return
      const clip = maximize ? -scalarOf(scalars.clip) : scalarOf(scalars.clip)
      for (const { p, g, b, started } of rows) {
        const [P, G, B] = [p, g, b].map(elements)
        const first = started !== undefined && scalarOf(started) === 0
        for (let i = 0; i < P.length; i++) {
          const gi = clip * G[i] + (weightDecay === 0 ? 0 : weightDecay * P[i])
          B[i] = first ? gi : momentum * B[i] + (1 - dampening) * gi
          P[i] -= lr * (nesterov ? gi + momentum * B[i] : B[i])
        }
      }
    },
  }
}
