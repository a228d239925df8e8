/**
 * Normalisation: layer norm, its adaptive form (adaLN), group norm, and the gated residual that adaLN-Zero ends with.
 * Each fused op says in `decompose` what it stands for; its gradient is an op of its own, whose decomposition is the
 * gradient of that decomposition.
 */

import { aNumber, check, checkFloats } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { normLoops } from '../backends/cpu/norm.ts'
import { apply, applyMany, type Binary, defineManyOp, defineOp, type Unary } from '../op.ts'
import { checkShape, type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import { vjpOf } from '../tape.ts'
import type { Tensor } from '../tensor.ts'
import { add, affine, mul, rsqrt, square, sub } from './elementwise.ts'
import { reshape, unsqueeze } from './movement.ts'
import { mean } from './reduce.ts'
import { zero } from './where.ts'

addLoops(normLoops)

type Ternary = readonly [Tensor, Tensor, Tensor]

// ---- layer norm -----------------------------------------------------------------------------------------------------

interface Eps {
  readonly eps: number
}

function layerNormOf([x, w, b]: readonly Tensor[], eps: number): Tensor {
  const centred = sub(x, mean(x, -1, true))
  const y = mul(centred, rsqrt(affine(mean(square(centred), -1, true), 1, eps)))
  return w === undefined ? y : add(mul(y, w), b)
}

const layerNormOp = defineOp<Unary | Ternary, Eps, Unary | Binary>({
  name: 'layerNorm',
  infer: ([x, w, b]) => {
    checkRows('layerNorm', x, w, b)
    return x
  },
  forward: (k, [x, w, b], { eps }, out) => k.layerNorm?.(x, w ?? null, b ?? null, eps, out),
  decompose: (x, { eps }) => layerNormOf(x, eps),
  save: ([x, w]) => (w === undefined ? [x] : [x, w]),
  vjp: (g, [x, w], { eps }) => {
    const gs = once(() => layerNormGrad(g, x, w ?? null, eps))
    return [() => gs()[0], () => gs()[1], () => gs()[2]]
  },
  flops: ([x]) => 8 * x.size,
  samples: r => [
    { x: [r(2, 3, 5), r(5), r(5)], attrs: { eps: 1e-5 } },
    { x: [r(3, 1, 7)], attrs: { eps: 1e-6 } },
    { x: [r(2, 1031)], attrs: { eps: 1e-6 } },
    { x: [r(1031, 7), r(7), r(7)], attrs: { eps: 1e-6 } },
  ],
})

const layerNormGradOp = defineManyOp<Binary | Ternary, Eps>({
  name: 'layerNormGrad',
  many: true,
  infer: ([g, x, w]) => {
    checkRows('layerNormGrad', x, w, undefined)
    checkShape('layerNormGrad', 'g', g, x)
    return w === undefined ? [x] : [x, w, w]
  },
  forward: (k, [g, x, w], { eps }) => k.layerNormGrad?.(g, x, w ?? null, eps),
  decompose: ([g, x, w], { eps }) =>
    w === undefined
      ? vjpOf(xs => layerNormOf(xs, eps), [x], g)
      : vjpOf(xs => layerNormOf(xs, eps), [x, w, zero(w, w.shape)], g),
  flops: ([, x]) => 14 * x.size,
  samples: r => [
    { x: [r(2, 3, 5), r(2, 3, 5), r(5)], attrs: { eps: 1e-5 } },
    { x: [r(3, 1, 7), r(3, 1, 7)], attrs: { eps: 1e-6 } },
    { x: [r(2, 1031), r(2, 1031)], attrs: { eps: 1e-6 } },
    { x: [r(1031, 7), r(1031, 7), r(7)], attrs: { eps: 1e-6 } },
  ],
})

/** [gx] or, with weight w (D), [gx, gw, gb]: the gradients of layerNorm at x (…, D), given g (…, D). Throws ShapeError. */
export function layerNormGrad(g: Tensor, x: Tensor, w: Tensor | null, eps: number): readonly Tensor[] {
  check('layerNormGrad', 'eps', eps, aNumber)
  return applyMany(layerNormGradOp, w === null ? [g, x] : [g, x, w], { eps })
}

/** (x − mean) / √(var + eps) ⊙ w + b over the last axis: x (…, D), w and b (D), both or neither. Throws ShapeError. */
export function layerNorm(x: Tensor, w: Tensor | null, b: Tensor | null, eps: number): Tensor {
  check('layerNorm', 'eps', eps, aNumber)
  if ((w === null) !== (b === null))
    throw new ShapeError(`layerNorm: expected weight and bias or neither, got only ${w === null ? 'bias' : 'weight'}`)
  return apply(layerNormOp, w === null || b === null ? [x] : [x, w, b], { eps })
}

function checkRows(op: string, x: Shape, w: Shape | undefined, b: Shape | undefined): void {
  if (x.length < 1) throw new ShapeError(`${op}: expected at least one axis, got a scalar`)
  checkAffine(op, x.at(-1)!, w, b, x)
}

function checkAffine(op: string, size: number, w: Shape | undefined, b: Shape | undefined, x: Shape): void {
  for (const [what, shape] of [
    ['weight', w],
    ['bias', b],
  ] as const)
    if (shape !== undefined && (shape.length !== 1 || shape[0] !== size))
      throw new ShapeError(`${op}: ${what} must have shape [${size}], got ${show(shape)}; x is ${show(x)}`)
}

/** Runs f at its first call and remembers the result. */
function once<T>(f: () => T): () => T {
  let value: T | undefined
  return () => (value ??= f())
}

/** Group norm over (C/groups, H, W) of x (N, C, H, W), then ⊙ w + b per channel. Throws ShapeError. */
export function groupNorm(x: Tensor, groups: number, w: Tensor, b: Tensor, eps: number): Tensor {
  checkFloats('groupNorm', { x, w, b })
  check('groupNorm', 'eps', eps, aNumber)
  const [N, C, ...rest] = x.shape
  if (!(Number.isInteger(groups) && groups >= 1 && C % groups === 0))
    throw new ShapeError(`groupNorm: expected channels divisible by ${groups} groups, got ${show(x.shape)}`)
  checkAffine('groupNorm', C, w.shape, b.shape, x.shape)
  const y = reshape(layerNorm(reshape(x, [N, groups, sizeOf([C / groups, ...rest])]), null, null, eps), x.shape)
  const perChannel = [C, ...rest.map(() => 1)]
  return add(mul(y, reshape(w, perChannel)), reshape(b, perChannel))
}

// ---- adaLN ----------------------------------------------------------------------------------------------------------

function checkModulation(op: string, x: Shape, ...modulations: Shape[]): void {
  for (const m of modulations)
    if (x.length !== 3 || m.length !== 2 || m[0] !== x[0] || m[1] !== x[2])
      throw new ShapeError(`${op}: expected x [N, T, D] and modulation [N, D], got ${show(x)} and ${show(m)}`)
}

function adaLayerNormOf([x, shift, scale]: readonly Tensor[], eps: number): Tensor {
  return add(mul(layerNormOf([x], eps), affine(unsqueeze(scale, 1), 1, 1)), unsqueeze(shift, 1))
}

const adaLayerNormOp = defineOp<Ternary, Eps, Binary>({
  name: 'adaLayerNorm',
  infer: ([x, shift, scale]) => {
    checkModulation('adaLayerNorm', x, shift, scale)
    return x
  },
  forward: (k, [x, shift, scale], { eps }, out) => k.adaLayerNorm?.(x, shift, scale, eps, out),
  decompose: (x, { eps }) => adaLayerNormOf(x, eps),
  save: ([x, , scale]) => [x, scale],
  vjp: (g, [x, scale], { eps }) => {
    const gs = once(() => applyMany(adaLayerNormGradOp, [g, x, scale], { eps }))
    return [() => gs()[0], () => gs()[1], () => gs()[2]]
  },
  flops: ([x]) => 10 * x.size,
  samples: r => [
    { x: [r(2, 3, 5), r(2, 5), r(2, 5)], attrs: { eps: 1e-6 } },
    { x: [r(1, 1, 1031), r(1, 1031), r(1, 1031)], attrs: { eps: 1e-6 } },
    { x: [r(3, 17, 12), r(3, 12), r(3, 12)], attrs: { eps: 1e-6 } },
  ],
})

const adaLayerNormGradOp = defineManyOp<Ternary, Eps>({
  name: 'adaLayerNormGrad',
  many: true,
  infer: ([g, x, scale]) => {
    checkModulation('adaLayerNormGrad', x, scale)
    checkShape('adaLayerNormGrad', 'g', g, x)
    return [x, scale, scale]
  },
  forward: (k, [g, x, scale], { eps }) => k.adaLayerNormGrad?.(g, x, scale, eps),
  decompose: ([g, x, scale], { eps }) => vjpOf(xs => adaLayerNormOf(xs, eps), [x, zero(scale, scale.shape), scale], g),
  flops: ([, x]) => 16 * x.size,
  samples: r => [
    { x: [r(2, 3, 5), r(2, 3, 5), r(2, 5)], attrs: { eps: 1e-6 } },
    { x: [r(1, 1, 1031), r(1, 1, 1031), r(1, 1031)], attrs: { eps: 1e-6 } },
    { x: [r(3, 17, 12), r(3, 17, 12), r(3, 12)], attrs: { eps: 1e-6 } },
  ],
})

/** layerNorm(x) ⊙ (1 + scale) + shift: x (N, T, D), shift and scale (N, D). [DiT §3.2] Throws ShapeError. */
export function adaLayerNorm(x: Tensor, shift: Tensor, scale: Tensor, eps: number): Tensor {
  check('adaLayerNorm', 'eps', eps, aNumber)
  return apply(adaLayerNormOp, [x, shift, scale], { eps })
}

// ---- gated residual -------------------------------------------------------------------------------------------------

const gatedResidualOp = defineOp<Ternary, Readonly<Record<string, never>>, Binary>({
  name: 'gatedResidual',
  infer: ([x, gate, y]) => {
    checkModulation('gatedResidual', x, gate)
    checkShape('gatedResidual', 'y', y, x)
    return x
  },
  forward: (k, [x, gate, y], _, out) => k.gatedResidual?.(x, gate, y, out),
  decompose: ([x, gate, y]) => add(x, mul(unsqueeze(gate, 1), y)),
  save: ([, gate, y]) => [gate, y],
  vjp: (g, [gate, y]) => {
    const gs = once(() => applyMany(gatedResidualGradOp, [g, gate, y], {}))
    return [() => g, () => gs()[0], () => gs()[1]]
  },
  flops: ([x]) => 2 * x.size,
  samples: r => [
    { x: [r(2, 3, 5), r(2, 5), r(2, 3, 5)], attrs: {} },
    { x: [r(1, 1, 1031), r(1, 1031), r(1, 1, 1031)], attrs: {} },
  ],
})

const gatedResidualGradOp = defineManyOp<Ternary, Readonly<Record<string, never>>>({
  name: 'gatedResidualGrad',
  many: true,
  infer: ([g, gate, y]) => {
    checkModulation('gatedResidualGrad', y, gate)
    checkShape('gatedResidualGrad', 'g', g, y)
    return [gate, y]
  },
  forward: (k, [g, gate, y]) => k.gatedResidualGrad?.(g, gate, y),
  decompose: ([g, gate, y]) => vjpOf(([s, v]) => mul(unsqueeze(s, 1), v), [gate, y], g),
  flops: ([, , y]) => 3 * y.size,
  samples: r => [
    { x: [r(2, 3, 5), r(2, 5), r(2, 3, 5)], attrs: {} },
    { x: [r(1, 1, 1031), r(1, 1031), r(1, 1, 1031)], attrs: {} },
  ],
})

/** x + gate ⊙ y: x and y (N, T, D), gate (N, D): adaLN-Zero's branch. [DiT §3.2] Throws ShapeError. */
export function gatedResidual(x: Tensor, gate: Tensor, y: Tensor): Tensor {
  return apply(gatedResidualOp, [x, gate, y], {})
}
