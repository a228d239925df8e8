/**
 * WebGPU beyond right values of small arrays: sums past 1,000 and past 4,096 terms, indices past 2^24, ten
 * thousand ops without a trace, and errors that say what is wrong. Skipped without an adapter. Needs Node.
 */

import { spawnSync } from 'node:child_process'
import { GPU } from 'gpu.js'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createTranslator } from '../../core/backends/gpu/gpujs/translate.ts'
import { openWebGpu as openDevice, type WebGpuDevice } from '../../core/backends/gpu/webgpu/device.ts'
import {
  add,
  type Backend,
  cast,
  concat,
  cpu,
  full,
  gatherRows,
  gradients,
  layerNorm,
  matmul,
  max,
  mul,
  reshape,
  rng,
  scatterAdd,
  scope,
  selfAttention,
  slice,
  softmax,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { walkEmpty } from '../core/empty-arrays.ts'
import { scalarValues } from '../core/scalar-values.ts'
import { openWebGpu } from './device.ts'

const written = await openWebGpu()
const translated = written && (await openWebGpu({ wgsl: false }))
const run = written === null ? test.skip : test

async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('expected a rejection')
}

/** Reductions of every kind over n terms, and the gradients of those that have kernels of their own. */
function reductions(n: number, backend: Backend, dtype: 'f32' | 'f64'): Tensor[] {
  return scope(() => {
    const random = rng(9)
    const draw = (...shape: number[]) => {
      const values = random.normalArray(shape.reduce((a, b) => a * b, 1)) // f32, so the same on both
      return tensor(values, { shape, dtype, backend })
    }
    const [x, y] = [draw(2, n).requireGrad(), draw(n, 3)]
    const index = tensor(
      Int32Array.from({ length: n }, (_, i) => i % 2),
      { shape: [1, n], dtype: 'i32', backend },
    )
    const parts = [
      sum(x, 1),
      sum(y, 0),
      max(x, 1),
      matmul(x, y),
      reshape(scatterAdd(index, reshape(y, [1, n, 3]), 3), [9]),
    ]
    const rows = [softmax(x), layerNorm(x, null, null, 1e-6)]
    const found = rows.map(row => gradients(sum(mul(row, draw(2, n))), [x])[0])
    return [...parts, ...rows, ...found].map(t => t.detach())
  })
}

for (const backend of [written, translated])
  for (const n of [1031, 4099, 10_007])
    run(`sums of ${n} terms${backend === translated ? ', without hand-written shaders' : ''}`, async () => {
      const [ours, exact] = [reductions(n, backend!, 'f32'), reductions(n, cpu, 'f64')]
      for (const [k, t] of ours.entries()) {
        const [got, wanted] = [await t.data(), exact[k].dataSync()]
        const scale = Math.max(...Array.from(wanted, Math.abs))
        let worst = 0
        for (let i = 0; i < got.length; i++) worst = Math.max(worst, Math.abs(got[i] - wanted[i]) / scale)
        assert.ok(worst < 1e-5, `result ${k}: off by ${worst}`)
      }
      for (const t of [...ours, ...exact]) t.dispose()
    })

run('attention over 1,031 tokens', async () => {
  const attend = (backend: Backend, dtype: 'f32' | 'f64') =>
    scope(() => {
      const qkv = tensor(rng(4).normalArray(1031 * 24), { shape: [1, 1031, 24], dtype, backend })
      return selfAttention(qkv, null, 2)
    })
  const [ours, exact] = [attend(written!, 'f32'), attend(cpu, 'f64')]
  const [got, wanted] = [await ours.data(), exact.dataSync()]
  got.forEach((value, i) => {
    assert.ok(Math.abs(value - wanted[i]) < 1e-5)
  })
  for (const t of [ours, exact]) t.dispose()
})

run('indices are exact past 2^24 elements', async () => {
  const [n, width] = [2 ** 24 + 4, 3]
  const backend = translated!
  const found = scope(() => {
    const tail = tensor(Float32Array.of(1, 2, 3), { backend })
    const long = concat([full([n], 0, { backend }), tail], 0)
    const rows = reshape(slice(long, 0, 0, n + 1), [(n + 1) / width, width]) // ends in 1
    const last = tensor(Int32Array.of((n + 1) / width - 1), { shape: [1, 1], dtype: 'i32', backend })
    return [
      slice(long, 0, n, n + 3),
      reshape(gatherRows(reshape(rows, [1, ...rows.shape]), last), [width]),
      sum(long),
      slice(reshape(mul(rows, tensor(Float32Array.of(2, 3, 4), { backend })), [n + 1]), 0, n - 1, n + 1),
    ]
  })
  const values = []
  for (const t of found) values.push([...(await t.data())])
  assert.equal(values, [[1, 2, 3], [0, 0, 1], [6], [0, 4]])
  for (const t of found) t.dispose()
})

run('a cast to i32 of what is out of range is as on wasm', async () => {
  const x = tensor(Float32Array.of(1e10, -3e38, Infinity, -Infinity, Number.NaN, -1.5), { backend: written! })
  const y = cast(x, 'i32')
  assert.equal([...(await y.data())], [2 ** 31 - 1, -(2 ** 31), 2 ** 31 - 1, -(2 ** 31), 0, -1])
  for (const t of [x, y]) t.dispose()
})

run('ten thousand small ops leave nothing behind', async () => {
  const x = tensor(Float32Array.of(1, 2, 3), { backend: written! })
  const before = { ...written!.stats() }
  const loop = () => {
    for (let i = 0; i < 5000; i++) scope(() => void sum(mul(x, i)))
  }
  loop()
  const { allocations, built } = written!.device.counters()
  loop()
  assert.equal([...(await x.data())], [1, 2, 3])
  const { bytes, storages, reads } = written!.stats()
  assert.equal({ bytes, storages, reads }, { bytes: before.bytes, storages: before.storages, reads: before.reads + 1 })
  assert.is(written!.device.counters().allocations, allocations)
  assert.is(written!.device.counters().built, built)
  x.dispose()
})

run('arrays of no elements are as on cpu, with hand-written shaders and without', async () => {
  await walkEmpty(written!)
  await walkEmpty(translated!)
})

run('infinite and small values, and sines of large angles, with hand-written shaders and without', async () => {
  await scalarValues(written!)
  await scalarValues(translated!)
})

run('an array larger than the device takes is refused, with the limit and what to lower', () => {
  const n = written!.device.maxElements + 1
  assert.throws(
    () => full([n], 0, { backend: written! }),
    /expected an array of \d+ elements, got a device that takes \d+/,
  )
  assert.throws(() => full([n], 0, { backend: written! }), /lower the batch size/)
})

run('an array as large as the device takes can be had, whatever its size class', async () => {
  const adapter = (await navigator.gpu.requestAdapter())!
  const limit = 140_000_002 // between two classes, and no multiple of 4
  const opened = await adapter.requestDevice({ requiredLimits: { maxStorageBufferBindingSize: limit } })
  const device = openDevice(
    createTranslator(new GPU({ mode: 'webgpu' as 'gpu' })),
    { device: opened, name: 'small', software: true },
    '',
  )
  assert.is(device.maxElements, 35_000_000)
  const kernel = function one(): number {
    return 1
  }
  for (let i = 0; i < 2; i++) {
    const ones = device.run({ key: 'one', kernel }, device.maxElements, [], [], [])
    assert.equal(await device.download([ones], [2]), [Float32Array.of(1, 1)])
    device.release(ones)
  }
  assert.is(device.counters().allocations, 1)
  opened.destroy()
})

run('settled submits what was dispatched, and waits until the device has done it', async () => {
  const { device } = written!
  const { queue } = (device as WebGpuDevice).gpu
  const { submit, onSubmittedWorkDone } = queue
  const order: string[] = []
  let done = () => {}
  queue.submit = commands => {
    order.push('submitted')
    return submit.call(queue, commands)
  }
  queue.onSubmittedWorkDone = () => {
    order.push('asked')
    return new Promise(resolve => {
      done = () => resolve(undefined)
    })
  }
  await device.download([], []) // what is left of earlier tests
  order.length = 0
  const x = tensor([1, 2, 3], { backend: written! })
  const y = add(x, 1)
  const settled = device.settled().then(() => order.push('settled'))
  await new Promise(resolve => setTimeout(resolve, 20))
  assert.equal(order, ['submitted', 'asked'])
  done()
  await settled
  Object.assign(queue, { submit, onSubmittedWorkDone })
  assert.equal(order, ['submitted', 'asked', 'settled'])
  for (const t of [x, y]) t.dispose()
})

run('a buffer that the device could not make is told once, and nothing is left of it', async () => {
  const backend = (await openWebGpu())!
  const { gpu } = backend.device as WebGpuDevice
  const own = gpu.createBuffer
  const uploaded = (n: number) => tensor(new Float32Array(n).fill(1), { backend })
  uploaded(1000).dispose() // waits in the pool, for others of its size
  gpu.createBuffer = d => own.call(gpu, { ...d, size: gpu.limits.maxBufferSize + 4 })
  const [broken, dropped] = [uploaded(3000), uploaded(5000)]
  gpu.createBuffer = own
  dropped.dispose()
  assert.match(await rejection(broken.data()), /^gpu: expected a buffer of 0.0 MiB, got \S.*$/)
  broken.dispose()
  assert.is(backend.device.counters().reserved, 0)
  for (const n of [1000, 3000, 5000]) {
    const x = uploaded(n)
    assert.is(await scope(() => sum(x)).item(), n)
  }
  backend.dispose()
})

run('a lost device is told by the next read', async () => {
  const lost = (await openWebGpu())!
  const x = tensor(Float32Array.of(1), { backend: lost })
  const { gpu } = lost.device as unknown as { gpu: GPUDevice }
  gpu.destroy()
  assert.match(await rejection(add(x, 1).data()), /^gpu: .*lost/)
})

/** Runs a program in a process of its own, with or without a driver. */
function program(source: string, drivers: string | undefined) {
  const env = { ...process.env, ...(drivers !== undefined && { VK_DRIVER_FILES: drivers, VK_ICD_FILENAMES: drivers }) }
  const core = new URL('../../core/index.ts', import.meta.url).href
  const args = [...process.execArgv, '--input-type=module', '-e', `import * as core from '${core}'; ${source}`]
  return spawnSync(process.execPath, args, { encoding: 'utf8', env, timeout: 120_000 })
}

run('without a driver: webgpu says so, and gpu goes on with the next device and says why', () => {
  const source = `
    const say = error => console.log('refused:', error.message)
    await core.ready({ backend: 'gpu:webgpu' }).catch(say)
    const backend = await core.ready({ backend: 'gpu' })
    console.log(await core.sum(core.tensor([1, 2, 3])).item())
    backend.dispose()`
  const { stdout, status } = program(source, '/nowhere.json')
  assert.is(status, 0)
  assert.match(stdout, /refused: gpu: webgpu: no adapter/)
  assert.match(stdout, /gpu: gpu\.js on .*\(webgpu: no adapter/)
  assert.match(stdout, /\n6\n/)
})

run('a process that uses the device and does not dispose of it ends by itself', () => {
  const source = `
    await core.ready({ backend: 'gpu:webgpu' })
    console.log(await core.sum(core.tensor([1, 2, 3])).item())`
  const { stdout, status, signal } = program(source, undefined)
  assert.is(signal, null)
  assert.is(status, 0)
  assert.match(stdout, /gpu: webgpu on .*\n6\n/)
})

test.after(() => {
  written?.dispose()
  translated?.dispose()
})

test.run()
