/** A program for failure.test.ts: sums until rank 1 fails as HOW says. */

import { ready, zeros } from '../../core/index.ts'
import { init } from '../../distributed/index.ts'

const [, , how] = process.argv
const world = await init({ timeout: 4 })
await ready({ threads: 1 })
const x = zeros([1000])
for (let i = 0; ; i++) {
  if (i === 20 && world.first) console.log('ready')
  if (i > 20 && world.rank === 1) {
    if (how === 'throw') throw new Error('rank 1 cannot continue')
    if (how === 'reject') void Promise.reject(new Error('rank 1 cannot continue'))
    if (how === 'exit') process.exit(0)
    if (how === 'silent') await new Promise(next => setTimeout(next, 60_000))
    if (how === 'abort') world.abort(7)
  }
  world.allSum([x])
  await new Promise(next => setTimeout(next, 5))
}
