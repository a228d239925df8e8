/**
 * Softmax and log-softmax over the last axis, with gradients. A row is read three times; caches serve all reads but the
 * first.
 */

import { ceilDiv, type Shape, sizeOf } from '../../../../shape.ts'
import type { Plan } from '../../program.ts'
import { type Source, step } from './shader.ts'
import { keepNaN, lanesFor, threads, tree } from './tree.ts'

type Name = 'softmax' | 'logSoftmax' | 'softmaxGrad' | 'logSoftmaxGrad'

/** WGSL: runs a statement for each element `i` of a lane. */
const each = (lanes: number, statement: string) =>
  `for (var i = begin + lane; i < end; i += ${lanes}u) { ${statement} }`

/** WGSL: `begin` ≤ i < `end` is the row of a thread, empty past the last row. */
export function findRow(lanes: number): string {
  return `
  let row = group * ${threads / lanes}u + thread / ${lanes}u;
  let lane = thread % ${lanes}u;
  let begin = min(row, params.rows) * params.len;
  let end = select(begin, begin + params.len, row < params.rows);`
}

/** x → y. */
export function softmaxPlan(name: 'softmax' | 'logSoftmax', shape: Shape): Plan {
  return rows(name, shape, ['x'], 'y', lanes => {
    const result = name === 'softmax' ? 'exp(x[i] - top) / sum' : 'x[i] - top - logarithm(sum)'
    return `
  var top = lowest;
  ${each(lanes, 'top = max(top, x[i]);')}
  top = highest(top, thread);
  var sum = 0.0;
  ${each(lanes, 'sum += exponential(x[i] - top);')}
  sum = total(sum, thread);
  ${each(lanes, `y[i] = ${result};`)}`
  })
}

/** g, y → gx. */
export function softmaxGradPlan(name: 'softmaxGrad' | 'logSoftmaxGrad', shape: Shape): Plan {
  return rows(name, shape, ['g', 'y'], 'gx', lanes => {
    const [term, result] =
      name === 'softmaxGrad' ? ['g[i] * y[i]', 'y[i] * (g[i] - sum)'] : ['g[i]', 'g[i] - exponential(y[i]) * sum']
    return `
  var sum = 0.0;
  ${each(lanes, `sum += ${term};`)}
  sum = total(sum, thread);
  ${each(lanes, `gx[i] = ${result};`)}`
  })
}

function rows(
  name: Name,
  shape: Shape,
  reads: readonly string[],
  write: string,
  body: (lanes: number) => string,
): Plan {
  const len = shape[shape.length - 1]
  const count = sizeOf(shape.slice(0, -1))
  const lanes = lanesFor(len)
  const source: Source = {
    name,
    variant: [lanes],
    params: { rows: count, len },
    reads: Object.fromEntries(reads.map(buffer => [buffer, 'f32' as const])),
    writes: { [write]: 'f32' },
    workgroups: len === 0 ? 0 : ceilDiv(count, threads / lanes),
    threads,
    declarations: () => `${keepNaN}
${tree('highest', lanes, 'max(a, b)')}
${tree('total', lanes)}`,
    body: () => `${findRow(lanes)}${body(lanes)}`,
  }
  return { steps: [step(source)], scratch: {} }
}
