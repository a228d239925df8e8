/**
 * What an optimizer step does to memory: the squared norm of all gradients, AdamW, and the moving average of weights.
 * The last two write in place, and write nothing where the step's gradients were not finite.
 */

import type { FusedKernels } from '../../backend.ts'
import { type Host, output } from './host.ts'

export function optimizerLoops(host: Host): Pick<FusedKernels, 'sumOfSquares' | 'adamW' | 'lerp'> {
  return {
    sumOfSquares(xs, out) {
      const y = output(host, out)
      let sum = 0
      for (const x of xs) {
        const X = host.view(x.storage)
        for (let i = 0; i < X.length; i++) sum += X[i] * X[i]
      }
      host.view(y)[0] = sum
      return y
    },

    // [AdamW alg. 2], in PyTorch's order: decay first, then the step; eps joins the corrected root.
    adamW(tensors, { lr, beta1, beta2, eps, weightDecay }, scalars) {
      if (host.view(scalars.finite.storage)[0] === 0) return
      const clip = host.view(scalars.clip.storage)[0]
      const stepSize = lr / host.view(scalars.correction1.storage)[0]
      const rootCorrection2 = Math.sqrt(host.view(scalars.correction2.storage)[0])
      for (const { p, g, m, v } of tensors) {
        const [P, G, M, V] = [p, g, m, v].map(x => host.view(x.storage))
        for (let i = 0; i < P.length; i++) {
          const gi = clip * G[i]
          M[i] = beta1 * M[i] + (1 - beta1) * gi
          V[i] = beta2 * V[i] + (1 - beta2) * gi * gi
          const denominator = Math.sqrt(V[i]) / rootCorrection2 + eps
          P[i] = P[i] * (1 - lr * weightDecay) - (stepSize * M[i]) / denominator
        }
      }
    },

    lerp(targets, sources, weight, finite) {
      if (host.view(finite.storage)[0] === 0) return
      targets.forEach((target, k) => {
        const [Y, X] = [host.view(target.storage), host.view(sources[k].storage)]
        for (let i = 0; i < Y.length; i++) Y[i] += weight * (X[i] - Y[i])
      })
    },
  }
}
