/**
 * Plans of matrix products: tiles, and ranges of k. A workgroup computes one tile (tile.ts). If tiles are few and k is
 * long, several workgroups share a tile, each with a range of k, and a reduction adds their results in a fixed order.
 */

import { broadcastStrides, ceilDiv, collapseAxes, type Shape, sizeOf } from '../../../../shape.ts'
import type { Plan, Step } from '../../program.ts'
import { reduceSteps } from './reduce.ts'
import { step } from './shader.ts'
import { type Axis, multiply, type Operand, type Tile, threadsOf } from './tile.ts'
import { threads } from './tree.ts'

/** Tiles for large products, for products with few large tiles, for few rows, and for few columns. */
const tiles = {
  large: { name: 'large', rows: 128, columns: 128, depth: 8, down: 8, across: 8 },
  middle: { name: 'middle', rows: 64, columns: 64, depth: 8, down: 8, across: 8 },
  flat: { name: 'flat', rows: 16, columns: 64, depth: 16, down: 4, across: 4 },
  tall: { name: 'tall', rows: 64, columns: 16, depth: 16, down: 4, across: 4 },
} satisfies Record<string, Tile>

/** Least number of large tiles to use them, and of workgroups below which ranges of k are split. */
const enoughLarge = 192
const enough = 512
/** Shortest range of k, and most ranges. */
const leastDepth = 256
const mostRanges = 16

/** Products of one call: (M, K) × (K, N) for each index of `axes`. */
interface Products {
  readonly M: number
  readonly N: number
  readonly K: number
  readonly axes: readonly Axis[]
  readonly transposeA: boolean
  readonly transposeB: boolean
  readonly bias: boolean
  /** Also sums the rows of a over k, into `sums`. */
  readonly rowSums: boolean
}

/** a, b → out: the kernel `matmul` for K ≥ 1. */
export function matmulPlan(a: Shape, b: Shape, transposeA: boolean, transposeB: boolean, out: Shape): Plan {
  const [M, N] = out.slice(-2)
  const K = a[a.length - (transposeA ? 2 : 1)]
  const axes = batchAxes(a, b, out.slice(0, -2))
  const products = { N, K, transposeA, transposeB, bias: false, rowSums: false }
  // With one b for all, the matrices of a are one matrix.
  if (axes.length === 1 && axes[0].stepB === 0 && axes[0].stepA === M * K && !transposeA)
    return planOf({ ...products, M: axes[0].size * M, axes: [] })
  return planOf({ ...products, M, axes })
}

/** x, w → y, or x, w, b → y with a bias: the kernel `linear` for I ≥ 1. */
export function linearPlan(x: Shape, [O, I]: Shape, bias: boolean): Plan {
  const M = sizeOf(x.slice(0, -1))
  const products = { M, N: O, K: I, axes: [], transposeA: false, transposeB: true, bias, rowSums: false }
  return renamed(planOf(products), { a: 'x', b: 'w', bias: 'b', out: 'y' })
}

/** g, x → gw, gb: the kernel `linearWeightGrad` for R ≥ 1. */
export function weightGradPlan([R, O]: Shape, I: number): Plan {
  const products = { M: O, N: I, K: R, axes: [], transposeA: true, transposeB: false, bias: false, rowSums: true }
  return renamed(planOf(products), { a: 'g', b: 'x', out: 'gw', sums: 'gb' })
}

/** The same plan with other names for some buffers. */
function renamed(plan: Plan, names: Readonly<Record<string, string>>): Plan {
  return { ...plan, steps: plan.steps.map(s => ({ ...s, buffers: s.buffers.map(name => names[name] ?? name) })) }
}

/** Leading axes with the steps of both operands, in elements. */
function batchAxes(a: Shape, b: Shape, batch: Shape): Axis[] {
  const steps = [a, b].map(shape => {
    const size = sizeOf(shape.slice(-2))
    return broadcastStrides(shape.slice(0, -2), batch).map(s => s * size)
  })
  const { extents, strides } = collapseAxes(batch, steps)
  return extents.map((size, i) => ({ size, stepA: strides[0][i], stepB: strides[1][i] }))
}

function planOf({ M, N, K, axes, transposeA, transposeB, bias, rowSums }: Products): Plan {
  const batch = axes.reduce((n, { size }) => n * size, 1)
  const tile = tileFor(M, N, batch)
  const [tilesM, tilesN] = [ceilDiv(M, tile.rows), ceilDiv(N, tile.columns)]
  const count = tilesM * tilesN * batch
  const wanted = Math.min(Math.floor(enough / Math.max(count, 1)), Math.floor(K / leastDepth), mostRanges)
  const range = ceilDiv(ceilDiv(K, Math.max(wanted, 1)), tile.depth) * tile.depth
  const ranges = ceilDiv(K, range)

  // Operands that lie along a tile are read four elements at once if their rows are multiples of four long.
  const a: Operand = { along: transposeA ? 'tile' : 'k', wide: transposeA && M % 4 === 0 }
  const b: Operand = { along: transposeB ? 'k' : 'tile', wide: !transposeB && N % 4 === 0 }
  const product = step(
    {
      name: 'matmul',
      variant: [tile.name, transposeA, transposeB, a.wide, b.wide, N % 4 === 0, bias, axes.length, rowSums],
      params: {
        M,
        N,
        K,
        tilesN,
        tiles: tilesM * tilesN,
        range,
        ranges,
        products: batch,
        ...Object.fromEntries(
          axes.flatMap(({ size, stepA, stepB }, i) => [
            [`size${i}`, size],
            [`stepA${i}`, stepA],
            [`stepB${i}`, stepB],
          ]),
        ),
      },
      reads: { a: a.wide ? 'vec4f' : 'f32', b: b.wide ? 'vec4f' : 'f32', ...(bias ? { bias: 'f32' } : {}) },
      writes: { out: N % 4 === 0 ? 'vec4f' : 'f32', ...(rowSums ? { sums: 'f32' } : {}) },
      workgroups: count * ranges,
      threads: threadsOf(tile),
      ...multiply({ tile, a, b, axes: axes.length, bias, wideOut: N % 4 === 0, rowSums }),
    },
    ranges > 1 ? { out: 'ranges', sums: 'sumRanges' } : {},
  )
  if (ranges === 1) return { steps: [product], scratch: {} }
  if (rowSums) {
    const scratch = { ranges: ranges * M * N, sumRanges: ranges * M }
    return { steps: [product, addRanges(ranges, M * N, M)], scratch }
  }
  const scratch: Record<string, number> = { ranges: ranges * batch * M * N }
  return { steps: [product, ...reduceSteps('sum', [1, ranges, batch * M * N], 'ranges', 'out', scratch)], scratch }
}

/** ranges, sumRanges → out, sums: both over the ranges, in one dispatch. */
function addRanges(ranges: number, products: number, sums: number): Step {
  const added = (from: string, to: string, size: string, at: string) => `
    var total = 0.0;
    for (var part = 0u; part < params.ranges; part++) { total += ${from}[part * params.${size} + ${at}]; }
    ${to}[${at}] = total;`
  return step({
    name: 'addRanges',
    variant: [],
    params: { ranges, products, sums },
    reads: { ranges: 'f32', sumRanges: 'f32' },
    writes: { out: 'f32', sums: 'f32' },
    workgroups: ceilDiv(products + sums, threads),
    threads,
    body: () => `
  let i = group * ${threads}u + thread;
  if (i < params.products) {${added('ranges', 'out', 'products', 'i')}
  } else if (i < params.products + params.sums) {
    let row = i - params.products;${added('sumRanges', 'sums', 'sums', 'row')}
  }`,
  })
}

function tileFor(M: number, N: number, batch: number): Tile {
  if (M <= tiles.flat.rows) return tiles.flat
  if (N <= tiles.tall.columns) return tiles.tall
  const large = ceilDiv(M, tiles.large.rows) * ceilDiv(N, tiles.large.columns) * batch
  // A large tile must not lie mostly outside the matrix.
  return large >= enoughLarge && Math.min(M, N) > tiles.middle.rows ? tiles.large : tiles.middle
}
