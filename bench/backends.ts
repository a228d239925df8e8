/**
 * One matrix product, 512³ in f32, every way that is possible here (product.ts): GFLOP/s, best of two seconds, and for the
 * relaxed build the fraction of the multiply-adds that as many threads can do (ceiling.ts). Run: npx tsx bench/backends.ts. It is the table of
 * docs/tour/5-backends.md.
 */

import { measureCeiling } from './ceiling.ts'
import { measure, ways } from './product.ts'
import { table } from './table.ts'

const ceilings: Readonly<Record<string, () => Promise<number>>> = {
  'wasm: SIMD with relaxed multiply-add': () => measureCeiling(),
  'the same on two threads': () => measureCeiling({ threads: 2 }),
}

const rows = [['', 'GFLOP/s', 'of the ceiling', 'device']]
for (const way of ways) {
  try {
    const { gflops, device } = await measure(way)
    const ceiling = await ceilings[way.name]?.()
    const share = ceiling === undefined ? '–' : `${((100 * gflops) / ceiling).toFixed(0)} %`
    rows.push([way.name, gflops.toPrecision(2 + Number(gflops >= 10)), share, device ?? ''])
  } catch (error) {
    rows.push([way.name, '–', '–', (error as Error).message])
  }
}
console.log(table(rows))
