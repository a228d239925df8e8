/**
 * `npx tsx bench/ranks.ts [sum|step|memory]`: what several processes over MPI cost. `sum` is the sum of a model's gradients beside
 * a copy of as many floats; `step` is a training step on 2 ranks of one thread beside 1 process of two threads, in turns, each
 * round in new processes; `memory` is the largest model by number of ranks, counted, and checked at one point.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { findLauncher, launcherEnvironment } from '../cli/run-ranks.ts'
import { createShapes } from '../core/backends/shapes.ts'
import { UserError } from '../io/user-error.ts'
import { mdt } from '../models/index.ts'
import { newSettings } from '../training/index.ts'
import { median, table } from './table.ts'

const program = fileURLToPath(new URL('./ranks-process.ts', import.meta.url))

/** Settings of MDT-S/2 as `demask train mdt` has them. */
const preset = newSettings(mdt, { preset: 'S/2' })

/** Runs ranks-process.ts on some ranks, or without a launcher on none, and returns what it printed. */
function measured<T>(ranks: number, ...words: string[]): T {
  const node = [process.execPath, ...process.execArgv, program, ...words]
  const command = ranks === 0 ? node : [findLauncher(process.env.PATH), '-n', String(ranks), ...node]
  const env = { ...launcherEnvironment(ranks), ...process.env }
  const { stdout, stderr } = spawnSync(command[0], command.slice(1), { encoding: 'utf8', env })
  const line = /^result (.*)$/m.exec(stdout)?.[1]
  if (line === undefined) throw new UserError(`bench: expected a result of ${words.join(' ')}, got ${stderr}`)
  return JSON.parse(line)
}

interface Step {
  readonly ms: number
  readonly parameters: number
  readonly bytes: number
  readonly peakBytes: number
}

function sums(): void {
  const { floats, sum, least, copy, leastCopy } = measured<Record<string, number>>(2, 'sum', '1')
  const rows = [
    [`${(floats / 1e6).toFixed(1)} M floats, ms`, 'median', 'least'],
    ['sum over 2 ranks', sum.toFixed(1), least.toFixed(1)],
    ['copy', copy.toFixed(1), leastCopy.toFixed(1)],
  ]
  console.log(table(rows))
}

function steps(rounds: number, batch: number): void {
  const rows = [[`MDT-S/2, batch ${batch}, ms a step`, '2 ranks × 1 thread', '1 process × 2 threads', 'speed']]
  const ratios = Array.from({ length: rounds }, (_, round) => {
    const [ranks, threads] = [
      measured<Step>(2, 'step', '1', `${batch}`).ms,
      measured<Step>(0, 'step', '2', `${batch}`).ms,
    ]
    rows.push([`round ${round + 1}`, ranks.toFixed(0), threads.toFixed(0), (threads / ranks).toFixed(3)])
    return threads / ranks
  })
  console.log(`${table(rows)}\nmedian ${median(ratios).toFixed(3)} ×`)
}

/** Bytes of a rank that do not depend on the batch: weights, gradients, and its share of two moments and the average. */
const bytesOf = (parameters: number, ranks: number, shared: boolean) => 4 * parameters * (2 + 3 / (shared ? ranks : 1))
/** A wasm memory, less 256 MiB for activations, the buffers of sums and what fragments. */
const room = 2 ** 32 - 2 ** 28

function memory(): void {
  const settings = newSettings(mdt)
  const backend = createShapes()
  const sizes = mdt.presets.map(preset => {
    const options = mdt.options(preset, { inputSize: 32, inChannels: 4, numClasses: 1000 }, settings)
    const model = mdt.make(options, { rng: null, backend })
    const { total } = model.countParameters()
    model.dispose()
    return { preset, total }
  })
  const ranks = [1, 2, 4, 8, 16, 32, 64]
  const rows = [['ranks', 'largest model, M parameters', 'of MDT']]
  for (const n of ranks) {
    const most = room / bytesOf(1, n, true)
    const fit = sizes.filter(({ total }) => total <= most).sort((a, b) => b.total - a.total)
    rows.push([String(n), (most / 1e6).toFixed(0), fit.length === 0 ? '–' : fit[0].preset])
  }
  console.log(`${table(rows)}\n`)
  const checks = [['MDT-S/2, 2 ranks, MiB', 'counted', 'measured between steps and gradients']]
  for (const shared of [false, true]) {
    const { parameters, bytes } = measured<Step>(2, 'step', '1', `${preset.batch}`, ...(shared ? ['sharded'] : []))
    const counted = bytesOf(parameters, 2, shared)
    const found = bytes + 4 * parameters // gradients are freed after a step
    checks.push([shared ? '--shard-optimizer' : 'without', ...[counted, found].map(n => (n / 2 ** 20).toFixed(0))])
  }
  console.log(table(checks))
}

await main(() => {
  const { what, rounds, batch } = readFlags({
    command: 'npx tsx bench/ranks.ts',
    about: 'What several processes over MPI cost.',
    operands: { what: { about: 'which figures (default all)', choices: ['sum', 'step', 'memory'], optional: true } },
    flags: {
      rounds: { type: 'integer', min: 1, default: 5, about: 'rounds of steps in turns' },
      batch: { type: 'integer', min: 2, default: preset.batch, about: 'pictures of a step, an even number' },
    },
    examples: [['sum', 'the sum of gradients alone']],
  })
  if (what === undefined || what === 'sum') sums()
  if (what === undefined || what === 'step') steps(rounds, batch)
  if (what === undefined || what === 'memory') memory()
})
