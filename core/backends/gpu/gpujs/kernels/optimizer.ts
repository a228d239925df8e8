/**
 * The update of weights and of their moving average. A kernel gives one result, so each moment and the weights have one,
 * whose result takes the place of the old elements.
 */

import type { Kernels, UpdateKernels } from '../../../../backend.ts'
import type { Launcher } from '../../program.ts'
import type { Elements, Thread } from '../kernel.ts'

declare function larger(a: number, b: number): number

/** source */
function assign(this: Thread, target: Elements, source: Elements, finite: Elements): number {
  if (finite[0] === 0) {
    return target[this.thread.x]
  }
  return source[this.thread.x]
}

/** m ← β m + (1 − β) clip g; `sign` is that of g */
// biome-ignore format: one group of parameters a line
function firstMoment(
  this: Thread, m: Elements, g: Elements, clip: Elements, finite: Elements, beta: number, sign: number,
): number {
  if (finite[0] === 0) {
    return m[this.thread.x]
  }
  return m[this.thread.x] * beta + g[this.thread.x] * (sign * clip[0]) * (1 - beta)
}

/** v ← β v + (1 − β) (clip g)² */
// biome-ignore format: one group of parameters a line
function secondMoment(
  this: Thread, v: Elements, g: Elements, clip: Elements, finite: Elements, beta: number,
): number {
  if (finite[0] === 0) {
    return v[this.thread.x]
  }
  const clipped = g[this.thread.x] * clip[0]
  return v[this.thread.x] * beta + clipped * clipped * (1 - beta)
}

/** max(vmax, v) */
function largest(this: Thread, vmax: Elements, v: Elements, finite: Elements): number {
  if (finite[0] === 0) {
    return vmax[this.thread.x]
  }
  return larger(vmax[this.thread.x], v[this.thread.x])
}

/** p ← (1 − lr λ) p − lr (m / c1) / (√v / √c2 + eps); `keep` is 1 − lr λ. */
// biome-ignore format: one group of parameters a line
function weights(
  this: Thread, p: Elements, m: Elements, v: Elements, c1: Elements, c2: Elements, finite: Elements,
  lr: number, eps: number, keep: number,
): number {
  if (finite[0] === 0) {
    return p[this.thread.x]
  }
  const denominator = Math.sqrt(v[this.thread.x]) / Math.sqrt(c2[0]) + eps
  return p[this.thread.x] * keep - (lr * (m[this.thread.x] / c1[0])) / denominator
}

/** target + weight (source − target) */
function lerp(this: Thread, target: Elements, source: Elements, finite: Elements, weight: number): number {
  if (finite[0] === 0) {
    return target[this.thread.x]
  }
  return target[this.thread.x] + weight * (source[this.thread.x] - target[this.thread.x])
}

export function createUpdateKernels({
  update,
}: Launcher): Pick<Kernels, 'assign'> & Pick<UpdateKernels, 'adamW' | 'lerp'> {
  return {
    assign(rows, _, { finite }) {
      for (const { target, source } of rows) update(target, { key: 'assign', kernel: assign }, [target, source, finite])
    },

    lerp(rows, { weight }, { finite }) {
      for (const { target, source } of rows)
        update(target, { key: 'lerp', kernel: lerp }, [target, source, finite], [], [weight])
    },

    adamW(rows, { lr, betas: [beta1, beta2], eps, weightDecay, maximize }, { clip, correction1, correction2, finite }) {
      for (const { p, g, m, v, vmax } of rows) {
        update(m, { key: 'firstMoment', kernel: firstMoment }, [m, g, clip, finite], [], [beta1, maximize ? -1 : 1])
        update(v, { key: 'secondMoment', kernel: secondMoment }, [v, g, clip, finite], [], [beta2])
        if (vmax !== undefined) update(vmax, { key: 'largest', kernel: largest }, [vmax, v, finite])
        const operands = [p, m, vmax ?? v, correction1, correction2, finite]
        update(p, { key: 'weights', kernel: weights }, operands, [], [lr, eps, 1 - lr * weightDecay])
      }
    },
  }
}
