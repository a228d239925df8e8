/**
 * The contract's kernels as hand-written shaders: for each, its plan and what is bound where. Calls with nothing to
 * compute go to the kernels of the same name that gpu.js translates. Next: program.ts.
 */

import type { FusedKernels, Kernels, Operand, Spec } from '../../../backend.ts'
import { sizeOf } from '../../../shape.ts'
import type { Launcher } from '../program.ts'
import { fits, selfAttentionPlan } from './attention.ts'
import { selfAttentionGradPlan } from './attention-grad.ts'
import { linearPlan, matmulPlan } from './matmul.ts'
import {
  adaLayerNormGradPlan,
  adaLayerNormPlan,
  gatedResidualGradPlan,
  layerNormGradPlan,
  layerNormPlan,
} from './norm.ts'
import { reducePlan, sumOfSquaresPlan } from './reduce.ts'
import { softmaxGradPlan, softmaxPlan } from './softmax.ts'

type Names =
  | 'softmax'
  | 'softmaxGrad'
  | 'logSoftmax'
  | 'logSoftmaxGrad'
  | 'layerNorm'
  | 'layerNormGrad'
  | 'adaLayerNorm'
  | 'adaLayerNormGrad'
  | 'gatedResidualGrad'
  | 'selfAttention'
  | 'selfAttentionGrad'
  | 'sumOfSquares'
  | 'linear'

type Written = Pick<Kernels, 'matmul' | 'reduce'> & Pick<FusedKernels, Names>

/** Whether there is nothing to read or nothing to write. */
function isEmpty(...xs: readonly (Spec | null)[]): boolean {
  return xs.some(x => x !== null && sizeOf(x.shape) === 0)
}

/** Operands by name, without those that are absent. */
function present(xs: Readonly<Record<string, Operand | null>>): Record<string, Operand> {
  return Object.fromEntries(Object.entries(xs).filter((x): x is [string, Operand] => x[1] !== null))
}

/** Kernels on `launcher`'s device, which must take plans; `plain` has the same kernels without hand-written shaders. */
export function writtenKernels({ plan }: Launcher, plain: Written): Written {
  return {
    matmul(a, b, transposeA, transposeB, out) {
      if (isEmpty(a, b)) return plain.matmul(a, b, transposeA, transposeB, out)
      return plan(matmulPlan(a.shape, b.shape, transposeA, transposeB, out.shape), { a, b }, { out })[0]
    },
    linear(x, w, b, y) {
      if (isEmpty(x, w)) return plain.linear(x, w, b, y)
      return plan(linearPlan(x.shape, w.shape, b !== null), present({ x, w, b }), { y })[0]
    },
    reduce(name, x, axes, y) {
      if (isEmpty(x, y)) return plain.reduce(name, x, axes, y)
      return plan(reducePlan(name, x.shape, axes), { x }, { y })[0]
    },
    softmax(x, y) {
      if (isEmpty(x)) return plain.softmax(x, y)
      return plan(softmaxPlan('softmax', x.shape), { x }, { y })[0]
    },
    logSoftmax(x, y) {
      if (isEmpty(x)) return plain.logSoftmax(x, y)
      return plan(softmaxPlan('logSoftmax', x.shape), { x }, { y })[0]
    },
    softmaxGrad(g, y, gx) {
      if (isEmpty(y)) return plain.softmaxGrad(g, y, gx)
      return plan(softmaxGradPlan('softmaxGrad', y.shape), { g, y }, { gx })[0]
    },
    logSoftmaxGrad(g, y, gx) {
      if (isEmpty(y)) return plain.logSoftmaxGrad(g, y, gx)
      return plan(softmaxGradPlan('logSoftmaxGrad', y.shape), { g, y }, { gx })[0]
    },
    layerNorm(x, w, b, eps, y) {
      if (isEmpty(x)) return plain.layerNorm(x, w, b, eps, y)
      return plan(layerNormPlan(x.shape, w !== null, b !== null, eps), present({ x, w, b }), { y })[0]
    },
    layerNormGrad(g, x, w, eps) {
      if (isEmpty(x)) return plain.layerNormGrad(g, x, w, eps)
      return plan(layerNormGradPlan(x.shape, w !== null, eps), present({ g, x, w }), present({ gx: x, gw: w, gb: w }))
    },
    adaLayerNorm(x, shift, scale, eps, y) {
      if (isEmpty(x)) return plain.adaLayerNorm(x, shift, scale, eps, y)
      return plan(adaLayerNormPlan(x.shape, eps), { x, shift, scale }, { y })[0]
    },
    adaLayerNormGrad(g, x, scale, eps) {
      if (isEmpty(x)) return plain.adaLayerNormGrad(g, x, scale, eps)
      return plan(adaLayerNormGradPlan(x.shape, eps), { g, x, scale }, { gx: x, gshift: scale, gscale: scale })
    },
    gatedResidualGrad(g, gate, y) {
      if (isEmpty(y)) return plain.gatedResidualGrad(g, gate, y)
      return plan(gatedResidualGradPlan(y.shape), { g, gate, y }, { ggate: gate, gy: y })
    },
    selfAttention(qkv, bias, heads, y) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return plain.selfAttention(qkv, bias, heads, y)
      return plan(selfAttentionPlan(qkv.shape, bias?.shape ?? null, heads), present({ qkv, bias }), { y })[0]
    },
    selfAttentionGrad(g, qkv, bias, heads) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return plain.selfAttentionGrad(g, qkv, bias, heads)
      const made = selfAttentionGradPlan(qkv.shape, bias?.shape ?? null, heads)
      return plan(made, present({ g, qkv, bias }), present({ gqkv: qkv, gbias: bias }))
    },
    sumOfSquares(xs, y) {
      if (xs.length === 0 || isEmpty(...xs)) return plain.sumOfSquares(xs, y)
      const named = Object.fromEntries(xs.map((x, i) => [`x${i}`, x]))
      return plan(sumOfSquaresPlan(xs.map(({ shape }) => sizeOf(shape))), named, { y })[0]
    },
  }
}
