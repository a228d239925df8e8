/**
 * Self-attention in one dispatch, without a matrix of scores. Each query loops over groups of keys and keeps the
 * largest score, the sum of exponentials and the weighted sum of values, rescaled when a larger score appears
 * [FlashAttention §3.1]. T is not limited. rows-of-heads.ts has the layout.
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

/** A thread holds a query and a result, of at most 16 fours each. */
const most = 16
const group = 4

/** No bias, one shared by all images (h, T, T), or one per image (N, h, T, T). */
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

/** WGSL: the image, head and row `i` of a thread. qkv of row j begins at tokens + j · 3D. */
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

/** WGSL: scores of the thread's query with the group of keys from `j` on, from their products. */
export function scores(kind: BiasKind, group: number): string {
  return each(group, g => {
    const bias = `bias[biased + min(i, params.T - 1u) * params.T + min(j + ${g}u, params.T - 1u)]`
    const score = kind === 'none' ? `s${g}` : `s${g} + ${bias}`
    return `      s${g} = select(params.nothing, ${score}, j + ${g}u < params.T);`
  })
}

/** WGSL: updates `top` and `sum` with a group of scores; defines `shrink` and the exponentials `p0`, … */
export function onlineSoftmaxStep(group: number): string {
  const highest = Array.from({ length: group }, (_, g) => `s${g}`).reduce((a, b) => `max(${a}, ${b})`, 'top')
  return `      let before = top;
      top = ${highest};
      let shrink = exp(before - top);
${each(group, g => `      let p${g} = exponential(s${g} - top);`)}
      sum = sum * shrink + ${Array.from({ length: group }, (_, g) => `p${g}`).join(' + ')};`
}

/** WGSL: runs `body` for each group of rows `j` = first + r, … of each tile. */
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

/** WGSL: loads keys and values of the head as the tile's two vectors. */
export function keysAndValues(spread: Spread): string {
  const at = (part: number) => ['qkv', `tokens + row * 3u * params.D + ${part}u * params.D`] as const
  return fill('first', at(1), at(2), spread)
}

/** True if these shaders take heads of d elements; larger ones exceed the registers of a thread. */
export function fits(d: number): boolean {
  return d <= 128
}

/** qkv → y; with a bias, qkv, bias → y. */
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
