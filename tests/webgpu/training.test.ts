/**
 * Training on WebGPU: the weights of wasm after five steps, nothing read back inside a step, and a step that repeats
 * builds no kernel and takes no memory. Skipped without an adapter.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { mdtPreset } from '../../models/index.ts'
import { openWebGpu } from './device.ts'
import { train } from './training.ts'

const backend = await openWebGpu()
const run = backend === null ? test.skip : test

const tiny = mdtPreset('tiny', { inputSize: 16, inChannels: 3, numClasses: 0 })
/** Small enough for fifty steps on a software adapter. */
const smaller = { ...tiny, inputSize: 8, depth: 2, decodeLayer: 1, hiddenSize: 32, numHeads: 2 }

run('MDT tiny after five steps of AdamW: the losses and weights of wasm within 1e-3, and no reads', async () => {
  const before = backend!.stats()
  const counts: { built: number; allocations: number }[] = []
  let reads = 0
  const ours = await train(backend!, tiny, {
    steps: 5,
    batch: 2,
    after() {
      reads = backend!.stats().reads - before.reads
      const { built, allocations } = backend!.device.counters()
      counts.push({ built, allocations })
    },
  })
  assert.is(reads, 0, 'reads while training')
  assert.equal(counts[4], counts[2], 'kernels and buffers after the third step')
  const wasm = await createWasm({ threads: 1 })
  const theirs = await train(wasm, tiny, { steps: 5, batch: 2 })
  assert.ok(Math.abs(ours.loss / theirs.loss - 1) < 1e-4, `loss ${ours.loss}, on wasm ${theirs.loss}`)
  for (const [name, wanted] of theirs.weights) {
    const got = ours.weights.get(name)!
    let worst = 0
    for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(got[i] - wanted[i]))
    assert.ok(worst < 1e-3, `${name}: off by ${worst}`)
  }
  wasm.dispose()
  assert.is(backend!.stats().bytes, before.bytes)
  assert.is(backend!.stats().storages, before.storages)
})

run('fifty steps: bytes, buffers and kernels stay as they were after the third', async () => {
  const before = backend!.stats()
  const marks: unknown[] = []
  await train(backend!, smaller, {
    steps: 50,
    batch: 2,
    after() {
      const { built, allocations, reserved } = backend!.device.counters()
      marks.push({ built, allocations, reserved, bytes: backend!.stats().bytes })
    },
  })
  assert.equal(marks[49], marks[3])
  assert.is(backend!.stats().bytes, before.bytes)
})

test.after(() => backend?.dispose())

test.run()
