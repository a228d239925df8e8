/**
 * Layer normalisation, plain and adaptive, and gradients: y = x̂ ⊙ a + c. a and c serve all rows (w, b) or one example
 * (1 + scale, shift). The lanes of a row normalise it together. Gradients of a and c are sums over columns of g ⊙ x̂
 * and g, with x̂ recomputed from each row's moments.
 */

import { ceilDiv, type Shape, sizeOf } from '../../../../shape.ts'
import type { Plan, Step } from '../../program.ts'
import { find, type Layout, laneStride, layoutOf, layoutParams, reduceSteps } from './reduce.ts'
import { float, step } from './shader.ts'
import { findRow } from './softmax.ts'
import { lanesFor, threads, tree } from './tree.ts'

/** Buffers of a and c, and WGSL that reads them at position `d` of a row of example `n`. */
interface Affine {
  readonly reads: readonly string[]
  readonly a: string
  readonly c: string
}

const adaptive: Affine = {
  reads: ['shift', 'scale'],
  a: '(1.0 + scale[n * params.len + d])',
  c: 'shift[n * params.len + d]',
}

function plain(w: boolean, b: boolean): Affine {
  return {
    reads: [...(w ? ['w'] : []), ...(b ? ['b'] : [])],
    a: w ? 'w[d]' : '1.0',
    c: b ? 'b[d]' : '0.0',
  }
}

/** x, w, b → y, without w or b where absent. */
export function layerNormPlan(shape: Shape, w: boolean, b: boolean, eps: number): Plan {
  return { steps: [forward(shape, 1, plain(w, b), eps)], scratch: {} }
}

/** x, shift, scale → y: x (N, T, D). */
export function adaLayerNormPlan(shape: Shape, eps: number): Plan {
  return { steps: [forward(shape, shape[1], adaptive, eps)], scratch: {} }
}

/** g, x → gx; with w, also gw and gb. */
export function layerNormGradPlan(shape: Shape, w: boolean, eps: number): Plan {
  const affine = { ...plain(w, false), c: '' }
  if (!w) return { steps: [backward(shape, 1, affine, eps, false)], scratch: {} }
  const D = shape[shape.length - 1]
  const rows = sizeOf(shape.slice(0, -1))
  return withColumns(backward(shape, 1, affine, eps, true), [1, rows, D], 'gw', 'gb')
}

/** g, x, scale → gx, gshift, gscale: x (N, T, D). */
export function adaLayerNormGradPlan(shape: Shape, eps: number): Plan {
  const [N, T, D] = shape
  const affine = { ...adaptive, reads: ['scale'], c: '' }
  return withColumns(backward(shape, T, affine, eps, true), [N, T, D], 'gscale', 'gshift')
}

/** g, gate, y → ggate, gy: y (N, T, D). */
export function gatedResidualGradPlan([N, T, D]: Shape): Plan {
  const scratch: Record<string, number> = {}
  const product = { name: 'product', reads: ['y', 'gate'], value: 'g[at] * y[at]', result: 'ggate' }
  const scaled = { result: 'gy', value: 'g[at] * gate[outer * params.inner + column]' }
  return { steps: columnSums([N, T, D], [product], scratch, scaled), scratch }
}

/** Layout and parameters of shaders over the rows of x, of which `perExample` share a and c. */
function rowsOf(shape: Shape, perExample: number, eps: number) {
  const len = shape[shape.length - 1]
  const rows = sizeOf(shape.slice(0, -1))
  const lanes = lanesFor(len)
  return {
    lanes,
    params: { rows, len, perExample, eps: float(eps) },
    workgroups: len === 0 ? 0 : ceilDiv(rows, threads / lanes),
    threads,
  }
}

/**
 * WGSL: x̂ of an element and 1/√(var + eps), from a row's mean and `inverse`. A negative inverse belongs to deviations
 * in units of 2⁸⁰, whose squares are finite where those of the deviations overflow.
 */
const standardise = `const unit = 0x1p-80f;
fn standardise(x: f32, mean: f32, inverse: f32) -> f32 {
  return select((x - mean) * inverse, (mean - x) * unit * inverse, inverse < 0.0);
}
fn inverseDeviation(inverse: f32) -> f32 { return select(inverse, -unit * inverse, inverse < 0.0); }
fn inverseOf(squares: vec2f, eps: f32) -> f32 {
  let finite = (bitcast<u32>(squares.x) & 0x7fffffffu) < 0x7f800000u;
  return select(-1.0 / sqrt(squares.y), 1.0 / sqrt(squares.x + eps), finite);
}`

/** WGSL functions for the moments of a row. */
function declarations(lanes: number): string {
  return `${standardise}\n${tree('total', lanes)}\n${tree('totals', lanes, 'a + b', 1, 'vec2f')}`
}

/** WGSL: mean and inverse standard deviation of an invocation's row. */
function moments(lanes: number): string {
  return `${findRow(lanes)}
  let n = min(row, params.rows - 1u) / params.perExample;
  let D = f32(params.len);
  var sum = 0.0;
  for (var i = begin + lane; i < end; i += ${lanes}u) { sum += x[i]; }
  let mean = total(sum, thread) / D;
  var squares = vec2f();
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let deviation = vec2f(1.0, unit) * (x[i] - mean);
    squares += deviation * deviation;
  }
  let inverse = inverseOf(totals(squares, thread) / D, params.eps);`
}

const buffers = (names: readonly string[]) => Object.fromEntries(names.map(name => [name, 'f32' as const]))

function forward(shape: Shape, perExample: number, { reads, a, c }: Affine, eps: number): Step {
  const { lanes, ...rows } = rowsOf(shape, perExample, eps)
  return step({
    name: 'layerNorm',
    variant: [lanes, ...reads],
    ...rows,
    reads: buffers(['x', ...reads]),
    writes: { y: 'f32' },
    declarations: () => declarations(lanes),
    body: () => `${moments(lanes)}
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let d = i - begin;
    y[i] = standardise(x[i], mean, inverse) * ${a} + ${c};
  }`,
  })
}

/** gx = (gx̂ − mean(gx̂) − x̂ mean(gx̂ ⊙ x̂)) / √(var + eps); with `keep`, also each row's moments. */
function backward(shape: Shape, perExample: number, { reads, a }: Affine, eps: number, keep: boolean): Step {
  const { lanes, ...rows } = rowsOf(shape, perExample, eps)
  return step({
    name: 'layerNormGrad',
    variant: [lanes, keep, ...reads],
    ...rows,
    reads: buffers(['g', 'x', ...reads]),
    writes: buffers(['gx', ...(keep ? ['moments'] : [])]),
    declarations: () => declarations(lanes),
    body: () => `${moments(lanes)}
  sum = 0.0;
  var product = 0.0;
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let d = i - begin;
    let gUnit = g[i] * ${a};
    sum += gUnit;
    product += gUnit * standardise(x[i], mean, inverse);
  }
  sum = total(sum, thread) / D;
  product = total(product, thread) / D;
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let d = i - begin;
    gx[i] = (g[i] * ${a} - sum - standardise(x[i], mean, inverse) * product) * inverseDeviation(inverse);
  }${keep ? '\n  if (lane == 0u && row < params.rows) { moments[2u * row] = mean; moments[2u * row + 1u] = inverse; }' : ''}`,
  })
}

/** Returns the plan of `rows` and of the sums of g ⊙ x̂ and g over the middle axis of (N, T, D). */
function withColumns(rows: Step, [N, T, D]: readonly [number, number, number], gScale: string, gShift: string): Plan {
  const scratch: Record<string, number> = { moments: 2 * N * T }
  const row = 'moments[2u * (outer * params.len + l)'
  const scaled = {
    name: 'normalised',
    reads: ['x', 'moments'],
    value: `g[at] * standardise(x[at], ${row}], ${row} + 1u])`,
    result: gScale,
  }
  const shifted = { name: 'plain', reads: [], value: 'g[at]', result: gShift }
  return { steps: [rows, ...columnSums([N, T, D], [scaled, shifted], scratch)], scratch }
}

/** A sum over columns: WGSL of its term, which reads `g` and `reads` at element `at` or row l. */
interface Column {
  readonly name: string
  readonly reads: readonly string[]
  readonly value: string
  readonly result: string
}

/**
 * Sums several terms over the middle axis of (N, T, D) in one pass; results are (N, D). `each` is an elementwise result that is
 * written along.
 */
function columnSums(
  [N, T, D]: readonly [number, number, number],
  columns: readonly Column[],
  scratch: Record<string, number>,
  each?: Pick<Column, 'value' | 'result'>,
): Step[] {
  const layout = layoutOf(N, T, D)
  const { lanes, chunks, slots, workgroups } = layout
  const names: Record<string, string> = {}
  columns.forEach(({ result }, k) => {
    names[`sum${k}`] = chunks === 1 ? result : `${result}Partial`
    if (chunks > 1) scratch[`${result}Partial`] = slots
  })
  const sums = step(
    {
      name: 'columns',
      variant: [lanes, D === 1, each !== undefined, ...columns.map(({ name }) => name)],
      params: layoutParams(layout),
      reads: buffers(['g', ...columns.flatMap(({ reads }) => reads)]),
      writes: buffers([...columns.map((_, k) => `sum${k}`), ...(each ? [each.result] : [])]),
      workgroups,
      threads,
      declarations: () => `${standardise}\n${tree('total', lanes, 'a + b', laneStride(layout))}`,
      body: () => sumColumns(layout, columns, each),
    },
    names,
  )
  if (chunks === 1) return [sums]
  return [
    sums,
    ...columns.flatMap(({ result }) => reduceSteps('sum', [N, chunks, D], `${result}Partial`, result, scratch)),
  ]
}

function sumColumns(layout: Layout, columns: readonly Column[], each?: Pick<Column, 'value' | 'result'>): string {
  return `${find(layout)}
${columns.map((_, k) => `  var total${k} = 0.0;`).join('\n')}
  for (var l = first + lane; l < end; l += ${layout.lanes}u) {
    let at = (outer * params.len + l) * params.inner + column;
${columns.map(({ value }, k) => `    total${k} += ${value};`).join('\n')}${each ? `\n    ${each.result}[at] = ${each.value};` : ''}
  }
${columns.map((_, k) => `  total${k} = total(total${k}, thread);`).join('\n')}
  if (lane == 0u && slot < params.slots) {
${columns.map((_, k) => `    sum${k}[slot] = total${k};`).join('\n')}
  }`
}
