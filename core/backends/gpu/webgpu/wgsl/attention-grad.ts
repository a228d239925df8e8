/**
 * Gradient of self-attention. Scores are recomputed, not stored. With P the probabilities, g the gradient of the result
 * and gP = g vᵀ, the gradient of the scores is S = P ⊙ (gP − Δ), Δ = Σ_j P gP per query. Then gq = S k, gk = Sᵀ q, gv =
 * Pᵀ g, and the gradient of the bias is S, summed over the images that share it. The first dispatch owns queries: it
 * computes gq and stores each query's softmax statistics. The second owns keys. The third, with a bias, owns scores.
 * [FlashAttention §B.4]
 */

import { ceilDiv, type Shape } from '../../../../shape.ts'
import type { Plan, Step } from '../../program.ts'
import {
  alongTiles,
  type Heads,
  headParams,
  headsOf,
  keysAndValues,
  locate,
  onlineSoftmaxStep,
  scores,
} from './attention.ts'
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
import { step } from './shader.ts'
import { keepNaN } from './tree.ts'

/** A thread holds up to four vectors, of at most 9 fours each. */
const most = 9
const group = 4
/** Keys that a workgroup of the bias' gradient owns beside its rows of queries; the second value is for wide heads. */
const columnsWanted = [8, 4]

/** g, qkv → gqkv; with a bias, g, qkv, bias → gqkv, gbias. */
export function selfAttentionGradPlan(qkv: Shape, bias: Shape | null, heads: number): Plan {
  const layout = headsOf(qkv, bias, heads)
  const { N, T, d, kind } = layout
  const spread = spreadOf(d, most, 2, group)!
  const steps = [queries(layout, spread), keys(layout, spread)]
  if (kind !== 'none') {
    const narrow = columnsWanted.map(columns => spreadOf(d, most, 2, columns)).find(found => found !== null)!
    steps.push(biases(layout, { ...narrow, tile: narrow.group }))
  }
  return { steps, scratch: { softmaxes: 4 * N * heads * T } }
}

/** Source that the three dispatches share. */
function source({ N, T, D, d, blocks, kind }: Heads, spread: Spread) {
  const layout = { N, T, D, d, blocks, kind }
  const element = elementOf(spread)
  return {
    variant: [...variantOf(spread), kind],
    params: headParams(layout),
    reads: { g: element, qkv: element, ...(kind === 'none' ? {} : { bias: 'f32' as const }) },
    workgroups: N * (D / d) * blocks,
    threads: spread.threads,
    declarations: () => `${keepNaN}\n${fourOf('qkv', spread)}\n${fourOf('g', spread)}\n${memoryOf(spread, 2)}`,
  }
}

const query = (
  spread: Spread,
) => `${hold('q', 'qkv', 'tokens + i * 3u * params.D', 'i < params.T', spread, 'params.scale')}
${hold('g', 'g', 'results + i * params.D', 'i < params.T', spread)}`

const sumOf = (n: number, term: (g: number) => string) => Array.from({ length: n }, (_, g) => term(g)).join(' + ')

/** gq, and per query (top, 1/sum, Δ): largest score, reciprocal of the sum of exponentials, Δ. */
function queries(layout: Heads, spread: Spread): Step {
  const { kind } = layout
  const products = dots(spread, [
    ['q', 'one', 's'],
    ['g', 'two', 'gp'],
  ])
  return step({
    name: 'attentionGradQueries',
    ...source(layout, spread),
    writes: { gqkv: elementOf(spread), softmaxes: 'vec4f' },
    body: () => `${locate(kind)}
${query(spread)}
  var top = lowest;
  var sum = 0.0;
  var delta = 0.0;
${alongTiles(
  keysAndValues(spread),
  `${products}
${scores(kind, group)}
${onlineSoftmaxStep(group)}
      delta = delta * shrink + ${sumOf(group, g => `p${g} * gp${g}`)};`,
  spread,
)}
  let inverse = 1.0 / sum;
  delta *= inverse;
${zeros('gq', spread)}
${alongTiles(
  keysAndValues(spread),
  `${products}
${scores(kind, group)}
${each(group, g => `      let gs${g} = exponential(s${g} - top) * inverse * (gp${g} - delta);`)}
${addRows('gq', 'one', 'gs', spread)}`,
  spread,
)}
  if (i < params.T) {
    if (lane == 0u) { softmaxes[above * params.T + i] = vec4f(top, inverse, delta, 0.0); }
${put('gq', 'gqkv', '(tokens + i * 3u * params.D)', 'params.scale', spread)}
  }`,
  })
}

/** gk and gv: `i` is a key and `j` runs over queries. */
function keys(layout: Heads, spread: Spread): Step {
  const { kind } = layout
  const { reads, ...rest } = source(layout, spread)
  const bias = (g: number) => `bias[biased + min(j + ${g}u, params.T - 1u) * params.T + min(i, params.T - 1u)]`
  const filled = fill('first', ['qkv', 'tokens + row * 3u * params.D'], ['g', 'results + row * params.D'], spread)
  const at = (part: number) => `tokens + i * 3u * params.D + ${part}u * params.D`
  return step({
    name: 'attentionGradKeys',
    ...rest,
    reads: { ...reads, softmaxes: 'vec4f' },
    writes: { gqkv: elementOf(spread) },
    body: () => `${locate(kind)}
${hold('k', 'qkv', at(1), 'i < params.T', spread, 'params.scale')}
${hold('v', 'qkv', at(2), 'i < params.T', spread)}
${zeros('gk', spread)}
${zeros('gv', spread)}
${alongTiles(
  filled,
  `${dots(spread, [
    ['k', 'one', 's'],
    ['v', 'two', 'gp'],
  ])}
${each(
  group,
  g => `      let soft${g} = softmaxes[above * params.T + min(j + ${g}u, params.T - 1u)];
      s${g} = select(params.nothing, s${g}${kind === 'none' ? '' : ` + ${bias(g)}`}, j + ${g}u < params.T);
      let p${g} = exponential(s${g} - soft${g}.x) * soft${g}.y;
      let gs${g} = p${g} * (gp${g} - soft${g}.z);`,
)}
${addRows('gk', 'one', 'gs', spread)}
${addRows('gv', 'two', 'p', spread)}`,
  spread,
)}
  if (i < params.T) {
${put('gk', 'gqkv', `(${at(1)})`, 'params.scale', spread)}
${put('gv', 'gqkv', `(${at(2)})`, '1.0', spread)}
  }`,
  })
}

/** gbias: a workgroup owns 64 queries × a tile of keys of a head and loops over the images that share them. */
function biases(layout: Heads, spread: Spread): Step {
  const { N, T, D, d, blocks, kind } = layout
  const own = kind === 'own'
  const { reads, params, ...rest } = source(layout, spread)
  const columns = spread.tile
  const across = ceilDiv(T, columns)
  const at = (part: number) => ['qkv', `tokens + row * 3u * params.D + ${part}u * params.D`] as const
  return step({
    name: 'attentionGradBias',
    ...rest,
    params: { ...params, across, sharers: own ? 1 : N },
    reads: { ...reads, softmaxes: 'vec4f' },
    writes: { gbias: 'f32' },
    workgroups: (own ? N : 1) * (D / d) * blocks * across,
    body: () => `${place}
  let first = group % params.across * ${columns}u;
  let rest = group / params.across;
  let i = rest % params.blocks * ${rows}u + own;
  let matrix = rest / params.blocks;
  let head = matrix % params.heads;
  let biased = matrix * params.T * params.T;
  let j = first;
  let r = 0u;
${each(columns, g => `  var total${g} = 0.0;`)}
  for (var n = 0u; n < params.sharers; n++) {
    let picture = matrix / params.heads + n;
    let tokens = picture * params.T * 3u * params.D + head * (params.D / params.heads);
    let results = picture * params.T * params.D + head * (params.D / params.heads);
${fill('first', at(1), at(2), spread)}
${query(spread)}
    let soft = softmaxes[(picture * params.heads + head) * params.T + min(i, params.T - 1u)];
    {
${dots(spread, [
  ['q', 'one', 's'],
  ['g', 'two', 'gp'],
])}
${scores(kind, columns)}
${each(columns, g => `      total${g} += exponential(s${g} - soft.x) * soft.y * (gp${g} - soft.z);`)}
    }
    workgroupBarrier();
  }
  if (i < params.T && lane == 0u) {
${each(columns, g => `    if (j + ${g}u < params.T) { gbias[biased + i * params.T + j + ${g}u] = total${g}; }`)}
  }`,
  })
}
