/**
 * `npm run profile -- TARGET [--threads N] [--repeats N]`: where the time of a workload goes. Per op: calls, milliseconds,
 * GFLOP/s and the fraction of the multiply-adds this machine can do, or for ops that are no products GB/s and the
 * fraction of the memory bandwidth, both ceilings measured in the same run. Targets: step (DiT-S/2), mdt, mdtv2,
 * maskdit, maskdm, autoencoder, dit-block, sample. What happens between ops, in JavaScript, is the last row.
 * `npm run profile -- products TARGET`: the same for every distinct product of a step (products.ts).
 */

import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { type Backend, profile, ready, scope } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { measureBandwidth } from './bandwidth.ts'
import { measureCeiling } from './ceiling.ts'
import { productsOf, productTable } from './products.ts'
import { table } from './table.ts'
import {
  autoencoderStep,
  ditBlock,
  ditStep,
  maskditStep,
  maskdmStep,
  mdtStep,
  mdtV2Step,
  productFlops,
  productOps,
  samplingStep,
  type Workload,
} from './workloads.ts'

const targets = {
  step: ditStep,
  mdt: mdtStep,
  mdtv2: mdtV2Step,
  maskdit: maskditStep,
  maskdm: maskdmStep,
  autoencoder: autoencoderStep,
  'dit-block': ditBlock,
  sample: samplingStep,
} satisfies Record<string, (backend: Backend) => Workload>
type Target = keyof typeof targets

interface Row {
  readonly name: string
  calls: number
  ms: number
  /** Of products only. */
  flops: number
  bytes: number
}

/** Rows of one run of a workload, averaged over `repeats`, slowest first; the last one is what no row accounts for. */
function measure({ parts, run }: Workload, repeats: number): { readonly rows: Row[]; readonly ms: number } {
  const rows = new Map<string, Row>()
  const count = (name: string, calls: number, ms: number, flops: number, bytes: number) => {
    const row = rows.get(name) ?? { name, calls: 0, ms: 0, flops: 0, bytes: 0 }
    row.calls += calls / repeats
    row.ms += ms / repeats
    row.flops += flops / repeats
    row.bytes += bytes / repeats
    rows.set(name, row)
  }
  const timed = (fn: () => void) => {
    const start = performance.now()
    fn()
    return performance.now() - start
  }
  run() // compiles, and makes the optimizer's state
  let total = 0
  for (let i = 0; i < repeats; i++)
    total += timed(() =>
      scope(() => {
        for (const part of parts) {
          let inOps = 0
          const ms = timed(() => {
            for (const { op, calls, ms, flops, bytes } of profile(part.run)) {
              inOps += ms
              count(op, calls, ms, productOps.has(op) ? flops : 0, op === 'reshape' ? 0 : bytes)
            }
          })
          // A pass over memory that is no op: all of its time that no op took.
          if (part.bytes !== undefined) count(part.name, 1, ms - inOps, 0, part.bytes)
        }
      }),
    )
  const sorted = [...rows.values()].sort((a, b) => b.ms - a.ms)
  const ms = total / repeats
  const rest = ms - sorted.reduce((sum, row) => sum + row.ms, 0)
  return { rows: [...sorted, { name: 'between ops', calls: 0, ms: rest, flops: 0, bytes: 0 }], ms }
}

/** One line of the table; `ceiling` in GFLOP/s, `bandwidth` in GB/s. */
function cells({ name, calls, ms, flops, bytes }: Row, total: number, ceiling: number, bandwidth: number): string[] {
  const [rate, limit, unit] = flops > 0 ? [flops, ceiling, 'GFLOP/s'] : [bytes, bandwidth, 'GB/s']
  const perSecond = rate / ms / 1e6
  const known = rate > 0
  return [
    name,
    calls > 0 ? String(Math.round(calls)) : '',
    ms.toFixed(2),
    `${((100 * ms) / total).toFixed(1)} %`,
    known ? `${perSecond.toFixed(1)} ${unit.padEnd(7)}` : '',
    known ? `${((100 * perSecond) / limit).toFixed(0)} %` : '',
  ]
}

await main(async () => {
  const {
    first = 'step',
    model,
    threads,
    repeats,
  } = readFlags({
    command: 'npm run profile --',
    about: 'Where the time of a step goes, op by op.',
    operands: {
      first: {
        about: "of what; the step of DiT-S/2 where there is none; 'products' for the products of MODEL",
        choices: ['products', ...Object.keys(targets)] as ('products' | Target)[],
        optional: true,
      },
      model: {
        about: "after 'products': the step of DiT-S/2 where there is none",
        choices: Object.keys(targets) as Target[],
        optional: true,
      },
    },
    flags: {
      threads: { type: 'integer', min: 1, default: 1, about: 'threads of the wasm backend' },
      repeats: { type: 'integer', min: 1, default: 3, about: 'steps that the figures are means of' },
    },
    examples: [
      ['step', 'a training step of DiT-S/2'],
      ['mdt --threads 2', 'both passes of MDT-S/2, on two threads'],
      ['products mdt', 'every distinct product of a step of MDT-S/2'],
    ],
  })
  if (first !== 'products' && model !== undefined)
    throw new UserError(`profile: expected one target, got '${first}' and '${model}'`)
  const target = first === 'products' ? (model ?? 'step') : first
  const ceiling = await measureCeiling({ threads })
  const backend = await ready({ backend: 'wasm', threads })
  const bandwidth = await measureBandwidth(backend)
  const workload = targets[target](backend)
  const ceilings = `${ceiling.toFixed(1)} GFLOP/s of multiply-adds, ${bandwidth.toFixed(1)} GB/s of memory`
  if (first === 'products') {
    console.log(`${workload.name}, ${threads} thread${threads > 1 ? 's' : ''}, ceilings of this run: ${ceilings}\n`)
    console.log(productTable(productsOf(workload, repeats), ceiling))
  } else {
    const { rows, ms } = measure(workload, repeats)
    const heads = ['', 'calls', 'ms', 'share', '', 'of the ceiling']
    const flops = productFlops(workload)
    console.log(
      `${workload.name}, ${threads} thread${threads > 1 ? 's' : ''}: ${ms.toFixed(1)} ms, ${(flops / 1e9).toFixed(1)} GFLOP in products, ` +
        `${(flops / ms / 1e6).toFixed(1)} GFLOP/s, ${((100 * flops) / ms / 1e6 / ceiling).toFixed(0)} % of the ceiling`,
    )
    console.log(`ceilings of this run: ${ceilings}`)
    console.log('GB/s counts operands and results once each; above 100 % they came from the cache\n')
    console.log(table([heads, ...rows.map(row => cells(row, ms, ceiling, bandwidth))]))
  }
  const { fallbacks } = backend.stats()
  if (fallbacks > 0) console.log(`\n${fallbacks} kernels ran as plain loops`)
  workload.dispose()
  backend.dispose()
})
