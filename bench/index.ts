/**
 * `npm run bench`: micro-benchmarks of the ops that time goes into. `npm run bench -- step`: a training step of MDT-S/2
 * against what this machine can do, and what it needs of memory. `-- checkpoint`: what checkpointing its blocks saves.
 * `-- memory`: what each model needs. `-- savings`: what two things that are not done could save. One thread, so that
 * figures compare between machines. For quiet figures leave the machine alone meanwhile.
 */

import { type Backend, ready } from '../core/index.ts'
import { main, UserError } from '../diffusion/training/index.ts'
import { checkpointing } from './checkpoint.ts'
import { memory } from './memory.ts'
import { micro } from './micro.ts'
import { savings } from './savings.ts'
import { step } from './step.ts'

const benches: Record<string, (backend: Backend) => Promise<void> | void> = {
  micro,
  step,
  checkpoint: checkpointing,
  memory,
  savings,
}

await main(async () => {
  const [what = 'micro', ...rest] = process.argv.slice(2)
  if (!Object.hasOwn(benches, what) || rest.length > 0)
    throw new UserError(`bench: wanted ${Object.keys(benches).join(', ')}, got '${process.argv.slice(2).join(' ')}'`)
  const backend = await ready({ backend: 'wasm', threads: 1 })
  await benches[what](backend)
  backend.dispose()
})
