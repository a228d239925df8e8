/**
 * The functions of elementwise kernels for gpu.js. Each arrow is one expression that is spliced into a kernel as text,
 * so it uses only its parameters, `Math` and the functions of library.ts. ../../cpu/scalars.ts defines what they
 * compute.
 */

import type { BinaryName, ReduceName, UnaryName } from '../../../backend.ts'
import type { DType } from '../../../dtype.ts'

declare function isNan(x: number): number
declare function isNumber(x: number): number
declare function exponential(x: number): number
declare function logarithm(x: number): number
declare function larger(a: number, b: number): number
declare function smaller(a: number, b: number): number
declare function erf(x: number): number
declare function erfc(x: number): number
declare function softplus(x: number): number
declare function sigmoid(x: number): number
declare function twiceU(x: number): number
declare function accurateTanh(x: number): number
declare function geluTanhSlope(x: number): number
declare function sine(x: number, quarter: number): number
declare function power(x: number, p: number): number
declare function roundHalfToEven(x: number): number
declare function expMinusOne(x: number): number
declare function logOnePlus(x: number): number
declare function floorMod(a: number, b: number): number
declare function angle(y: number, x: number): number

export const unaryScalars: Readonly<Record<UnaryName, (x: number, p: number, q: number) => number>> = {
  neg: x => -x,
  abs: x => Math.abs(x),
  sign: x => (isNan(x) === 1 || x === 0 ? x : Math.sign(x)),
  floor: x => Math.floor(x),
  round: x => roundHalfToEven(x),
  square: x => x * x,
  sqrt: x => Math.sqrt(x),
  rsqrt: x => 1 / Math.sqrt(x),
  reciprocal: x => 1 / x,
  exp: x => exponential(x),
  expm1: x => expMinusOne(x),
  log: x => logarithm(x),
  log1p: x => logOnePlus(x),
  sin: x => sine(x, 0),
  cos: x => sine(x, 1),
  tanh: x => accurateTanh(x),
  erf: x => erf(x),
  sigmoid: x => sigmoid(x),
  softplus: x => softplus(x),
  relu: x => larger(x, 0),
  silu: x => x * sigmoid(x),
  gelu: x => 0.5 * x * erfc(-Math.SQRT1_2 * x),
  geluTanh: x => x * sigmoid(twiceU(x)),
  affine: (x, p, q) => p * x + q,
  pow: (x, p) => power(x, p),
  clamp: (x, p, q) => smaller(larger(x, p), q),
  isFinite: x => isNumber(x),
}

export const binaryScalars: Readonly<Record<BinaryName, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => power(a, b),
  remainder: (a, b) => floorMod(a, b),
  atan2: (a, b) => angle(a, b),
  maximum: (a, b) => larger(a, b),
  minimum: (a, b) => smaller(a, b),
  equal: (a, b) => (a === b ? 1 : 0),
  less: (a, b) => (a < b ? 1 : 0),
  lessEqual: (a, b) => (a <= b ? 1 : 0),
  siluGrad: (a, b) => a * sigmoid(b) * (1 + b * (1 - sigmoid(b))),
  geluGrad: (a, b) => a * (0.5 * erfc(-Math.SQRT1_2 * b) + 0.3989422804014327 * b * exponential(-0.5 * b * b)),
  geluTanhGrad: (a, b) => a * geluTanhSlope(b),
}

export const reduceScalars: Readonly<Record<ReduceName, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  max: (a, b) => larger(a, b),
  min: (a, b) => smaller(a, b),
}

/** Limits a value that is cast to i32 to [p, q]; NaN becomes 0. */
export const saturate = (x: number, p: number, q: number): number => (isNan(x) === 1 ? 0 : smaller(larger(x, p), q))

/** Converts a result to its dtype. i32 is held as f32 without a fraction. */
export const stores: Readonly<Record<Exclude<DType, 'f64'>, (x: number) => number>> = {
  f32: x => x,
  i32: x => Math.trunc(x),
}
