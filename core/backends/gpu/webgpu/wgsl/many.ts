/**
 * Shaders over several tensors at once: updates of weights in place, the sum of squares of all gradients,
 * concatenation and its inverse. A dispatch binds as many tensors as every device allows, and its workgroups are shared out among them.
 */

import type { AdamWAttrs } from '../../../../backend.ts'
import { ceilDiv, type Shape, sizeOf } from '../../../../shape.ts'
import type { Plan, Step } from '../../program.ts'
import { reduceSteps } from './reduce.ts'
import { float, step } from './shader.ts'
import { joins, threads, tree } from './tree.ts'

/** Storage buffers that a shader may bind on every device. */
const mostBuffers = 8
/** Pairs of target and source. */
export const pairsTogether = mostBuffers / 2
/** Rows of p, g, m and v. */
export const rowsTogether = mostBuffers / 4
/** Operands beside one result. */
export const operandsTogether = mostBuffers - 1

/** Elements of a thread in an update, and in a sum. */
const [written, summed] = [4, 64]

/** Shares out workgroups of `perGroup` elements among tensors: params `n0`, `end0`, `n1`, …, and the number of groups. */
function sharedOut(sizes: readonly number[], perGroup: number) {
  const params: Record<string, number> = {}
  let workgroups = 0
  for (const [k, size] of sizes.entries()) {
    workgroups += ceilDiv(size, perGroup)
    params[`n${k}`] = size
    params[`end${k}`] = workgroups
  }
  return { params, workgroups }
}

/** WGSL: runs `use(k)` for each element `i` that thread `thread` of group `group` has in its tensor k. */
function eachElement(count: number, perThread: number, use: (k: number) => string): string {
  const loop = (k: number) => `{
    let first = (group - ${k === 0 ? '0u' : `params.end${k - 1}`}) * ${perThread * threads}u + thread;
    let end = min(first + ${perThread * threads}u, params.n${k});
    for (var i = first; i < end; i += ${threads}u) { ${use(k)} }
  }`
  return Array.from({ length: count }, (_, k) => `if (group < params.end${k}) ${loop(k)}`).join(' else ')
}

const named = (count: number, name: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, k) => [`${name}${k}`, 'f32' as const]))

/** Parameters of AdamW's shader, after the sizes. */
const adamWParams = ['sign', 'beta1', 'beta2', 'rest1', 'rest2', 'lr', 'eps', 'keep'] as const

/** Their values. */
function adamWNumbers({ lr, betas, eps, weightDecay, maximize }: AdamWAttrs): number[] {
  return [maximize ? -1 : 1, betas[0], betas[1], 1 - betas[0], 1 - betas[1], lr, eps, 1 - lr * weightDecay]
}

/** Writes hyperparameters, which may change from step to step, to a plan of `adamWPlan`. */
export function setAdamW(plan: Plan, attrs: AdamWAttrs): void {
  setLast(plan, adamWNumbers(attrs))
}

/** Writes the weight to a plan of `lerpPlan`. */
export function setLerp(plan: Plan, weight: number): void {
  setLast(plan, [weight])
}

/** Writes the last words of the uniform block of a plan of one step. */
function setLast({ steps: [{ program }] }: Plan, numbers: readonly number[]): void {
  const { buffer, length } = program.params
  new Float32Array(buffer).set(numbers, length - numbers.length)
}

/** p0, m0, v0, p1, … of `sizes` elements, at most `rowsTogether` rows, ← AdamW's step by g0, …; nothing where `finite` is 0. */
export function adamWPlan(sizes: readonly number[], attrs: AdamWAttrs): Plan {
  const { length } = sizes
  const hyperparameters = adamWNumbers(attrs)
  const { params, workgroups } = sharedOut(sizes, written * threads)
  const update = step({
    name: 'adamW',
    variant: [length],
    params: {
      ...params,
      ...Object.fromEntries(adamWParams.map((name, i) => [name, float(hyperparameters[i])])),
    },
    scalars: ['clip', 'correction1', 'correction2', 'finite'],
    reads: named(length, 'g'),
    writes: { ...named(length, 'p'), ...named(length, 'm'), ...named(length, 'v') },
    workgroups,
    threads,
    body: () => `
  if (finite.x == 0.0) { return; }
  let root = sqrt(correction2.x);
  ${eachElement(
    length,
    written,
    k => `
      let gradient = g${k}[i] * (params.sign * clip.x);
      let first_moment = m${k}[i] * params.beta1 + gradient * params.rest1;
      let second_moment = v${k}[i] * params.beta2 + gradient * gradient * params.rest2;
      m${k}[i] = first_moment;
      v${k}[i] = second_moment;
      p${k}[i] = p${k}[i] * params.keep - params.lr * (first_moment / correction1.x) / (sqrt(second_moment) / root + params.eps);`,
  )}`,
  })
  return { steps: [update], scratch: {} }
}

/** t0, t1, … of `sizes` elements ← t + weight (s − t), at most `pairsTogether` pairs; nothing where `finite` is 0. */
export function lerpPlan(sizes: readonly number[], weight: number): Plan {
  const { length } = sizes
  const { params, workgroups } = sharedOut(sizes, written * threads)
  const update = step({
    name: 'lerp',
    variant: [length],
    params: { ...params, weight: float(weight) },
    scalars: ['finite'],
    reads: named(length, 's'),
    writes: named(length, 't'),
    workgroups,
    threads,
    body: () => `
  if (finite.x == 0.0) { return; }
  ${eachElement(length, written, k => `t${k}[i] = t${k}[i] + params.weight * (s${k}[i] - t${k}[i]);`)}`,
  })
  return { steps: [update], scratch: {} }
}

/** x0, x1, … of `sizes` elements → y: the sum of all squares. */
export function sumOfSquaresPlan(sizes: readonly number[]): Plan {
  const steps: Step[] = []
  let count = 0
  for (let from = 0; from < sizes.length; from += operandsTogether) {
    const some = sizes.slice(from, from + operandsTogether)
    const { params, workgroups } = sharedOut(some, summed * threads)
    steps.push(
      step(
        {
          name: 'squares',
          variant: [some.length],
          params: { ...params, to: count },
          reads: named(some.length, 'x'),
          writes: { y: 'f32' },
          workgroups,
          threads,
          declarations: () => `${joins.sum}\n${tree('all', threads, 'join(a, b)')}`,
          body: () => `
  var total = 0.0;
  ${eachElement(some.length, summed, k => `total += x${k}[i] * x${k}[i];`)}
  total = all(total, thread);
  if (thread == 0u) { y[params.to + group] = total; }`,
        },
        { ...Object.fromEntries(some.map((_, k) => [`x${k}`, `x${from + k}`])), y: 'squares' },
      ),
    )
    count += workgroups
  }
  const scratch: Record<string, number> = { squares: count }
  return { steps: [...steps, ...reduceSteps('sum', [1, count, 1], 'squares', 'y', scratch)], scratch }
}

/** x0, x1, …, at most `operandsTogether`, end to end along `axis` → y. */
export function concatPlan(shapes: readonly Shape[], axis: number): Plan {
  const { length } = shapes
  const inner = sizeOf(shapes[0].slice(axis + 1))
  const rows = shapes.map(shape => shape[axis] * inner)
  const all = rows.reduce((sum, row) => sum + row, 0)
  const size = sizeOf(shapes[0].slice(0, axis)) * all
  const params: Record<string, number> = { size, all }
  let end = 0
  for (const [k, row] of rows.entries()) {
    end += row
    params[`row${k}`] = row
    params[`end${k}`] = end
  }
  const part = (k: number) =>
    `if (at < params.end${k}) { y[i] = x${k}[outer * params.row${k} + at${k === 0 ? '' : ` - params.end${k - 1}`}]; }`
  const join = step({
    name: 'concat',
    variant: [length],
    params,
    reads: named(length, 'x'),
    writes: { y: 'f32' },
    workgroups: ceilDiv(size, threads),
    threads,
    body: () => `
  let i = group * ${threads}u + thread;
  if (i >= params.size) { return; }
  let outer = i / params.all;
  let at = i % params.all;
  ${Array.from({ length }, (_, k) => part(k)).join(' else ')}`,
  })
  return { steps: [join], scratch: {} }
}

/** x → y0, y1, …, at most `operandsTogether` equal parts along `axis`. */
export function splitPlan(shape: Shape, parts: number, axis: number): Plan {
  const size = sizeOf(shape)
  const all = sizeOf(shape.slice(axis))
  const store = (k: number) => `if (part == ${k}u) { y${k}[at] = x[i]; }`
  const cut = step({
    name: 'split',
    variant: [parts],
    params: { size, all, row: all / parts },
    reads: { x: 'f32' },
    writes: named(parts, 'y'),
    workgroups: ceilDiv(size, threads),
    threads,
    body: () => `
  let i = group * ${threads}u + thread;
  if (i >= params.size) { return; }
  let along = i % params.all;
  let part = along / params.row;
  let at = (i / params.all) * params.row + along % params.row;
  ${Array.from({ length: parts }, (_, k) => store(k)).join(' else ')}`,
  })
  return { steps: [cut], scratch: {} }
}
