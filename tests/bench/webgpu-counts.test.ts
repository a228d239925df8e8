/** Counts of what a step asks of WebGPU, on a device that computes nothing. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { GpuCounts, installCountingGpu } from '../../bench/counting-gpu.ts'
import { ditBlock } from '../../bench/workloads.ts'
import { gpu } from '../../core/backends/gpu/index.ts'
import { add, tensor } from '../../core/index.ts'

const counts = new GpuCounts()
installCountingGpu(counts)
const backend = await gpu({ device: 'webgpu' })
test.after(() => backend.dispose())

test('a dispatch, the buffers that it binds, and what was uploaded', async () => {
  const [a, b] = [0, 1].map(() => tensor(new Float32Array(3 * 1024), { shape: [3, 1024], backend }))
  counts.reset()
  const y = add(a, b)
  await backend.device.settled()
  assert.is(counts.dispatches, 1)
  assert.is(counts.bytes, 3 * 3 * 4096)
  assert.equal([...counts.kernels], [['elementwise', { dispatches: 1, bytes: 3 * 3 * 4096 }]])
  for (const t of [a, b, y]) t.dispose()
  counts.reset()
  backend.write(backend.alloc('f32', 100), new Float32Array(100))
  assert.is(counts.uploaded, 400)
})

test('a step that is repeated asks for the same, without new buffers', () => {
  const work = ditBlock(backend, 1)
  const seen = [0, 1, 2, 3].map(() => {
    counts.reset()
    work.run()
    return [counts.dispatches, backend.device.counters().allocations]
  })
  assert.equal(seen[3], seen[2])
  assert.ok(seen[3][0] > 30, `${seen[3][0]} dispatches`)
  work.dispose()
})

test.run()
