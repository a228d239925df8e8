/**
 * The kernels that WebGPU runs as hand-written shaders (wgsl/) instead of gpu.js' translations. Plans are cached by
 * shape, so a repeated step makes none.
 */

import type { BackendKernels, FusedKernels, Kernels, Operand, Spec, Storage, UpdateKernels } from '../../../backend.ts'
import { type Shape, sizeOf } from '../../../shape.ts'
import type { Launcher, Plan } from '../program.ts'
import { type Branch, next, PlanTree, shapeAt } from './plan-tree.ts'
import { fits, selfAttentionPlan } from './wgsl/attention.ts'
import { selfAttentionGradPlan } from './wgsl/attention-grad.ts'
import {
  adamWPlan,
  concatPlan,
  lerpPlan,
  operandsTogether,
  pairsTogether,
  rowsTogether,
  setAdamW,
  setLerp,
  splitPlan,
  sumOfSquaresPlan,
} from './wgsl/many.ts'
import { linearPlan, matmulPlan, weightGradPlan } from './wgsl/matmul.ts'
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

/** Kernels that the hand-written ones fall back on, for empty arrays and large heads. */
type Fallbacks = Kernels &
  Pick<FusedKernels, 'linear' | 'selfAttention' | 'selfAttentionGrad'> &
  Pick<UpdateKernels, 'adamW' | 'lerp'>

/** Returns `kernels` with some replaced by hand-written shaders. */
export function createWgslKernels({ plan }: Launcher, kernels: Fallbacks): BackendKernels {
  const plans = new PlanTree()

  function run(at: Branch, make: () => Plan, named: Named, results: Specs): Storage[] {
    return plan(plans.planAt(at, make), named, results)
  }

  const isEmpty = ({ shape }: { readonly shape: Shape }) => sizeOf(shape) === 0
  const operand = (name: string, x: Operand | null): Named => (x === null ? {} : { [name]: x })
  const numbered = (xs: readonly Operand[]): Named => Object.fromEntries(xs.map((x, i) => [`x${i}`, x]))

  return {
    ...kernels,

    reduce(name, x, axes, out) {
      if (isEmpty(x)) return kernels.reduce(name, x, axes, out)
      const key = shapeAt(shapeAt(plans.of(name), x.shape), axes)
      return run(key, () => reducePlan(name, x.shape, axes), { x }, { y: out })[0]
    },

    matmul(a, b, transposeA, transposeB, out) {
      if (isEmpty(a) || isEmpty(b)) return kernels.matmul(a, b, transposeA, transposeB, out)
      const turned = next(next(plans.of('matmul'), Number(transposeA)), Number(transposeB))
      const key = shapeAt(shapeAt(turned, a.shape), b.shape)
      return run(key, () => matmulPlan(a.shape, b.shape, transposeA, transposeB, out.shape), { a, b }, { out })[0]
    },

    linear(x, w, b, out) {
      if (isEmpty(x) || isEmpty(w)) return kernels.linear(x, w, b, out)
      const key = next(shapeAt(shapeAt(plans.of('linear'), x.shape), w.shape), Number(b !== null))
      const named = { x, w, ...operand('b', b) }
      return run(key, () => linearPlan(x.shape, w.shape, b !== null), named, { y: out })[0]
    },

    linearWeightGrad(g, x) {
      const [R, O] = g.shape
      const I = x.shape[1]
      const gw = { dtype: g.dtype, shape: [O, I] }
      const gb = { dtype: g.dtype, shape: [O] }
      if (isEmpty(g) || isEmpty(x)) return [kernels.matmul(g, x, true, false, gw), kernels.reduce('sum', g, [0], gb)]
      const key = next(next(next(plans.of('linearWeightGrad'), R), O), I)
      return run(key, () => weightGradPlan(g.shape, I), { g, x }, { gw, gb })
    },

    softmax: (x, out) =>
      run(shapeAt(plans.of('softmax'), x.shape), () => softmaxPlan('softmax', x.shape), { x }, { y: out })[0],
    logSoftmax: (x, out) =>
      run(shapeAt(plans.of('logSoftmax'), x.shape), () => softmaxPlan('logSoftmax', x.shape), { x }, { y: out })[0],
    softmaxGrad: (g, y, out) =>
      run(
        shapeAt(plans.of('softmaxGrad'), g.shape),
        () => softmaxGradPlan('softmaxGrad', g.shape),
        { g, y },
        { gx: out },
      )[0],
    logSoftmaxGrad: (g, y, out) =>
      run(
        shapeAt(plans.of('logSoftmaxGrad'), g.shape),
        () => softmaxGradPlan('logSoftmaxGrad', g.shape),
        { g, y },
        { gx: out },
      )[0],

    layerNorm(x, w, b, eps, out) {
      const given = next(next(plans.of('layerNorm'), Number(w !== null)), Number(b !== null))
      const key = next(shapeAt(given, x.shape), eps)
      const named = { x, ...operand('w', w), ...operand('b', b) }
      return run(key, () => layerNormPlan(x.shape, w !== null, b !== null, eps), named, { y: out })[0]
    },
    layerNormGrad(g, x, w, eps) {
      const key = next(shapeAt(next(plans.of('layerNormGrad'), Number(w !== null)), x.shape), eps)
      const results: Specs = w === null ? { gx: x } : { gx: x, gw: w, gb: w }
      return run(key, () => layerNormGradPlan(x.shape, w !== null, eps), { g, x, ...operand('w', w) }, results)
    },
    adaLayerNorm: (x, shift, scale, eps, out) =>
      run(
        next(shapeAt(plans.of('adaLayerNorm'), x.shape), eps),
        () => adaLayerNormPlan(x.shape, eps),
        { x, shift, scale },
        { y: out },
      )[0],
    adaLayerNormGrad(g, x, scale, eps) {
      const results = { gx: x, gshift: scale, gscale: scale }
      return run(
        next(shapeAt(plans.of('adaLayerNormGrad'), x.shape), eps),
        () => adaLayerNormGradPlan(x.shape, eps),
        { g, x, scale },
        results,
      )
    },
    gatedResidualGrad: (g, gate, y) =>
      run(
        shapeAt(plans.of('gatedGrad'), y.shape),
        () => gatedResidualGradPlan(y.shape),
        { g, gate, y },
        { ggate: gate, gy: y },
      ),

    selfAttention(qkv, bias, heads, out) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return kernels.selfAttention(qkv, bias, heads, out)
      const key = next(shapeAt(shapeAt(plans.of('selfAttention'), qkv.shape), bias?.shape ?? []), heads)
      const make = () => selfAttentionPlan(qkv.shape, bias?.shape ?? null, heads)
      return run(key, make, { qkv, ...operand('bias', bias) }, { y: out })[0]
    },
    selfAttentionGrad(g, qkv, bias, heads) {
      if (isEmpty(qkv) || !fits(qkv.shape[2] / 3 / heads)) return kernels.selfAttentionGrad(g, qkv, bias, heads)
      const key = next(shapeAt(shapeAt(plans.of('selfAttentionGrad'), qkv.shape), bias?.shape ?? []), heads)
      const make = () => selfAttentionGradPlan(qkv.shape, bias?.shape ?? null, heads)
      return run(key, make, { g, qkv, ...operand('bias', bias) }, { gqkv: qkv, ...operand('gbias', bias) })
    },

    sumOfSquares(xs, out) {
      const sizes = xs.map(x => sizeOf(x.shape))
      return run(shapeAt(plans.of('sumOfSquares'), sizes), () => sumOfSquaresPlan(sizes), numbered(xs), { y: out })[0]
    },

    concat(xs, axis, out) {
      if (xs.length > operandsTogether || xs.some(isEmpty)) return kernels.concat(xs, axis, out)
      const shapes = xs.map(x => x.shape)
      return run(next(shapes.reduce(shapeAt, plans.of('concat')), axis), () => concatPlan(shapes, axis), numbered(xs), {
        y: out,
      })[0]
    },

    split(x, parts, axis) {
      if (parts > operandsTogether || isEmpty(x)) return undefined
      const part = { dtype: x.dtype, shape: x.shape.with(axis, x.shape[axis] / parts) }
      const results = Object.fromEntries(Array.from({ length: parts }, (_, k) => [`y${k}`, part]))
      return run(
        next(next(shapeAt(plans.of('split'), x.shape), parts), axis),
        () => splitPlan(x.shape, parts, axis),
        { x },
        results,
      )
    },

    adamW(rows, attrs, scalars) {
      const plain = rows.filter(({ vmax }) => vmax === undefined)
      for (const row of rows) if (row.vmax !== undefined) kernels.adamW([row], attrs, scalars)
      const full = plain.filter(({ p }) => !isEmpty(p))
      for (let from = 0; from < full.length; from += rowsTogether) {
        const some = full.slice(from, from + rowsTogether)
        const named: Record<string, Operand> = { ...scalars }
        for (const [k, { p, g, m, v }] of some.entries())
          Object.assign(named, { [`p${k}`]: p, [`g${k}`]: g, [`m${k}`]: m, [`v${k}`]: v })
        const sizes = some.map(({ p }) => sizeOf(p.shape))
        const found = plans.planAt(shapeAt(plans.of('adamW'), sizes), () => adamWPlan(sizes, attrs))
        setAdamW(found, attrs)
        plan(found, named, {})
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
        const named: Record<string, Operand> = { ...scalars }
        for (const [k, { target, source }] of some.entries())
          Object.assign(named, { [`t${k}`]: target, [`s${k}`]: source })
        const sizes = some.map(({ target }) => sizeOf(target.shape))
        const found = plans.planAt(shapeAt(plans.of('lerp'), sizes), () => lerpPlan(sizes, attrs.weight))
        setLerp(found, attrs.weight)
        plan(found, named, {})
      }
    },
  }
}
