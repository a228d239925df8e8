/**
 * Activation functions. Those of transformers (SiLU and GELU in both forms) have fused gradients, which are
 * differentiated again through what they stand for.
 */

import { checkFloats, describe } from '../arguments.ts'
import { apply, type Binary, defineOp, type None } from '../op.ts'
import { checkShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { add, affine, div, erf, exp, lessEqual, mul, square, tanh, unary } from './elementwise.ts'
import { zero, zeroWhere } from './where.ts'

const none: None = {}

const sigmoidOp = unary({ name: 'sigmoid', keeps: 'result', vjp: (g, y) => mul(g, mul(y, affine(y, -1, 1))) })
const softplusOp = unary({ name: 'softplus', keeps: 'input', vjp: (g, x) => mul(g, sigmoid(x)) })
const reluOp = unary({
  name: 'relu',
  integers: true,
  keeps: 'input',
  domain: 'distinct',
  differentiable: 'once',
  vjp: (g, x) => zeroWhere(lessEqual(x, zero(x)), g),
})
const siluOp = unary({ name: 'silu', keeps: 'input', vjp: (g, x) => siluGrad(g, x) })
const geluOp = unary({ name: 'gelu', keeps: 'input', vjp: (g, x) => geluGrad(g, x) })
const geluTanhOp = unary({ name: 'geluTanh', keeps: 'input', vjp: (g, x) => geluTanhGrad(g, x) })

/** 1 / (1 + e⁻ˣ) */
export function sigmoid(x: Tensor): Tensor {
  return apply(sigmoidOp, [x], none)
}

/** log(1 + e^(beta·x)) / beta: (…) → (…). Throws RangeError unless beta is a finite number and not 0. */
export function softplus(x: Tensor, beta = 1): Tensor {
  if (beta === 1) return apply(softplusOp, [x], none)
  checkFloats('softplus', { x })
  if (!(Number.isFinite(beta) && beta !== 0))
    throw atCaller(new RangeError(`softplus: expected a finite beta other than 0, got ${describe(beta)}`))
  return div(apply(softplusOp, [mul(x, beta)], none), beta)
}

/** max(x, 0): (…) → (…). */
export function relu(x: Tensor): Tensor {
  return apply(reluOp, [x], none)
}

/** x · sigmoid(x): (…) → (…). */
export function silu(x: Tensor): Tensor {
  return apply(siluOp, [x], none)
}

/** x · Φ(x), exact: ½x(1 + erf(x/√2)). */
export function gelu(x: Tensor): Tensor {
  return apply(geluOp, [x], none)
}

/** The tanh approximation of GELU: ½x(1 + tanh(√(2/π)(x + 0.044715x³))). */
export function geluTanh(x: Tensor): Tensor {
  return apply(geluTanhOp, [x], none)
}

// ---- gradients of activations: fused, and differentiated again through what they stand for --------------------------

function activationGrad(name: 'siluGrad' | 'geluGrad' | 'geluTanhGrad', derivative: (x: Tensor) => Tensor) {
  return defineOp<Binary, None>({
    name,
    infer: ([g, x]) => {
      checkShape(name, 'g', g, x)
      return x
    },
    forward: (k, [g, x], _, out) => k.binary(name, g, x, out),
    decompose: ([g, x]) => mul(g, derivative(x)),
    samples: r => [[3, 1, 5], [1031], []].map(shape => ({ x: [r(...shape), r(...shape)] as const, attrs: none })),
  })
}

// (x σ)' = σ + x σ (1 − σ)
const siluGradOp = activationGrad('siluGrad', x => {
  const s = sigmoid(x)
  return add(s, mul(mul(x, s), affine(s, -1, 1)))
})
// (x Φ)' = Φ + x φ
const geluGradOp = activationGrad('geluGrad', x => {
  const Phi = affine(erf(mul(x, Math.SQRT1_2)), 0.5, 0.5)
  const phi = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI))
  return add(Phi, mul(x, phi))
})
// ½(1 + τ) + ½x(1 − τ²)u′, where τ = tanh(u), u = √(2/π)(x + 0.044715x³)
const geluTanhGradOp = activationGrad('geluTanhGrad', x => {
  const c = Math.sqrt(2 / Math.PI)
  const x2 = square(x)
  const tau = tanh(mul(x, affine(x2, c * 0.044715, c)))
  const slope = affine(x2, 3 * c * 0.044715, c)
  return add(affine(tau, 0.5, 0.5), mul(mul(mul(x, 0.5), affine(square(tau), -1, 1)), slope))
})

/** Gradient of silu, g (σ + xσ(1 − σ)): g and x (…) → (…). Throws ShapeError. */
export function siluGrad(g: Tensor, x: Tensor): Tensor {
  return apply(siluGradOp, [g, x], none)
}

/** Gradient of gelu: g and x (…) → (…). Throws ShapeError. */
export function geluGrad(g: Tensor, x: Tensor): Tensor {
  return apply(geluGradOp, [g, x], none)
}

/** Gradient of geluTanh: g and x (…) → (…). Throws ShapeError. */
export function geluTanhGrad(g: Tensor, x: Tensor): Tensor {
  return apply(geluTanhGradOp, [g, x], none)
}
