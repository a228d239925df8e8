/**
 * `npm run bench [-- --record] [-- --quick]`: everything that says how fast demask is on this machine, some minutes in
 * all: ops by benny (micro.ts), ops and steps of all models on one thread and two (full.ts), masked steps against full ones
 * (masking.ts). `npm run bench -- micro`, `full` and `masking` are its parts; `step`, `checkpoint` and `memory` tell more
 * about MDT-S/2: its memory, what checkpointing its blocks saves, what each model needs; `growth` whether memory stays flat
 * while models train; `conv` how fast convolutions are; `savings` bounds what two things that are not done could save.
 * `--backend gpu` is about a GPU (gpu.ts).
 * For quiet figures leave the machine alone meanwhile; `--quick` times every step once, to see that all is well.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Backend, backendNames, ready } from '../core/index.ts'
import { main, UserError } from '../diffusion/training/index.ts'
import { checkpointing } from './checkpoint.ts'
import { conv } from './conv.ts'
import { full } from './full.ts'
import { gpuBench } from './gpu.ts'
import { growth } from './growth.ts'
import { memory } from './memory.ts'
import { micro } from './micro.ts'
import { keep, machineNow, warnOfLoad } from './record.ts'
import { savings } from './savings.ts'
import { step } from './step.ts'

/** On one thread, so that figures compare between machines. */
const alone = (bench: (backend: Backend) => Promise<void> | void) => async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  await bench(backend)
  backend.dispose()
}

/** The comparisons that take no more than a minute or two; the others by `npx tsx bench/masking.ts`. */
function masking(): void {
  const script = fileURLToPath(new URL('masking.ts', import.meta.url))
  const { status } = spawnSync(process.execPath, [...process.execArgv, script, 'mdt', 'maskdit-s', 'maskdm'], {
    stdio: 'inherit',
  })
  if (status !== 0) process.exitCode = 1
}

async function all(record: boolean, quick: boolean): Promise<void> {
  const machine = machineNow()
  warnOfLoad(machine)
  await alone(micro)()
  console.log()
  keep('own', { machine, results: await full({ quick }) }, record)
  console.log()
  masking()
}

async function onGpu(name: string, batch: string, preset: string | undefined, quick: boolean): Promise<void> {
  const backend = backendNames.find(known => known === name && known.startsWith('gpu'))
  if (backend === undefined) throw new UserError(`bench: --backend: wanted gpu or one of its devices, got '${name}'`)
  if (!/^[1-9]\d*$/.test(batch)) throw new UserError(`bench: --batch: wanted a number from 1, got '${batch}'`)
  await gpuBench({ backend, batch: Number(batch), preset: preset ?? (quick ? 'tiny' : 'S/2'), quick })
}

await main(async () => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      record: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      backend: { type: 'string' },
      batch: { type: 'string', default: '64' },
      preset: { type: 'string' },
    },
  })
  const benches: Record<string, () => Promise<void> | void> = {
    all: () => all(values.record, values.quick),
    micro: alone(micro),
    full: async () => void (await full({ quick: values.quick })),
    masking,
    step: alone(step),
    checkpoint: alone(checkpointing),
    memory: alone(memory),
    growth,
    conv: alone(conv),
    savings: alone(savings),
  }
  if (values.backend !== undefined) return onGpu(values.backend, values.batch, values.preset, values.quick)
  const [what = 'all', ...rest] = positionals
  if (!Object.hasOwn(benches, what) || rest.length > 0)
    throw new UserError(`bench: wanted ${Object.keys(benches).join(', ')}, got '${positionals.join(' ')}'`)
  if (values.record && what !== 'all') throw new UserError(`bench: --record: wanted with everything, got '${what}'`)
  await benches[what]()
})
