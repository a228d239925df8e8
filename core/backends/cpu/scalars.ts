/**
 * The elementwise ops as functions of numbers: what every backend must agree with. NaN goes in and out everywhere but in
 * comparisons, `isFinite` and x⁰, which is 1. 1 to the power of ±∞ or NaN is NaN, as JavaScript has it; PyTorch says 1.
 */

import type { BinaryName, UnaryName } from '../../backend.ts'
import { erf, erfc } from './special.ts'

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

// The standard normal distribution: Φ by erfc, which keeps its digits in the lower tail, and its density φ.
const normalCdf = (x: number) => 0.5 * erfc(-x * Math.SQRT1_2)
const normalPdf = (x: number) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI)

// GELU's tanh form: ½x(1 + tanh u) = x·σ(2u) with u = √(2/π)(x + 0.044715 x³).
const twiceU = (x: number) => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)
const twiceUPrime = (x: number) => 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x)

// Math.round rounds halves up.
function roundHalfToEven(x: number): number {
  const up = Math.round(x)
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up
}

function remainder(a: number, b: number): number {
  const r = a % b
  return r !== 0 && r < 0 !== b < 0 ? r + b : r
}

/** p and q are the parameters that `affine`, `pow` and `clamp` take. */
export const unaryFunctions: Readonly<Record<UnaryName, (x: number, p: number, q: number) => number>> = {
  neg: x => -x,
  abs: x => Math.abs(x),
  sign: x => Math.sign(x),
  floor: x => Math.floor(x),
  round: roundHalfToEven,
  square: x => x * x,
  sqrt: x => Math.sqrt(x),
  rsqrt: x => 1 / Math.sqrt(x),
  reciprocal: x => 1 / x,
  exp: x => Math.exp(x),
  expm1: x => Math.expm1(x),
  log: x => Math.log(x),
  log1p: x => Math.log1p(x),
  sin: x => Math.sin(x),
  cos: x => Math.cos(x),
  tanh: x => Math.tanh(x),
  erf,
  sigmoid,
  softplus: x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  relu: x => Math.max(x, 0),
  silu: x => x * sigmoid(x),
  gelu: x => x * normalCdf(x),
  geluTanh: x => x * sigmoid(twiceU(x)),
  affine: (x, p, q) => p * x + q,
  pow: (x, p) => x ** p,
  clamp: (x, p, q) => Math.min(Math.max(x, p), q),
  isFinite: x => (Number.isFinite(x) ? 1 : 0),
}

/** For the …Grad functions, a is the gradient of the output and b the input. */
export const binaryFunctions: Readonly<Record<BinaryName, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  remainder,
  atan2: (y, x) => Math.atan2(y, x),
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  equal: (a, b) => (a === b ? 1 : 0),
  less: (a, b) => (a < b ? 1 : 0),
  lessEqual: (a, b) => (a <= b ? 1 : 0),
  siluGrad: (g, x) => {
    const s = sigmoid(x)
    return g * s * (1 + x * (1 - s))
  },
  geluGrad: (g, x) => g * (normalCdf(x) + x * normalPdf(x)),
  geluTanhGrad: (g, x) => {
    const s = sigmoid(twiceU(x))
    return g * (s + x * s * (1 - s) * twiceUPrime(x))
  },
}
