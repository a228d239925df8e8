/** A program for commands.test.ts: writes shards of latents of 23 pictures to FOLDER, of which ranks encode some in turn. */

import type { ImageDataset } from '../../data/index.ts'
import { writeLatents } from '../../data/index.ts'
import { Skipped, UnreadablePicture } from '../../data/unreadable.ts'
import { init } from '../../distributed/index.ts'

const [, , folder, stopAt] = process.argv
const world = await init()
const data: ImageDataset = {
  name: 'squares',
  length: 23,
  size: 2,
  channels: 3,
  classes: ['a', 'b'],
  flips: true,
  skipped: new Skipped(() => {}),
  label: i => i % 2,
  async pixels(i) {
    if (i === 5) throw new UnreadablePicture('picture 5')
    return Uint8Array.from({ length: 12 }, (_, k) => (i * 7 + k * 13) % 256)
  },
}
let asked = 0
const index = await writeLatents(
  folder,
  data,
  {
    data: 'squares',
    size: 2,
    pictures: 23,
    classes: data.classes,
    mirrored: true,
    shape: [1, 1, 2],
    vae: { file: 'vae.safetensors', sha256: 'of this file', from: import.meta.filename, scalingFactor: 1 },
    arithmetic: 'none',
  },
  {
    async encode(images) {
      const mean = images.filter((_, i) => i % 12 < 2)
      return { mean, std: mean.map(Math.abs) }
    },
    together: 2,
    shardBytes: 100, // 3 pictures a shard would fit, so a batch of 2 is one
    stop: async () => stopAt !== undefined && ++asked >= Number(stopAt),
    world,
  },
)
if (world.first) console.log(`complete ${index.complete}, ${index.shards.length} shards, ${index.skipped} skipped`)
world.end()
