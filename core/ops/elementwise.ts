/**
 * Elementwise ops. Two-operand ops broadcast as NumPy does; the tape sums a gradient back to its input's shape, so the
 * rules below are the textbook ones. A number may stand for either operand, and is folded into one pass over memory where
 * that is faster.
 */

import {
  aBackend,
  aDType,
  aNumber,
  check,
  checkFloats,
  checkOptions,
  checkTensor,
  isTensor,
  refuseMixed,
  tensorOrNumber,
} from '../arguments.ts'
import type { Backend, BinaryName, UnaryName } from '../backend.ts'
import type { DType } from '../dtype.ts'
import { noGrad } from '../graph.ts'
import { apply, type Binary, defineOp, type None, type Op, type Unary } from '../op.ts'
import { broadcastShapes } from '../shape.ts'
import { full, type Tensor, tensor } from '../tensor.ts'
import { beside, withNumber } from './scalar.ts'
import { where, zero, zeroWhere } from './where.ts'

const none: None = {}

/** 1 in the dtype and on the backend of x. */
function one({ dtype, backend }: Tensor): Tensor {
  return full([], 1, { dtype, backend })
}

// ---- two operands -------------------------------------------------------------------------------------------------

interface BinaryRule {
  readonly name: BinaryName
  readonly integers?: true
  /** Gradients of a and b from that of the result, the inputs and the result. */
  readonly vjp?: (g: Tensor, a: Tensor, b: Tensor, y: Tensor) => readonly [() => Tensor, () => Tensor]
  readonly keeps: 'nothing' | 'inputs' | 'inputs and result'
  readonly domain?: 'positive' | 'distinct'
  readonly differentiable?: 'none' | 'once'
}

/** @__NO_SIDE_EFFECTS__ */
function binary(rule: BinaryRule): Op<Binary, None, readonly Tensor[]> {
  const { name, vjp, keeps, domain } = rule
  return defineOp<Binary, None, readonly Tensor[]>({
    name,
    integers: rule.integers,
    differentiable: rule.differentiable,
    infer: ([a, b]) => broadcastShapes(name, a, b),
    forward: (k, [a, b], _, out) => k.binary(name, a, b, out),
    save: ([a, b], y) => (keeps === 'nothing' ? [] : keeps === 'inputs' ? [a, b] : [a, b, y]),
    vjp: vjp && ((g, [a, b, y]) => vjp(g, a, b, y)),
    samples: r => {
      const make = domain === 'positive' ? r.positive : r
      if (domain === 'distinct') {
        const x = r.distinct(2, 3, 5)
        return [
          { x: [x, add(x, 0.015625)], attrs: none },
          { x: [r.distinct(1031), tensor([0.01], { dtype: 'f64', backend: x.backend })], attrs: none },
        ]
      }
      return [
        { x: [make(3, 1, 5), make(3, 7, 5)], attrs: none },
        { x: [make(2, 3), make(3)], attrs: none },
        { x: [make(1031), make(1)], attrs: none },
        { x: [make(1), make(2, 1, 3)], attrs: none },
      ]
    },
  })
}

const addOp = binary({ name: 'add', integers: true, keeps: 'nothing', vjp: g => [() => g, () => g] })
const subOp = binary({ name: 'sub', integers: true, keeps: 'nothing', vjp: g => [() => g, () => neg(g)] })
const mulOp = binary({
  name: 'mul',
  integers: true,
  keeps: 'inputs',
  vjp: (g, a, b) => [() => mul(g, b), () => mul(g, a)],
})
const divOp = binary({
  name: 'div',
  keeps: 'inputs',
  domain: 'positive',
  vjp: (g, a, b) => [() => div(g, b), () => neg(mul(g, div(div(a, b), b)))], // b² may overflow
})
const powOp = binary({
  name: 'pow',
  keeps: 'inputs and result',
  domain: 'positive',
  // x⁰ is flat in x, and 0ˣ in x ≥ 0: as PyTorch has it. There the textbook's rules are 0 · ∞, so a stands aside as 1.
  vjp: (g, a, b, y) => [
    () => {
      const flat = equal(b, zero(b))
      return zeroWhere(flat, mul(g, mul(b, pow(where(flat, one(a), a), sub(b, 1)))))
    },
    () => {
      const flat = mul(equal(a, zero(a)), lessEqual(zero(b), b))
      return zeroWhere(flat, mul(g, mul(y, log(where(flat, one(a), a)))))
    },
  ],
})
// A tie gives the whole gradient to the first operand; beside NaN both have it, as in PyTorch.
const maximumOp = binary({
  name: 'maximum',
  integers: true,
  keeps: 'inputs',
  domain: 'distinct',
  differentiable: 'once',
  vjp: (g, a, b) => [() => zeroWhere(less(a, b), g), () => zeroWhere(lessEqual(b, a), g)],
})
const minimumOp = binary({
  name: 'minimum',
  integers: true,
  keeps: 'inputs',
  domain: 'distinct',
  differentiable: 'once',
  vjp: (g, a, b) => [() => zeroWhere(less(b, a), g), () => zeroWhere(lessEqual(a, b), g)],
})
const equalOp = binary({ name: 'equal', integers: true, keeps: 'nothing', differentiable: 'none' })
const lessOp = binary({ name: 'less', integers: true, keeps: 'nothing', differentiable: 'none', domain: 'distinct' })
const lessEqualOp = binary({
  name: 'lessEqual',
  integers: true,
  keeps: 'nothing',
  differentiable: 'none',
  domain: 'distinct',
})

/** The result of an op on two tensors, or a tensor and a number, which becomes one element beside it. */
function combine(op: Op<Binary, None, readonly Tensor[]>, a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return apply(op, [a as Tensor, element(op.name, a, b)], none)
  if (typeof a === 'number') return apply(op, [element(op.name, b, a), b], none)
  return apply(op, [a, b], none)
}

/** The number b as one element beside x. Throws if x is no tensor. */
function element(op: string, x: Tensor | number, b: number): Tensor {
  return full([], beside(op, x, b), { dtype: (x as Tensor).dtype, backend: (x as Tensor).backend })
}

/** scale · x + shift in the name of another op, whose number `b` is checked. */
function affineOf(op: string, x: Tensor | number, b: number, scale: number, shift: number): Tensor {
  beside(op, x, b)
  return apply(affineOp, [x as Tensor], { scale, shift })
}

/** a + b, broadcast; one of them may be a number. Throws ShapeError. */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affineOf('add', a, b, 1, b)
  return typeof a === 'number' ? affineOf('add', b, a, 1, a) : apply(addOp, [a, b], none)
}

/** a − b, broadcast; one of them may be a number. Throws ShapeError. */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affineOf('sub', a, b === -(2 ** 31) ? -b : b, 1, -b)
  return typeof a === 'number' ? affineOf('sub', b, a, -1, a) : apply(subOp, [a, b], none)
}

/** a · b, broadcast; one of them may be a number. Throws ShapeError. */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  // The shift is −0, which leaves a product of −0 as it is.
  if (typeof b === 'number') return affineOf('mul', a, b, b, -0)
  return typeof a === 'number' ? affineOf('mul', b, a, a, -0) : apply(mulOp, [a, b], none)
}

/** a / b of floats, broadcast; one of them may be a number. Throws ShapeError. */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b !== 'number') return combine(divOp, a, b)
  checkFloats('div', { a: a as Tensor })
  return apply(divScalarOp, [a as Tensor], { divisor: b })
}

/**
 * a^b of floats, broadcast; one of them may be a number. The gradient by a tensor b is NaN where a < 0. Throws ShapeError.
 */
export function pow(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b !== 'number') return combine(powOp, a, b)
  checkFloats('pow', { a: a as Tensor })
  return apply(powScalarOp, [a as Tensor], { p: b })
}

/** The larger of a and b, broadcast; one of them may be a number. Throws ShapeError. */
export function maximum(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return bounded('maximum', a, beside('maximum', a, b), Infinity)
  return typeof a === 'number'
    ? bounded('maximum', b, beside('maximum', b, a), Infinity)
    : apply(maximumOp, [a, b], none)
}

/** The smaller of a and b, broadcast; one of them may be a number. Throws ShapeError. */
export function minimum(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return bounded('minimum', a, -Infinity, beside('minimum', a, b))
  return typeof a === 'number'
    ? bounded('minimum', b, -Infinity, beside('minimum', b, a))
    : apply(minimumOp, [a, b], none)
}

/** 1 where a = b, else 0, in the dtype of the tensors; broadcast, and one may be a number. Throws ShapeError. */
export function equal(a: Tensor | number, b: Tensor | number): Tensor {
  return combine(equalOp, a, b)
}

/** 1 where a < b, else 0; broadcast, and one may be a number. Throws ShapeError. */
export function less(a: Tensor | number, b: Tensor | number): Tensor {
  return combine(lessOp, a, b)
}

/** 1 where a ≤ b, else 0; broadcast, and one may be a number. Throws ShapeError. */
export function lessEqual(a: Tensor | number, b: Tensor | number): Tensor {
  return combine(lessEqualOp, a, b)
}

// ---- one operand --------------------------------------------------------------------------------------------------

interface UnaryRule {
  readonly name: UnaryName
  readonly integers?: true
  readonly vjp?: (g: Tensor, x: Tensor) => Tensor
  /** The tensor that is passed to the rule as x: the input, the result, or none. */
  readonly keeps: 'nothing' | 'input' | 'result'
  readonly domain?: 'positive' | 'distinct'
  readonly differentiable?: 'none' | 'once'
}

/**
 * The record of an elementwise op on one operand.
 * @__NO_SIDE_EFFECTS__
 */
export function unary(rule: UnaryRule): Op<Unary, None, readonly Tensor[]> {
  const { name, vjp, keeps, domain } = rule
  return defineOp<Unary, None, readonly Tensor[]>({
    name,
    integers: rule.integers,
    differentiable: rule.differentiable,
    infer: ([x]) => x,
    forward: (k, [x], _, out) => k.unary(name, x, out),
    save: ([x], y) => (keeps === 'nothing' ? [] : keeps === 'input' ? [x] : [y]),
    vjp: vjp && ((g, [x]) => [() => vjp(g, x)]),
    samples: r => {
      const make = domain === undefined ? r : r[domain]
      return [[3, 1, 5], [1031], []].map(shape => ({ x: [make(...shape)] as const, attrs: none }))
    },
  })
}

const absOp = unary({
  name: 'abs',
  integers: true,
  keeps: 'input',
  domain: 'distinct',
  differentiable: 'once',
  vjp: (g, x) => mul(g, sign(x)),
})
const signOp = unary({ name: 'sign', integers: true, keeps: 'nothing', domain: 'distinct', differentiable: 'none' })
const floorOp = unary({ name: 'floor', integers: true, keeps: 'nothing', domain: 'distinct', differentiable: 'none' })
const isFiniteOp = unary({ name: 'isFinite', integers: true, keeps: 'nothing', differentiable: 'none' })
const negOp = unary({ name: 'neg', integers: true, keeps: 'nothing', vjp: g => neg(g) })
const squareOp = unary({ name: 'square', integers: true, keeps: 'input', vjp: (g, x) => mul(g, mul(x, 2)) })
const sqrtOp = unary({ name: 'sqrt', keeps: 'result', domain: 'positive', vjp: (g, y) => div(mul(g, 0.5), y) })
const rsqrtOp = unary({
  name: 'rsqrt',
  keeps: 'result',
  domain: 'positive',
  vjp: (g, y) => mul(g, mul(pow(y, 3), -0.5)),
})
const reciprocalOp = unary({
  name: 'reciprocal',
  keeps: 'result',
  domain: 'positive',
  vjp: (g, y) => neg(mul(g, square(y))),
})
const expOp = unary({ name: 'exp', keeps: 'result', vjp: (g, y) => mul(g, y) })
const logOp = unary({ name: 'log', keeps: 'input', domain: 'positive', vjp: (g, x) => div(g, x) })
const sinOp = unary({ name: 'sin', keeps: 'input', vjp: (g, x) => mul(g, cos(x)) })
const cosOp = unary({ name: 'cos', keeps: 'input', vjp: (g, x) => neg(mul(g, sin(x))) })
const tanhOp = unary({ name: 'tanh', keeps: 'result', vjp: (g, y) => mul(g, affine(square(y), -1, 1)) })
const erfOp = unary({
  name: 'erf',
  keeps: 'input',
  vjp: (g, x) => mul(g, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))),
})

/** −x: (…) → (…). */
export function neg(x: Tensor): Tensor {
  return apply(negOp, [x], none)
}

/** |x|, with gradient 0 at 0: (…) → (…). */
export function abs(x: Tensor): Tensor {
  return apply(absOp, [x], none)
}

/** −1, 0 or 1; no gradient: (…) → (…). */
export function sign(x: Tensor): Tensor {
  return apply(signOp, [x], none)
}

/** The largest integer ≤ x; no gradient: (…) → (…). */
export function floor(x: Tensor): Tensor {
  return apply(floorOp, [x], none)
}

/** 1 where x is neither infinite nor NaN, else 0; no gradient: (…) → (…). */
// biome-ignore lint/suspicious/noShadowRestrictedNames: the name of PyTorch and NumPy
export function isFinite(x: Tensor): Tensor {
  return apply(isFiniteOp, [x], none)
}

/** x²: (…) → (…). */
export function square(x: Tensor): Tensor {
  return apply(squareOp, [x], none)
}

/** √x: (…) → (…). */
export function sqrt(x: Tensor): Tensor {
  return apply(sqrtOp, [x], none)
}

/** 1/√x: (…) → (…). */
export function rsqrt(x: Tensor): Tensor {
  return apply(rsqrtOp, [x], none)
}

/** 1/x: (…) → (…). */
export function reciprocal(x: Tensor): Tensor {
  return apply(reciprocalOp, [x], none)
}

/** eˣ: (…) → (…). */
export function exp(x: Tensor): Tensor {
  return apply(expOp, [x], none)
}

/** Natural logarithm: (…) → (…). */
export function log(x: Tensor): Tensor {
  return apply(logOp, [x], none)
}

/** The sine of x, in radians: (…) → (…). */
export function sin(x: Tensor): Tensor {
  return apply(sinOp, [x], none)
}

/** The cosine of x, in radians: (…) → (…). */
export function cos(x: Tensor): Tensor {
  return apply(cosOp, [x], none)
}

/** The hyperbolic tangent: (…) → (…). */
export function tanh(x: Tensor): Tensor {
  return apply(tanhOp, [x], none)
}

/** The error function, 2/√π ∫₀ˣ e^(−u²) du: (…) → (…). */
export function erf(x: Tensor): Tensor {
  return apply(erfOp, [x], none)
}

// ---- with parameters ----------------------------------------------------------------------------------------------

const affineOp = /* @__PURE__ */ defineOp<Unary, { readonly scale: number; readonly shift: number }>({
  name: 'affine',
  integers: true,
  infer: ([x]) => x,
  forward: (k, [x], { scale, shift }, out) => k.unary('affine', x, out, scale, shift),
  vjp: (g, _, { scale }) => [() => (scale === 1 ? g : mul(g, scale))],
  samples: r =>
    [[3, 1, 5], [1031], []].map(shape => ({ x: [r(...shape)] as const, attrs: { scale: 1.5, shift: -0.25 } })),
})

/** scale · x + shift: (…) → (…). */
export function affine(x: Tensor, scale: number, shift: number): Tensor {
  check('affine', 'scale', scale, aNumber)
  check('affine', 'shift', shift, aNumber)
  return apply(affineOp, [x], { scale: beside('affine', x, scale), shift: beside('affine', x, shift) })
}

// A product with 1/divisor would be rounded twice, and 1/divisor may overflow.
const divScalarOp = /* @__PURE__ */ defineOp<Unary, { readonly divisor: number }>({
  name: 'divScalar',
  infer: ([x]) => x,
  forward: (k, [x], { divisor }, out) => withNumber(k, 'div', x, divisor, out),
  vjp: (g, _, { divisor }) => [() => div(g, divisor)],
  samples: r => [[3, 1, 5], [1031], []].map(shape => ({ x: [r(...shape)] as const, attrs: { divisor: 41 } })),
})

const powScalarOp = /* @__PURE__ */ defineOp<Unary, { readonly p: number }, Unary>({
  name: 'powScalar',
  infer: ([x]) => x,
  forward: (k, [x], { p }, out) => k.unary('pow', x, out, p),
  save: ([x]) => [x],
  vjp: (g, [x], { p }) => [() => (p === 0 ? zero(g, x.shape) : mul(g, mul(pow(x, p - 1), p)))],
  samples: r =>
    [[3, 1, 5], [1031], []].flatMap(shape => [
      { x: [r.positive(...shape)] as const, attrs: { p: -1.5 } },
      { x: [r.distinct(...shape)] as const, attrs: { p: 3 } },
    ]),
})

const clampOp = /* @__PURE__ */ defineOp<Unary, { readonly low: number; readonly high: number }, Unary>({
  name: 'clamp',
  integers: true,
  differentiable: 'once',
  infer: ([x]) => x,
  forward: (k, [x], { low, high }, out) => k.unary('clamp', x, out, low, high),
  save: ([x]) => [x],
  // 1 inside, bounds included, as PyTorch has it.
  vjp: (g, [x], { low, high }) => [() => where(equal(x, bounded('clamp', x, low, high)), g, zero(g))],
  samples: r =>
    [[3, 1, 5], [1031], []].map(shape => ({ x: [r.distinct(...shape)] as const, attrs: { low: -0.5, high: 1 } })),
})

/** Bounds of `clamp`; absent ones do not limit. */
export interface ClampBounds {
  readonly min?: Tensor | number
  readonly max?: Tensor | number
}

/**
 * min(max(x, min), max) with bounds that are numbers or tensors, broadcast: `clamp(x, 0, 1)` or `clamp(x, { min: 0 })`.
 * Where min > max the result is max. The gradient reaches x inside the bounds and on them. Throws ShapeError.
 */
export function clamp(x: Tensor, bounds: ClampBounds): Tensor
export function clamp(x: Tensor, min: number, max: number): Tensor
export function clamp(x: Tensor, first: ClampBounds | number, second?: number): Tensor {
  if (typeof first === 'number') {
    check('clamp', 'max', second, aNumber)
    return bounded('clamp', x, first, second!)
  }
  checkOptions('clamp', first, { min: tensorOrNumber, max: tensorOrNumber })
  checkTensor('clamp', 'x', x)
  const { min = -Infinity, max = Infinity } = first
  if (typeof min === 'number' && typeof max === 'number') return bounded('clamp', x, min, max)
  checkBounds(x, first)
  const raised = min === -Infinity ? x : maximum(x, min)
  return max === Infinity ? raised : minimum(raised, max)
}

/** Throws unless the bounds that are tensors have the dtype and backend of x. */
function checkBounds(x: Tensor, { min, max }: ClampBounds): void {
  for (const bound of [min, max])
    if (isTensor(bound) && (bound.dtype !== x.dtype || bound.backend !== x.backend)) refuseMixed('clamp', [x, bound])
}

/** x limited to [low, high], which may be infinite, in the name of another op. */
function bounded(op: string, x: Tensor | number, low: number, high: number): Tensor {
  for (const bound of [low, high]) beside(op, x, Math.abs(bound) === Infinity ? 0 : bound)
  return apply(clampOp, [x as Tensor], { low, high })
}

// ---- conversion ---------------------------------------------------------------------------------------------------

const castOp = /* @__PURE__ */ defineOp<Unary, { readonly to: DType; readonly from: DType }>({
  name: 'cast',
  integers: true,
  dtype: (_, { to }) => to,
  infer: ([x]) => x,
  forward: (k, [x], _, out) => k.cast(x, out),
  vjp: (g, _, { from }) => [() => cast(g, from)],
  samples: r => [
    { x: [r.indices(9, 3, 1, 5)], attrs: { from: 'i32', to: 'f32' } },
    { x: [r.distinct(1031)], attrs: { from: 'f64', to: 'i32' } },
  ],
})

/** The same values, (…), in another dtype; towards i32 they are truncated and cut to its range, and have no gradient. */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkTensor('cast', 'x', x)
  check('cast', 'dtype', dtype, aDType)
  if (x.dtype === dtype) return x.alias()
  const run = () => apply(castOp, [x], { from: x.dtype, to: dtype })
  return dtype === 'i32' ? noGrad(run) : run()
}

/** Where `to` copies a tensor, and in which dtype; absent ones stay as they are. */
export interface Destination {
  readonly backend?: Backend
  readonly dtype?: DType
}

/**
 * A copy, of the same shape, on another backend or in another dtype, outside the recorded computation. Reads at once where
 * it must.
 */
export function to(x: Tensor, destination: Destination): Tensor {
  checkTensor('to', 'x', x)
  checkOptions('to', destination, { backend: aBackend, dtype: aDType })
  const { backend = x.backend, dtype = x.dtype } = destination
  if (backend === x.backend && dtype === x.dtype) return x.detach()
  if (backend === x.backend) return noGrad(() => cast(x, dtype))
  return tensor(x.dataSync(), { shape: x.shape, dtype, backend })
}
