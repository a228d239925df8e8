/**
 * The elementwise ops as gpu.js wants them. Each arrow is one expression that is spliced into a kernel as text (`body`),
 * so it may use its parameters, `Math`, and the functions of `library`, and nothing else. What the ops mean is in
 * ../cpu/scalars.ts. Next: kernels.ts.
 */

import type { BinaryName, ReduceName, UnaryName } from '../../backend.ts'
import type { DType } from '../../dtype.ts'

/**
 * 1 − erf(x) with a relative error below 1.2e-7, about what f32 can tell: the Chebyshev fit of W. H. Press et al.,
 * "Numerical Recipes in C", 2nd ed., §6.2.
 */
function erfc(x: number): number {
  const z = Math.abs(x)
  const t = 1 / (1 + 0.5 * z)
  let s = -0.82215223 + t * 0.17087277
  s = 1.48851587 + t * s
  s = -1.13520398 + t * s
  s = 0.27886807 + t * s
  s = -0.18628806 + t * s
  s = 0.09678418 + t * s
  s = 0.37409196 + t * s
  s = 1.00002368 + t * s
  const tail = t * Math.exp(-z * z - 1.26551223 + t * s)
  return x >= 0 ? tail : 2 - tail
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x))
}

/** x·σ(2u) is GELU's tanh form: 2u = 2√(2/π)(x + 0.044715 x³). */
function twiceU(x: number): number {
  return 1.5957691216057308 * x + 0.0713548162726009 * x * x * x
}

/** Functions that every kernel may call. */
export const library: readonly ((x: number) => number)[] = [erfc, sigmoid, twiceU]

export const unaryScalars: Readonly<Record<UnaryName, (x: number, p: number, q: number) => number>> = {
  neg: x => -x,
  abs: x => Math.abs(x),
  sign: x => Math.sign(x),
  floor: x => Math.floor(x),
  square: x => x * x,
  sqrt: x => Math.sqrt(x),
  rsqrt: x => 1 / Math.sqrt(x),
  reciprocal: x => 1 / x,
  exp: x => Math.exp(x),
  log: x => Math.log(x),
  sin: x => Math.sin(x),
  cos: x => Math.cos(x),
  tanh: x => Math.tanh(x),
  erf: x => 1 - erfc(x),
  sigmoid: x => sigmoid(x),
  softplus: x => Math.max(x, 0) + Math.log(1 + Math.exp(-Math.abs(x))),
  relu: x => Math.max(x, 0),
  silu: x => x * sigmoid(x),
  gelu: x => 0.5 * x * erfc(-Math.SQRT1_2 * x),
  geluTanh: x => x * sigmoid(twiceU(x)),
  affine: (x, p, q) => p * x + q,
  pow: (x, p) => x ** p,
  clamp: (x, p, q) => Math.min(Math.max(x, p), q),
  isFinite: x => (x - x === 0 ? 1 : 0),
}

export const binaryScalars: Readonly<Record<BinaryName, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  equal: (a, b) => (a === b ? 1 : 0),
  less: (a, b) => (a < b ? 1 : 0),
  lessEqual: (a, b) => (a <= b ? 1 : 0),
  siluGrad: (a, b) => a * sigmoid(b) * (1 + b * (1 - sigmoid(b))),
  geluGrad: (a, b) => a * (0.5 * erfc(-Math.SQRT1_2 * b) + 0.3989422804014327 * b * Math.exp(-0.5 * b * b)),
  geluTanhGrad: (a, b) =>
    a *
    (sigmoid(twiceU(b)) +
      b * sigmoid(twiceU(b)) * (1 - sigmoid(twiceU(b))) * (1.5957691216057308 + 0.2140644488178027 * b * b)),
}

export const reduceScalars: Readonly<Record<ReduceName, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  max: (a, b) => Math.max(a, b),
  min: (a, b) => Math.min(a, b),
}

/** What is done to a value before it is stored: i32 is carried as f32 and keeps no fraction. */
export const stores: Readonly<Record<Exclude<DType, 'f64'>, (x: number) => number>> = {
  f32: x => x,
  i32: x => Math.trunc(x),
}

/** The source of a function `name` of `parameters` from an arrow whose parameters are the first of them. */
export function functionOf(name: string, parameters: string, arrow: (...values: never[]) => number): string {
  const source = arrow.toString()
  return `function ${name}(${parameters}) { return ${source.slice(source.indexOf('=>') + 2)} }`
}
