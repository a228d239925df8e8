/**
 * The kernels that WebGPU runs as hand-written shaders (wgsl/) instead of gpu.js' translations. Plans are cached by
 * shape, so a repeated step makes none.
 */

import type { BackendKernels, FusedKernels, Kernels, Operand, Spec, Storage, UpdateKernels } from '../../../backend.ts'
import { type Shape, sizeOf } from '../../../shape.ts'
import type { Launcher, Plan } from '../program.ts'
import { fits, selfAttentionPlan } from './wgsl/attention.ts'
import { selfAttentionGradPlan } from './wgsl/attention-grad.ts'
import { adamWPlan, concatPlan, lerpPlan, operandsTogether, pairsTogether, sumOfSquaresPlan } from './wgsl/many.ts'
import { linearPlan, matmulPlan } from './wgsl/matmul.ts'
import {
  adaLayerNormGradPlan,
  adaLayerNormPlan,
  gatedResidualGradPlan,
  layerNormGradPlan,
  layerNormPlan,
} from './wgsl/norm.ts'
import { reducePlan } from './wgsl/reduce.ts'
import { softmaxGradPlan, softmaxPlan } from './wgsl/softmax.ts'

type Named = Readonly<Record<string, Operand>>
type Specs = Readonly<Record<string, Spec>>

const mostPlans = 4096

/** Kernels that the hand-written ones fall back on, for empty arrays and large heads. */
type Fallbacks = Kernels &
  Pick<FusedKernels, 'linear' | 'selfAttention' | 'selfAttentionGrad'> &
  Pick<UpdateKernels, 'adamW' | 'lerp'>

/** Returns `kernels` with some replaced by hand-written shaders. */
export function createWgslKernels({ plan }: Launcher, kernels: Fallbacks): BackendKernels {
  const plans = new Map<string, Plan>()

  function run(key: string, make: () => Plan, named: Named, results: Specs): Storage[] {
    let found = plans.get(key)
    if (found === undefined) {
      if (plans.size >= mostPlans) plans.clear()
      found = make()
      plans.set(key, found)
    }
    return plan(found, named, results)
  }

  const isEmpty = ({ shape }: { readonly shape: Shape }) => sizeOf(shape) === 0
  const operand = (name: string, x: Operand | null): Named => (x === null ? {} : { [name]: x })
  const numbered = (xs: readonly Operand[]): Named => Object.fromEntries(xs.map((x, i) => [`x${i}`, x]))

  return {
    ...kernels,

    reduce(name, x, axes, out) {
      if (isEmpty(x)) return kernels.reduce(name, x, axes, out)
      const key = `reduce ${name} ${x.shape} / ${axes}`
      return run(key, () => reducePlan(name, x.shape, axes), { x }, { y: out })[0]
    },

    matmul(a, b, transposeA, transposeB, out) {
      if (isEmpty(a) || isEmpty(b)) return kernels.matmul(a, b, transposeA, transposeB, out)
      const key = `matmul ${a.shape} ${transposeA} / ${b.shape} ${transposeB}`
      return run(key, () => matmulPlan(a.shape, b.shape, transposeA, transposeB, out.shape), { a, b }, { out })[0]
    },

    linear(x, w, b, out) {
      if (isEmpty(x) || isEmpty(w)) return kernels.linear(x, w, b, out)
      const key = `linear ${x.shape} / ${w.shape} ${b !== null}`
      const named = { x, w, ...operand('b', b) }
      return run(key, () => linearPlan(x.shape, w.shape, b !== null), named, { y: out })[0]
    },

    softmax: (x, out) => run(`softmax ${x.shape}`, () => softmaxPlan('softmax', x.shape), { x }, { y: out })[0],
    logSoftmax: (x, out) =>
      run(`logSoftmax ${x.shape}`, () => softmaxPlan('logSoftmax', x.shape), { x }, { y: out })[0],
    softmaxGrad: (g, y, out) =>
      run(`softmaxGrad ${g.shape}`, () => softmaxGradPlan('softmaxGrad', g.shape), { g, y }, { gx: out })[0],
    logSoftmaxGrad: (g, y, out) =>
      run(`logSoftmaxGrad ${g.shape}`, () => softmaxGradPlan('logSoftmaxGrad', g.shape), { g, y }, { gx: out })[0],

    layerNorm(x, w, b, eps, out) {
      const key = `layerNorm ${x.shape} ${eps} ${w !== null} ${b !== null}`
      const named = { x, ...operand('w', w), ...operand('b', b) }
      return run(key, () => layerNormPlan(x.shape, w !== null, b !== null, eps), named, { y: out })[0]
    },
    layerNormGrad(g, x, w, eps) {
      const key = `layerNormGrad ${x.shape} ${eps} ${w !== null}`
      const results: Specs = w === null ? { gx: x } : { gx: x, gw: w, gb: w }
      return run(key, () => layerNormGradPlan(x.shape, w !== null, eps), { g, x, ...operand('w', w) }, results)
    },
    adaLayerNorm: (x, shift, scale, eps, out) =>
      run(`adaLayerNorm ${x.shape} ${eps}`, () => adaLayerNormPlan(x.shape, eps), { x, shift, scale }, { y: out })[0],
    adaLayerNormGrad(g, x, scale, eps) {
      const results = { gx: x, gshift: scale, gscale: scale }
      return run(
        `adaLayerNormGrad ${x.shape} ${eps}`,
        () => adaLayerNormGradPlan(x.shape, eps),
        { g, x, scale },
        results,
      )
    },
    gatedResidualGrad: (g, gate, y) =>
      run(`gatedGrad ${y.shape}`, () => gatedResidualGradPlan(y.shape), { g, gate, y }, { ggate: gate, gy: y }),

    selfAttention(qkv, bias, heads, out) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return kernels.selfAttention(qkv, bias, heads, out)
      const key = `selfAttention ${qkv.shape} / ${bias?.shape} / ${heads}`
      const make = () => selfAttentionPlan(qkv.shape, bias?.shape ?? null, heads)
      return run(key, make, { qkv, ...operand('bias', bias) }, { y: out })[0]
    },
    selfAttentionGrad(g, qkv, bias, heads) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return kernels.selfAttentionGrad(g, qkv, bias, heads)
      const key = `selfAttentionGrad ${qkv.shape} / ${bias?.shape} / ${heads}`
      const make = () => selfAttentionGradPlan(qkv.shape, bias?.shape ?? null, heads)
      return run(key, make, { g, qkv, ...operand('bias', bias) }, { gqkv: qkv, ...operand('gbias', bias) })
    },

    sumOfSquares(xs, out) {
      const sizes = xs.map(x => sizeOf(x.shape))
      return run(`sumOfSquares ${sizes}`, () => sumOfSquaresPlan(sizes), numbered(xs), { y: out })[0]
    },

    concat(xs, axis, out) {
      if (xs.length > operandsTogether || xs.some(isEmpty)) return kernels.concat(xs, axis, out)
      const shapes = xs.map(x => x.shape)
      return run(`concat ${shapes.join('/')} / ${axis}`, () => concatPlan(shapes, axis), numbered(xs), { y: out })[0]
    },

    // Hyperparameters change from step to step, so these plans are not kept.
    adamW(rows, attrs, scalars) {
      for (const { p, g, m, v, vmax } of rows) {
        if (vmax !== undefined) kernels.adamW([{ p, g, m, v, vmax }], attrs, scalars)
        else if (!isEmpty(p)) plan(adamWPlan(sizeOf(p.shape), attrs), { p, g, m, v, ...scalars }, {})
      }
    },
    lerp(rows, attrs, scalars) {
      const targets = new Set(rows.map(({ target }) => target.storage))
      // A buffer that a shader writes must not be bound a second time.
      if (targets.size < rows.length || rows.some(({ source }) => targets.has(source.storage)))
        return kernels.lerp(rows, attrs, scalars)
      const full = rows.filter(({ target }) => !isEmpty(target))
      for (let from = 0; from < full.length; from += pairsTogether) {
        const some = full.slice(from, from + pairsTogether)
        const pairs = Object.fromEntries(
          some.flatMap(({ target, source }, k) => [
            [`t${k}`, target],
            [`s${k}`, source],
          ]),
        )
        plan(
          lerpPlan(
            some.map(({ target }) => sizeOf(target.shape)),
            attrs.weight,
          ),
          { ...pairs, ...scalars },
          {},
        )
      }
    },
  }
}
