/**
 * Self-attention in one dispatch, without a matrix of scores: each row of queries goes along the keys, a group at a time,
 * with the largest score so far, the sum of exponentials and the weighed sum of values, which are scaled down when a
 * larger score comes up [FlashAttention §3.1]. No limit on T. Read rows-of-heads.ts first; next: attention-grad.ts.
 */

import { ceilDiv, type Shape } from '../../../../shape.ts'
import type { Plan } from '../../program.ts'
import {
  addRows,
  dots,
  each,
  elementOf,
  fill,
  fourOf,
  hold,
  memoryOf,
  place,
  put,
  rows,
  type Spread,
  spreadOf,
  variantOf,
  zeros,
} from './rows-of-heads.ts'
import { float, step } from './shader.ts'
import { keepNaN } from './tree.ts'

/** An invocation holds a query and a result: 16 fours of each at most. */
const most = 16
const group = 4

/** How a bias is shared: not there, by all pictures (h, T, T), or by none (N, h, T, T). */
export type BiasKind = 'none' | 'shared' | 'own'

export interface Heads {
  readonly N: number
  readonly T: number
  readonly D: number
  readonly d: number
  readonly blocks: number
  readonly kind: BiasKind
}

export function headsOf([N, T, width]: Shape, bias: Shape | null, heads: number): Heads {
  const D = width / 3
  const kind = bias === null ? 'none' : bias.length === 4 ? 'own' : 'shared'
  return { N, T, D, d: D / heads, blocks: ceilDiv(T, rows), kind }
}

export function headParams({ T, D, d, blocks }: Heads): Record<string, number | { float: number }> {
  return { T, D, heads: D / d, blocks, scale: float(1 / Math.sqrt(d)), nothing: float(-Infinity) }
}

/** WGSL: which head of which picture, and the row `i` of an invocation. qkv of row j begins at tokens + j · 3D. */
export function locate(kind: BiasKind): string {
  return `${place}
  let block = group % params.blocks;
  let above = group / params.blocks;
  let head = above % params.heads;
  let picture = above / params.heads;
  let i = block * ${rows}u + own;
  let tokens = picture * params.T * 3u * params.D + head * (params.D / params.heads);
  let results = picture * params.T * params.D + head * (params.D / params.heads);
${kind === 'none' ? '' : `  let biased = ${kind === 'own' ? 'above' : 'head'} * params.T * params.T;`}`
}

/** WGSL: the scores of the invocation's query with a group of keys from `j` on, from its products with them. */
export function scores(kind: BiasKind, group: number): string {
  return each(group, g => {
    const bias = `bias[biased + min(i, params.T - 1u) * params.T + min(j + ${g}u, params.T - 1u)]`
    const score = kind === 'none' ? `s${g}` : `s${g} + ${bias}`
    return `      s${g} = select(params.nothing, ${score}, j + ${g}u < params.T);`
  })
}

/** WGSL: `top`, `shrink` and the exponentials `p0`, … of a group of scores. */
export function onlineSoftmaxStep(group: number): string {
  const highest = Array.from({ length: group }, (_, g) => `s${g}`).reduce((a, b) => `max(${a}, ${b})`, 'top')
  return `      let before = top;
      top = ${highest};
      let shrink = exp(before - top);
${each(group, g => `      let p${g} = exponential(s${g} - top);`)}
      sum = sum * shrink + ${Array.from({ length: group }, (_, g) => `p${g}`).join(' + ')};`
}

/** WGSL: runs `body` for groups of rows `j` = first + r, … of each tile. */
export function alongTiles(filled: string, body: string, { tile, group }: Spread): string {
  return `  for (var first = 0u; first < params.T; first += ${tile}u) {
${filled}
    let count = min(${tile}u, params.T - first);
    for (var r = 0u; r < count; r += ${group}u) {
      let j = first + r;
${body}
    }
    workgroupBarrier();
  }`
}

/** WGSL: keys and values of the head, as the tile's two vectors. */
export function keysAndValues(spread: Spread): string {
  const at = (part: number) => ['qkv', `tokens + row * 3u * params.D + ${part}u * params.D`] as const
  return fill('first', at(1), at(2), spread)
}

/** Whether heads of d elements are for these shaders: of larger ones an invocation would hold too much. */
export function fits(d: number): boolean {
  return d <= 128
}

/** qkv, and bias where there is one → y. */
export function selfAttentionPlan(qkv: Shape, bias: Shape | null, heads: number): Plan {
  const layout = headsOf(qkv, bias, heads)
  const { N, d, blocks, kind } = layout
  const spread = spreadOf(d, most, 1, group)!
  const element = elementOf(spread)
  const attention = step({
    name: 'attention',
    variant: [...variantOf(spread), kind],
    params: headParams(layout),
    reads: { qkv: element, ...(kind === 'none' ? {} : { bias: 'f32' }) },
    writes: { y: element },
    workgroups: N * heads * blocks,
    threads: spread.threads,
    declarations: () => `${keepNaN}\n${fourOf('qkv', spread)}\n${memoryOf(spread, 1)}`,
    body: () => `${locate(kind)}
${hold('q', 'qkv', 'tokens + i * 3u * params.D', 'i < params.T', spread, 'params.scale')}
${zeros('o', spread)}
  var top = lowest;
  var sum = 0.0;
${alongTiles(
  keysAndValues(spread),
  `${dots(spread, [['q', 'one', 's']])}
${scores(kind, group)}
${onlineSoftmaxStep(group)}
${addRows('o', 'two', 'p', spread, 'shrink')}`,
  spread,
)}
  if (i < params.T) {
    let inverse = 1.0 / sum;
${put('o', 'y', '(results + i * params.D)', 'inverse', spread)}
  }`,
  })
  return { steps: [attention], scratch: {} }
}
