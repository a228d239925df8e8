/**
 * The ops that a transformer's time goes into, in the shapes of MDT-S/2 (width 384, 6 heads, 64 tokens), timed by benny:
 * minimum and median, and what that is in GFLOP/s or, for ops that wait for memory, GB/s. One case is one op forward
 * unless it says otherwise.
 */

import { add, cycle, suite } from 'benny'
import {
  type Backend,
  geluTanh,
  layerNorm,
  linear,
  matmul,
  rng,
  type Shape,
  scope,
  selfAttention,
  softmax,
} from '../core/index.ts'
import { table } from './table.ts'
import { adamW, ditBlock, productFlops } from './workloads.ts'

interface Case {
  readonly name: string
  /** Cost of one run: floating-point operations, or bytes read and written. */
  readonly flops?: number
  readonly bytes?: number
  run(): void
}

function cases(backend: Backend): Case[] {
  const random = rng(1)
  const sampleNormal = (...shape: Shape) => random.normal(shape, { backend })
  const [square, x, w, rows, scores, wide, qkv, bias] = [
    sampleNormal(512, 512),
    sampleNormal(512, 384),
    sampleNormal(1536, 384),
    sampleNormal(4096, 384),
    sampleNormal(3072, 64),
    sampleNormal(2 ** 22),
    sampleNormal(8, 64, 3 * 384),
    sampleNormal(6, 64, 64),
  ]
  const adam = adamW(backend, 33 * 10 ** 6)
  const block = ditBlock(backend)
  return [
    { name: 'matmul 512³', flops: 2 * 512 ** 3, run: () => matmul(square, square) },
    { name: 'linear 512×384 → 1536', flops: 2 * 512 * 384 * 1536, run: () => linear(x, w) },
    { name: 'layer norm 4096×384', bytes: 8 * rows.size, run: () => layerNorm(rows, null, null, 1e-6) },
    { name: 'softmax 3072×64', bytes: 8 * scores.size, run: () => softmax(scores) },
    { name: 'gelu (tanh) 4M', bytes: 8 * wide.size, run: () => geluTanh(wide) },
    { name: 'attention 8×64, 6 heads, bias', flops: 4 * 8 * 64 * 64 * 384, run: () => selfAttention(qkv, bias, 6) },
    { name: adam.name, bytes: adam.parts[0].bytes, run: adam.run },
    { name: block.name, flops: productFlops(block), run: block.run },
  ]
}

/** Runs all cases and prints their table. */
export async function micro(backend: Backend): Promise<void> {
  const all = cases(backend)
  const summary = await suite(
    `micro-benchmarks on ${backend.name}`,
    // In braces: a scope keeps what its function returns.
    ...all.map(({ name, run }) => add(name, () => scope(() => void run()), { minSamples: 10, maxTime: 1 })),
    cycle(),
  )
  const rows = summary.results.map(({ name, details }) => {
    const { flops, bytes } = all.find(each => each.name === name)!
    const rate =
      flops !== undefined ? `${perSecond(flops, details.min)} GFLOP/s` : `${perSecond(bytes!, details.min)} GB/s`
    return [name, milliseconds(details.min), milliseconds(details.median), rate]
  })
  console.log(`\n${table([['', 'min ms', 'median ms', 'at best'], ...rows])}`)
}

const milliseconds = (seconds: number) => (1e3 * seconds).toFixed(3)
const perSecond = (amount: number, seconds: number) => (amount / seconds / 1e9).toFixed(1)
