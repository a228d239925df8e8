/**
 * One matrix product, 512³ in f32, wherever it can be computed here: GFLOP/s, best of some seconds, and for the
 * relaxed build the fraction of the multiply-adds that as many threads can do (ceiling.ts). Run: npx tsx bench/backends.ts. It is the table of
 * docs/tour/5-backends.md.
 */

import { type Backend, cpu, matmul, rng, scope } from '../core/index.ts'
import { measureCeiling } from './ceiling.ts'
import { table } from './table.ts'

const n = 512
const budget = 2000

/** GFLOP/s of the fastest product; reading one element back waits for it. */
async function measure(backend: Backend): Promise<number> {
  const [a, b] = [rng(1).normal([n, n], { backend }), rng(2).normal([n, n], { backend })]
  let best = Infinity
  for (const end = performance.now() + budget; performance.now() < end; ) {
    const start = performance.now()
    const y = scope(() => matmul(a, b))
    if (backend.readSync === undefined) await y.data()
    best = Math.min(best, performance.now() - start)
    y.dispose()
    await new Promise(resolve => setTimeout(resolve, 1)) // a turn for workers that are still starting
  }
  backend.dispose()
  return (2 * n ** 3) / best / 1e6
}

const { createWasm } = await import('../core/backends/wasm/index.ts')
const { gpu } = await import('../core/backends/gpu/index.ts')
const ways: readonly [what: string, open: () => Backend | Promise<Backend>, ceiling?: () => Promise<number>][] = [
  ['cpu: loops in JavaScript', () => cpu],
  ['gpu.js in its CPU mode', () => gpu({ device: 'cpu' })],
  ['wasm, SIMD', () => createWasm({ threads: 1, build: 'simd' })],
  ['wasm, SIMD with relaxed multiply-add', () => createWasm({ threads: 1 }), () => measureCeiling()],
  ['the same on two threads', () => createWasm({ threads: 2 }), () => measureCeiling({ threads: 2 })],
]

const rows = [['', 'GFLOP/s', 'of the ceiling']]
for (const [what, open, ceiling] of ways) {
  const speed = await measure(await open())
  const share = ceiling === undefined ? '–' : `${((100 * speed) / (await ceiling())).toFixed(0)} %`
  rows.push([what, speed.toFixed(1), share])
}
console.log(table(rows))
