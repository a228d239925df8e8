/**
 * Trains the runs of training-runs.ts and writes their losses to docs/tour/figures/training.json, from which the figures of the
 * chapter on training are drawn. Needs Node. Run: npx tsx site/figures/record-training.ts, some minutes on one core.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../regions.ts'
import { type Curves, train, variants } from './training-runs.ts'

/** Steps of a recorded run. */
const steps = 600

const path = join(root, 'docs/tour/figures/training.json')
const short = (value: number) => Number(value.toPrecision(4))
const names = process.argv.slice(2)
const before = names.length > 0 ? JSON.parse(readFileSync(path, 'utf8')) : {}
const runs: Record<string, Curves> = {}
for (const [name, variant] of Object.entries(variants)) {
  if (names.length > 0 && !names.includes(name)) {
    runs[name] = before[name]
    continue
  }
  const start = performance.now()
  const { losses, measured } = await train(variant, steps)
  runs[name] = {
    losses: losses.map(short),
    measured: measured.map(({ step, train, heldOut, emaHeldOut }) => ({
      step,
      train: short(train),
      heldOut: short(heldOut),
      emaHeldOut: short(emaHeldOut),
    })),
  }
  const last = runs[name].measured.at(-1)!
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(`${name}: ${seconds} s, held out ${last.heldOut}, with averaged weights ${last.emaHeldOut}`)
}
writeFileSync(path, `${JSON.stringify(runs)}\n`)
