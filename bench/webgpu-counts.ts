/**
 * `npx tsx bench/webgpu-counts.ts [--batch 8,256]`: what a training step asks of WebGPU, counted without a card: dispatches,
 * submits, bytes, and the milliseconds of JavaScript once it is compiled, with the device's calls and without any backend, for
 * DiT-S/2, MDT-S/2 and MDT-tiny.
 */

import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import type { Backend } from '../core/backend.ts'
import { gpu } from '../core/backends/gpu/index.ts'
import { createShapes } from '../core/backends/shapes.ts'
import { UserError } from '../io/user-error.ts'
import { GpuCounts, installCountingGpu } from './counting-gpu.ts'
import { median, table } from './table.ts'
import { ditStep, mdtStep, type Workload } from './workloads.ts'

const models: Readonly<Record<string, (backend: Backend, batch: number) => Workload>> = {
  'DiT-S/2': (backend, batch) => ditStep(backend, batch, 'S/2'),
  'MDT-S/2': (backend, batch) => mdtStep(backend, batch, 'S/2'),
  'MDT-tiny': (backend, batch) => mdtStep(backend, batch, 'tiny'),
}
const warmUps = 20
const repeats = 20
const shownKernels = 14

/** The median milliseconds of a step. */
function millisecondsOf({ run }: Workload): number {
  for (let i = 0; i < warmUps; i++) run()
  const ms = Array.from({ length: repeats }, () => {
    const start = performance.now()
    run()
    return performance.now() - start
  })
  return median(ms)
}

await main(async () => {
  const { batch } = readFlags({
    command: 'npx tsx bench/webgpu-counts.ts',
    about: 'Counts what a training step asks of WebGPU. Needs no card.',
    operands: {},
    flags: { batch: { type: 'text', value: 'N,N', default: '8,256', about: 'batches' } },
    examples: [['--batch 64', 'one batch']],
  })
  const batches = batch.split(',').map(Number)
  const wrong = batches.find(n => !(Number.isInteger(n) && n > 0))
  if (wrong !== undefined) throw new UserError(`--batch: expected positive integers, got '${batch}'`)
  const counts = new GpuCounts()
  installCountingGpu(counts)
  const backend = await gpu({ device: 'webgpu' })
  const rows = [
    [
      'step',
      'batch',
      'dispatches',
      'submits',
      'GB bound',
      'MB uploaded',
      'JavaScript ms',
      'without a backend',
      'µs a dispatch',
    ],
  ]
  const kernels: string[] = []
  for (const [name, make] of Object.entries(models))
    for (const N of batches) {
      const work = make(backend, N)
      const ms = millisecondsOf(work)
      counts.reset()
      work.run()
      const { dispatches, submits, bytes, uploaded } = counts
      const bare = millisecondsOf(make(createShapes({ fused: true }), N))
      const shown = [(bytes / 1e9).toFixed(2), (uploaded / 1e6).toFixed(2), ms.toFixed(1), bare.toFixed(1)]
      rows.push([name, `${N}`, `${dispatches}`, `${submits}`, ...shown, ((1000 * ms) / dispatches).toFixed(1)])
      if (N === batches[0]) kernels.push(`${name}, batch ${N}\n${kernelTable(counts)}`)
      work.dispose()
    }
  console.log(`${table(rows)}\n\n${kernels.join('\n\n')}`)
  backend.dispose()
})

/** The kernels with the most dispatches. */
function kernelTable({ kernels, dispatches, bytes: all }: GpuCounts): string {
  const most = [...kernels].sort(([, a], [, b]) => b.dispatches - a.dispatches)
  const rows = most.slice(0, shownKernels).map(([name, { dispatches: n, bytes }]) => {
    const shares = [n / dispatches, bytes / all].map(share => `${(100 * share).toFixed(1)} %`)
    return [name, `${n}`, ...shares]
  })
  return table([['kernel', 'dispatches', 'of all', 'of bytes'], ...rows])
}
