/**
 * `npm run bench`: micro-benchmarks of the ops that time goes into. `npm run bench -- step`: a training step of MDT-S/2
 * against what this machine can do, and what it needs of memory. One thread, so that figures compare between machines.
 * For quiet figures leave the machine alone meanwhile.
 */

import { ready } from '../core/index.ts'
import { main, UserError } from '../diffusion/training/index.ts'
import { micro } from './micro.ts'
import { step } from './step.ts'

await main(async () => {
  const [what = 'micro', ...rest] = process.argv.slice(2)
  if ((what !== 'micro' && what !== 'step') || rest.length > 0)
    throw new UserError(`bench: wanted micro or step, got '${process.argv.slice(2).join(' ')}'`)
  const backend = await ready({ backend: 'wasm', threads: 1 })
  await (what === 'micro' ? micro(backend) : step(backend))
  backend.dispose()
})
