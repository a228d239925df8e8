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
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { type Backend, backendNames, ready } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
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
  const results = await full({ quick })
  if (record) keep('own', { machine, results })
  console.log()
  masking()
}

await main(async () => {
  const {
    what = 'all',
    record,
    quick,
    backend,
    batch,
    preset = quick ? 'tiny' : 'S/2',
  } = readFlags({
    command: 'npm run bench --',
    about: 'How fast demask is on this machine. Leave it alone meanwhile.',
    operands: {
      what: {
        about: 'a part of it; everything where there is none',
        choices: ['micro', 'full', 'masking', 'step', 'checkpoint', 'memory', 'growth', 'conv', 'savings'],
        optional: true,
      },
    },
    flags: {
      record: { type: 'switch', about: 'keep the figures in bench/README.md and bench/history' },
      quick: { type: 'switch', about: 'every step once, to see that all is well' },
      backend: {
        type: 'text',
        about: 'the bench of a GPU, on this device',
        choices: backendNames.filter(name => name.startsWith('gpu')),
      },
      batch: { type: 'integer', min: 1, default: 64, about: 'pictures in a step, with --backend' },
      preset: { type: 'text', about: 'size of the models, with --backend' },
    },
    examples: [
      ['', 'everything, some minutes'],
      ['growth', 'whether memory stays flat while models train'],
      ['--backend gpu', 'a GPU'],
    ],
  })
  const benches = {
    all: () => all(record, quick),
    micro: alone(micro),
    full: async () => void (await full({ quick })),
    masking,
    step: alone(step),
    checkpoint: alone(checkpointing),
    memory: alone(memory),
    growth,
    conv: alone(conv),
    savings: alone(savings),
  }
  if (backend !== undefined) return gpuBench({ backend, batch, preset, quick })
  if (record && (quick || what !== 'all'))
    throw new UserError(`bench: --record: expected with everything, got '${quick ? '--quick' : what}'`)
  await benches[what]()
})
