/**
 * The updates of optimizers and of averages of weights. The records give the arithmetic in plain ops; backends with a
 * kernel write all rows in one launch. Gradients enter times `clip`, and a step whose `finite` is 0 writes nothing, so that a
 * step reads nothing back.
 */

import { aNumber, check, numbers, tensors } from '../arguments.ts'
import type {
  AdamWAttrs,
  AdamWRow,
  AdamWScalars,
  AdanAttrs,
  AdanRow,
  AdanScalars,
  AssignRow,
  ClipScalars,
  LerpAttrs,
  SgdAttrs,
  SgdRow,
} from '../backend.ts'
import { apply, defineOp, type None } from '../op.ts'
import type { Sampler } from '../samples.ts'
import { ShapeError } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { defineUpdate, pairs, update } from '../update.ts'
import { sum } from './broadcast.ts'
import { add, affine, div, maximum, mul, neg, sqrt, square, sub } from './elementwise.ts'
import { where, zero } from './where.ts'

export type {
  AdamWAttrs,
  AdamWRow,
  AdamWScalars,
  AdanAttrs,
  AdanRow,
  AdanScalars,
  ClipScalars,
  SgdAttrs,
  SgdRow,
} from '../backend.ts'

import { atCaller } from '../traceback.ts'

// ---- hyperparameters ------------------------------------------------------------------------------------------------

/** Hyperparameters of an update that are numbers; those it does not have are absent. */
export interface Hyperparameters {
  readonly lr?: number
  readonly betas?: readonly number[]
  readonly eps?: number
  readonly weightDecay?: number
  readonly momentum?: number
  readonly dampening?: number
  readonly nesterov?: boolean
}

/** Throws RangeError unless every hyperparameter is finite and in the range that PyTorch accepts. */
export function checkHyperparameters(op: string, hyperparameters: Hyperparameters): void {
  const { betas = [], momentum = 0, dampening = 0, nesterov = false } = hyperparameters
  for (const name of ['lr', 'eps', 'weightDecay', 'momentum'] as const) {
    const value = hyperparameters[name]
    if (value !== undefined && !(value >= 0 && value < Infinity))
      throw atCaller(new RangeError(`${op}: expected a finite ${name} ≥ 0, got ${value}`))
  }
  check(op, 'betas', betas, numbers)
  if (!betas.every(beta => beta >= 0 && beta < 1))
    throw atCaller(new RangeError(`${op}: expected betas in [0, 1), got ${betas.join(', ')}`))
  if (!Number.isFinite(dampening))
    throw atCaller(new RangeError(`${op}: expected a finite dampening, got ${dampening}`))
  if (nesterov && (momentum === 0 || dampening !== 0))
    throw atCaller(
      new RangeError(
        `${op}: expected nesterov with momentum > 0 and dampening 0, got momentum ${momentum} and dampening ${dampening}`,
      ),
    )
}

/** The same for the attributes of an update, of which those that are `required` must be numbers. */
function checkAttrs<A extends Hyperparameters>(op: string, attrs: A, required: readonly (keyof A & string)[]): void {
  for (const name of required) check(op, name, attrs[name], aNumber)
  if ('betas' in attrs || !required.includes('momentum' as keyof A & string)) check(op, 'betas', attrs.betas, numbers)
  checkHyperparameters(op, attrs)
}

// ---- averages of weights --------------------------------------------------------------------------------------------

const lerpUpdate = defineUpdate<AssignRow<Tensor>, object, LerpAttrs>({
  name: 'lerp',
  fields: { target: 'written', source: 'read' },
  check({ weight }) {
    if (!Number.isFinite(weight)) throw atCaller(new RangeError(`lerp: expected a finite weight, got ${weight}`))
  },
  kernel: k => k.lerp,
  decompose: ({ target, source }, _, { weight }) => ({ target: add(target, mul(sub(source, target), weight)) }),
  flops: 3,
  samples: r => [
    { rows: rowsOf(shape => ({ target: r(...shape), source: r(...shape) })), scalars: {}, attrs: { weight: 0.1 } },
  ],
})

/**
 * target ← target + weight (source − target) for each pair, of equal shapes (…). Where `finite` (one element) is 0 nothing
 * is written. Throws ShapeError, RangeError.
 */
export function lerp(targets: readonly Tensor[], sources: readonly Tensor[], weight: number, finite?: Tensor): void {
  update(lerpUpdate, pairs('lerp', targets, sources), {}, { weight }, finite)
}

// ---- AdamW ----------------------------------------------------------------------------------------------------------

const adamWUpdate = defineUpdate<AdamWRow<Tensor>, AdamWScalars<Tensor>, AdamWAttrs>({
  name: 'adamW',
  fields: { p: 'written', g: 'read', m: 'written', v: 'written', vmax: 'written' },
  check: attrs => checkAttrs('adamW', attrs, ['lr', 'eps', 'weightDecay']),
  kernel: k => k.adamW,
  // In PyTorch's order: decay first, then the step; eps joins the corrected root.
  decompose(row, { clip, correction1, correction2 }, { lr, betas, eps, weightDecay, maximize }) {
    const g = clipped(row.g, clip, maximize)
    const m = add(mul(row.m, betas[0]), mul(g, 1 - betas[0]))
    const v = add(mul(row.v, betas[1]), mul(square(g), 1 - betas[1]))
    const vmax = row.vmax && maximum(row.vmax, v)
    const denominator = affine(div(sqrt(vmax ?? v), sqrt(correction2)), 1, eps)
    const step = mul(div(div(m, correction1), denominator), lr)
    return { p: sub(mul(row.p, 1 - lr * weightDecay), step), m, v, vmax }
  },
  flops: 5,
  samples: r => {
    const row = (shape: readonly number[]) => ({
      p: r(...shape),
      g: r(...shape),
      m: r(...shape),
      v: r.positive(...shape),
    })
    const scalars = () => ({ clip: scalar(r, 0.5), correction1: scalar(r, 0.25), correction2: scalar(r, 0.0625) })
    const attrs = { lr: 0.05, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, maximize: false } as const
    const largest = (shape: readonly number[]) => ({ ...row(shape), vmax: r.positive(...shape) })
    return [
      { rows: rowsOf(row), scalars: scalars(), attrs },
      { rows: rowsOf(largest), scalars: scalars(), attrs: { ...attrs, maximize: true } },
    ]
  },
})

/**
 * One step of AdamW [AdamW alg. 2] on each row, of tensors of one shape (…), in PyTorch's order of operations. Throws
 * ShapeError, RangeError.
 */
export function adamW(
  rows: readonly AdamWRow<Tensor>[],
  scalars: AdamWScalars<Tensor>,
  attrs: AdamWAttrs,
  finite?: Tensor,
): void {
  update(adamWUpdate, rows, scalars, attrs, finite)
}

// ---- Adan -----------------------------------------------------------------------------------------------------------

const adanUpdate = defineUpdate<AdanRow<Tensor>, AdanScalars<Tensor>, AdanAttrs>({
  name: 'adan',
  fields: {
    p: 'written',
    g: 'read',
    m: 'written',
    d: 'written',
    v: 'written',
    before: 'written',
    started: 'scalar',
  },
  check: attrs => checkAttrs('adan', attrs, ['lr', 'eps', 'weightDecay']),
  kernel: k => k.adan,
  decompose(row, { clip, correction1, correction2, correction3 }, { lr, betas, eps, weightDecay, decay }) {
    const g = clipped(row.g, clip, false)
    const change = where(row.started, sub(g, row.before), zero(g))
    const m = add(mul(row.m, betas[0]), mul(g, 1 - betas[0]))
    const d = add(mul(row.d, betas[1]), mul(change, 1 - betas[1]))
    const v = add(mul(row.v, betas[2]), mul(square(add(g, mul(change, betas[1]))), 1 - betas[2]))
    const denominator = affine(div(sqrt(v), sqrt(correction3)), 1, eps)
    const direction = div(add(div(m, correction1), mul(div(d, correction2), betas[1])), denominator)
    const shrink = lr * weightDecay
    const moved = sub(decay === 'before' ? mul(row.p, 1 - shrink) : row.p, mul(direction, lr))
    return { p: decay === 'after' ? mul(moved, 1 / (1 + shrink)) : moved, m, d, v, before: g }
  },
  flops: 4,
  samples: r => {
    const row = (started: number) => (shape: readonly number[]) => ({
      p: r(...shape),
      g: r(...shape),
      m: r(...shape),
      d: r(...shape),
      v: r.positive(...shape),
      before: r(...shape),
      started: scalar(r, started),
    })
    const scalars = () => ({
      clip: scalar(r, 0.5),
      correction1: scalar(r, 0.25),
      correction2: scalar(r, 0.5),
      correction3: scalar(r, 0.0625),
    })
    const attrs = { lr: 0.05, betas: [0.98, 0.92, 0.99], eps: 1e-8, weightDecay: 0.1 } as const
    return [
      { rows: rowsOf(row(1)), scalars: scalars(), attrs: { ...attrs, decay: 'after' } },
      { rows: rowsOf(row(0)), scalars: scalars(), attrs: { ...attrs, decay: 'before' } },
    ]
  },
})

/**
 * One step of Adan [Adan alg. 1] on each row, of tensors of one shape (…). The remembered gradient is the clipped one.
 * Throws ShapeError, RangeError.
 */
export function adan(
  rows: readonly AdanRow<Tensor>[],
  scalars: AdanScalars<Tensor>,
  attrs: AdanAttrs,
  finite?: Tensor,
): void {
  update(adanUpdate, rows, scalars, attrs, finite)
}

// ---- SGD ------------------------------------------------------------------------------------------------------------

const sgdUpdate = defineUpdate<SgdRow<Tensor>, ClipScalars<Tensor>, SgdAttrs>({
  name: 'sgd',
  fields: { p: 'written', g: 'read', b: 'written', started: 'scalar' },
  check: attrs => checkAttrs('sgd', attrs, ['lr', 'momentum', 'dampening', 'weightDecay']),
  kernel: k => k.sgd,
  decompose({ p, g: gradient, b, started }, { clip }, { lr, momentum, dampening, nesterov, weightDecay, maximize }) {
    const raw = clipped(gradient, clip, maximize)
    const g = weightDecay === 0 ? raw : add(raw, mul(p, weightDecay))
    const next = add(mul(b, momentum), mul(g, 1 - dampening))
    const buffer = started === undefined ? next : where(started, next, g)
    return { p: sub(p, mul(nesterov ? add(g, mul(buffer, momentum)) : buffer, lr)), b: buffer }
  },
  flops: 4,
  samples: r => {
    const row = (shape: readonly number[]) => ({ p: r(...shape), g: r(...shape), b: r(...shape) })
    const flagged = (started: number) => (shape: readonly number[]) => ({ ...row(shape), started: scalar(r, started) })
    const scalars = () => ({ clip: scalar(r, 0.5) })
    const attrs = { lr: 0.05, momentum: 0.9, dampening: 0, nesterov: false, weightDecay: 0, maximize: false }
    return [
      { rows: rowsOf(row), scalars: scalars(), attrs },
      { rows: rowsOf(row), scalars: scalars(), attrs: { ...attrs, nesterov: true, weightDecay: 0.1, maximize: true } },
      { rows: rowsOf(flagged(1)), scalars: scalars(), attrs: { ...attrs, dampening: 0.25 } },
      { rows: rowsOf(flagged(0)), scalars: scalars(), attrs: { ...attrs, dampening: 0.25, weightDecay: 0.1 } },
    ]
  },
})

/** One step of SGD with momentum on each row, of tensors of one shape (…), as PyTorch's. Throws ShapeError, RangeError. */
export function sgd(
  rows: readonly SgdRow<Tensor>[],
  scalars: ClipScalars<Tensor>,
  attrs: SgdAttrs,
  finite?: Tensor,
): void {
  update(sgdUpdate, rows, scalars, attrs, finite)
}

// ---- the norm of all gradients --------------------------------------------------------------------------------------

const sumOfSquaresOp = defineOp<readonly Tensor[], None, readonly Tensor[]>({
  name: 'sumOfSquares',
  infer: () => [],
  forward: (k, xs, _, out) => (out.dtype === 'i32' ? undefined : k.sumOfSquares?.(xs, out)),
  decompose: xs => xs.map(x => sum(square(x))).reduce((a, b) => add(a, b)),
  save: xs => xs,
  vjp: (g, xs) => xs.map(x => () => mul(g, mul(x, 2))),
  flops: xs => 2 * xs.reduce((n, x) => n + x.size, 0),
  samples: r => [{ x: [r(3, 1, 5), r(1031), r()], attrs: {} }],
})

/** Σ x² over all elements of all tensors, of any shapes: one number. Throws ShapeError. */
export function sumOfSquares(xs: readonly Tensor[]): Tensor {
  check('sumOfSquares', 'xs', xs, tensors)
  if (xs.length === 0) throw new ShapeError('sumOfSquares: expected at least one tensor, got none')
  return apply(sumOfSquaresOp, xs, {})
}

// ---- parts of the above ---------------------------------------------------------------------------------------------

/** clip · g, or −clip · g. */
function clipped(g: Tensor, clip: Tensor, maximize: boolean): Tensor {
  return maximize ? neg(mul(g, clip)) : mul(g, clip)
}

/** A row of each shape: one element, an odd number past every vector width, and enough for several threads. */
function rowsOf<Row>(row: (shape: readonly number[]) => Row): Row[] {
  return [[3, 1, 5], [1031], [], [70_001]].map(row)
}

/** One element of this value, which f32 can hold. */
function scalar(r: Sampler, value: number): Tensor {
  return affine(r(), 0, value)
}
