/** A program for world.test.ts: makes every call of a world and writes what this rank saw to FOLDER/RANK.json. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ready, tensor } from '../../core/index.ts'
import { init } from '../../distributed/index.ts'
import { valuesOf } from './values.ts'

const [, , folder] = process.argv
const world = await init()
const backend = await ready({ threads: 1 })
const { rank, size, first, about } = world

// Sizes around a share, several buckets, one element, none.
const shapes = [[3], [], [0], [1 << 20, 3], [7, 11]]
const tensors = shapes.map((shape, i) =>
  tensor(
    valuesOf(
      rank,
      i,
      shape.reduce((n, d) => n * d, 1),
    ),
    { shape },
  ),
)
const versions = tensors.map(({ storage }) => storage.version)
const before = backend.stats().storages
world.allSum(tensors)
const left = backend.stats().storages - before
const bumped = tensors.every(({ storage }, i) => storage.version > versions[i])
const sums = tensors.map(t => Buffer.from(t.dataSync().slice().buffer).toString('base64'))

const copies = [tensor([rank, 5]), tensor([10 + rank])]
world.broadcast(copies, size - 1)
const broadcast = copies.map(t => [...t.dataSync()])

const any = [false, rank === 0, rank === size - 1].map(flag => world.any(flag))
const agreed = [
  world.agreed({ rank, text: 'ä'.repeat(1 + rank) }),
  world.agreed([rank], size - 1),
  world.agreed(undefined),
]
const gathered = world.gather(Float32Array.from({ length: rank }, () => rank)).map(values => [...values])

const again = (await init()) === world
await world.barrier()
let worked = 0
const used = process.cpuUsage()
const result = await world.onFirst(async alive => {
  for (let i = 0; i < 3; i++) {
    await new Promise(next => setTimeout(next, 600))
    alive()
  }
  worked = Date.now()
  return 'done'
})
const { user, system } = process.cpuUsage(used)
const waited = { worked, until: Date.now(), busy: (user + system) / 1e6 }

const wrong = ['i32', 'cpu'].map(kind => {
  try {
    world.allSum([kind === 'i32' ? tensor([1], { dtype: 'i32' }) : copies[0], tensor([1], { dtype: 'i32' })])
    return ''
  } catch (error) {
    return (error as Error).message
  }
})
const found = {
  rank,
  size,
  first,
  about,
  left,
  bumped,
  sums,
  broadcast,
  any,
  agreed,
  gathered,
  again,
  result,
  waited,
  wrong,
}
writeFileSync(join(folder, `${rank}.json`), JSON.stringify(found))
world.end()
