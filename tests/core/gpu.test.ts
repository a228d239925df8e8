/**
 * The gpu backend beyond right values, which the registry walk tests: nothing is loaded before it is
 * used, reads are counted and never silent, errors name the op, bytes are exact, and loops longer than gpu.js' 1,000
 * run to their end. On gpu.js' CPU mode; webgpu/ has the same and more on WebGPU.
 */

import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { runs } from '../../core/gradcheck.ts'
import * as core from '../../core/index.ts'
import {
  cpu,
  full,
  gatherRows,
  gradients,
  matmul,
  mul,
  scatterAdd,
  scope,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { untyped } from '../../core/op.ts'
import { sampler } from '../../core/samples.ts'
import { walkEmpty } from './empty-arrays.ts'
import { scalarValues } from './scalar-values.ts'

const isLoaded = () => Object.keys(createRequire(import.meta.url).cache).some(file => /[/\\]gpu\.js[/\\]/.test(file))
const loadedWithCore = isLoaded()
const backend = await gpu({ device: 'cpu' })

const on = (values: number[] | number[][], dtype: 'f32' | 'i32' = 'f32') => tensor(values, { backend, dtype })

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new Error('expected a rejection')
}

test('gpu.js is loaded by gpu(), not by core', () => {
  assert.not(loadedWithCore)
  assert.ok(isLoaded())
})

test('what core, wasm and cpu need has neither gpu.js nor the gpu backend in it', async () => {
  const { outputs } = await build({
    entryPoints: [fileURLToPath(new URL('../../core/index.ts', import.meta.url))],
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    outdir: 'nowhere',
    write: false,
    metafile: true,
  }).then(({ metafile }) => metafile)
  /** Inputs of a chunk and of the chunks that it imports statically. */
  const inputsOf = (name: string): string[] => [
    ...Object.keys(outputs[name].inputs),
    ...outputs[name].imports.flatMap(({ path, kind, external }) =>
      external ? [path] : kind === 'import-statement' ? inputsOf(path) : [],
    ),
  ]
  const chunkWith = (file: string) => Object.keys(outputs).find(name => file in outputs[name].inputs)!
  const entry = Object.keys(outputs).find(name => outputs[name].entryPoint === 'core/index.ts')!
  for (const name of [entry, chunkWith('core/backends/wasm/backend.ts')]) {
    const inputs = inputsOf(name)
    assert.ok(inputs.length > 5)
    assert.equal(
      inputs.filter(input => /backends\/gpu|gpu\.js|^webgpu/.test(input)),
      [],
    )
  }
  assert.ok(inputsOf(chunkWith('core/backends/gpu/backend.ts')).length > 10)
})

test('reads are asynchronous only, and only reads read', async () => {
  const before = backend.stats()
  const x = on([1, 2, 3])
  const y = scope(() => sum(mul(mul(x, x), 0.5)))
  assert.is(backend.stats().reads, before.reads)
  assert.throws(() => y.dataSync(), /reads asynchronously/)
  assert.is(await y.item(), 7)
  assert.is(backend.stats().reads, before.reads + 1)
  for (const t of [x, y]) t.dispose()
  assert.is(backend.stats().bytes, before.bytes)
  assert.is(backend.stats().storages, before.storages)
})

test('a tensor moves off the gpu as the error of to() says', async () => {
  const x = on([[1, 2, 3]])
  assert.throws(
    () => core.to(x, { backend: cpu }),
    /^dataSync: .*, and move x with tensor\(await x\.data\(\), { shape: x\.shape, backend }\)$/,
  )
  const moved = tensor(await x.data(), { shape: x.shape, backend: cpu })
  assert.equal(
    [moved.shape, [...moved.dataSync()]],
    [
      [1, 3],
      [1, 2, 3],
    ],
  )
  const back = core.to(moved, { backend })
  assert.equal([...(await back.data())], [1, 2, 3])
  for (const t of [x, moved, back]) t.dispose()
})

test('a read sees what was dispatched before it, whatever happens to the tensor afterwards', async () => {
  const x = on([1, 2, 3])
  const y = mul(x, 2)
  const read = y.data()
  backend.write(y.storage, Float32Array.of(7, 8, 9))
  x.dispose()
  const again = y.data()
  y.dispose()
  assert.equal([...(await read)], [2, 4, 6])
  assert.equal([...(await again)], [7, 8, 9])
})

test('a cast to i32 of what is out of range is as on wasm', async () => {
  const x = on([2147483648, -2147483904, 1e10, -3e38, Infinity, -Infinity, Number.NaN, -1.5])
  const y = core.cast(x, 'i32')
  const back = core.cast(y, 'f32')
  const [most, least] = [2 ** 31 - 1, -(2 ** 31)]
  assert.equal([...(await y.data())], [most, least, most, least, most, least, 0, -1])
  assert.equal([...(await back.data())], [2 ** 31, least, 2 ** 31, least, 2 ** 31, least, 0, -1])
  for (const t of [x, y, back]) t.dispose()
})

test('what is written is copied at once', async () => {
  const data = Float32Array.of(1, 2)
  const x = tensor(data, { backend })
  data.fill(0)
  assert.equal([...(await x.data())], [1, 2])
  x.dispose()
})

test('an index out of range that the host wrote is told at once', () => {
  const before = backend.stats().bytes
  scope(() => {
    const x = core.reshape(on([[1], [2], [3]]), [1, 3, 1])
    assert.throws(() => gatherRows(x, on([[0, 3]], 'i32')), /^gatherRows: expected indices in \[0, 3\), got 3$/)
    assert.throws(() => scatterAdd(on([[-1, 0, 0]], 'i32'), x, 2), /^scatterAdd: expected indices in \[0, 2\), got -1$/)
  })
  assert.is(backend.stats().bytes, before)
})

test('an index out of range that the device computed is told by the next read, once, with the op', async () => {
  const x = on([[1], [2], [3]])
  const before = backend.stats()
  const computed = (values: number[][]) => core.add(on(values, 'i32'), on([[0]], 'i32'))
  const results = scope(() => [
    gatherRows(core.reshape(x, [1, 3, 1]), computed([[0, 3]])),
    gatherRows(core.reshape(x, [1, 3, 1]), computed([[-1, 3]])),
    scatterAdd(computed([[-1, 0]]), core.reshape(on([1, 2]), [1, 2, 1]), 2),
  ])
  assert.is(backend.stats().reads, before.reads)
  const error = await rejection(x.data())
  assert.match(error.message, /^gatherRows: expected indices in \[0, 3\), got 3 outside$/)
  assert.equal([...(await x.data())], [1, 2, 3])
  for (const t of results) t.dispose()
  assert.is(backend.stats().bytes, before.bytes)
  x.dispose()
})

test('arrays of no elements are as on cpu', () => walkEmpty(backend))

test('infinite and small values, and sines of large angles', () => scalarValues(backend))

test('a storage that nothing was written to cannot be read', async () => {
  const storage = backend.alloc('f32', 2)
  assert.match((await rejection(backend.read(storage))).message, /nothing was written/)
  backend.free(storage)
})

test('i32 beyond what f32 can hold is refused', () => {
  const before = backend.stats().bytes
  const storage = backend.alloc('i32', 1)
  assert.throws(() => backend.write(storage, Int32Array.of(2 ** 24 + 1)), /i32 is exact up to/)
  backend.free(storage)
  assert.is(backend.stats().bytes, before)
})

test('loops run past 1,000: products, scattered sums, reductions', async () => {
  const n = 5003
  const ys = scope(() => {
    const row = full([1, n], 1, { backend })
    const index = full([1, n], 1, { backend, dtype: 'i32' })
    return [
      matmul(row, row, { transposeB: true }),
      sum(row),
      core.slice(core.reshape(scatterAdd(index, core.reshape(row, [1, n, 1]), 2), [2]), 0, 1),
    ]
  })
  for (const y of ys) {
    assert.equal([...(await y.data())], [n])
    y.dispose()
  }
})

test('sums are pairwise: 2^18 of them keep f32 precision', async () => {
  const n = 2 ** 18
  const values = Float32Array.from({ length: n }, (_, i) => 1 + (i % 7) / 8)
  const exact = values.reduce((a, b) => a + b, 0)
  const [x, y] = scope(() => {
    const x = tensor(values, { backend })
    return [x, sum(x)]
  })
  assert.ok(Math.abs((await y.item()) - exact) / exact < 1e-6)
  for (const t of [x, y]) t.dispose()
})

test('a training loop runs on it: the same weights as on cpu, one read at the end', async () => {
  const train = (backend: core.Backend): Tensor =>
    scope(() => {
      const random = core.rng(5)
      const x = random.normal([8, 3], { backend })
      const wanted = random.normal([8, 2], { backend })
      let w = random.normal([2, 3], { backend })
      for (let step = 0; step < 5; step++) {
        const leaf = w.requireGrad()
        const miss = sub(core.gelu(core.layerNorm(core.linear(x, leaf), null, null, 1e-5)), wanted)
        const [g] = gradients(core.mean(core.square(miss)), [leaf])
        w = sub(w, mul(g, 0.5))
      }
      return w.detach()
    })
  const [before, bytes] = [backend.stats().reads, backend.stats().bytes]
  const [ours, theirs] = [train(backend), train(cpu)]
  const [got, expected] = [await ours.data(), theirs.dataSync()]
  got.forEach((value, i) => {
    assert.ok(Math.abs(value - expected[i]) < 1e-5, `weight ${i}: expected ${expected[i]}, got ${value}`)
  })
  assert.is(backend.stats().reads, before + 1)
  for (const t of [ours, theirs]) t.dispose()
  assert.is(backend.stats().bytes, bytes)
})

test('every kernel that the ops and updates compile can be translated to WGSL too', async () => {
  // gpu.js translates before it asks for a device. CPU kernels are caught as they are built, on a backend of their own.
  const require = createRequire(import.meta.url)
  const { CPUKernel } = require('gpu.js/src/backend/cpu/kernel.js')
  const { WebGPUKernel } = require('gpu.js/src/backend/web-gpu/kernel.js')
  const { build } = CPUKernel.prototype
  const names = new Set<string>()
  CPUKernel.prototype.build = function (...args: unknown[]) {
    if (!this.built) {
      const { source, output, functions, constants, loopMaxIterations } = this
      const same = { output, functions, constants, loopMaxIterations, pipeline: true, immutable: true }
      const twin = new WebGPUKernel(source, { ...same, dynamicOutput: true, dynamicArguments: true })
      twin.build(...args).catch(() => {}) // the translation is done by now; there is no device to run it on
      assert.match(twin.compiledSource, /@compute/)
      names.add(source.slice(0, source.indexOf('(')))
    }
    return build.apply(this, args)
  }
  const fresh = await gpu({ device: 'cpu' })
  const move = (x: Tensor) =>
    tensor(x.dataSync(), { shape: x.shape, dtype: x.dtype === 'i32' ? 'i32' : 'f32', backend: fresh })
  try {
    for (const op of core.registry().values())
      core.noGrad(() =>
        scope(() => {
          for (const sample of untyped(op).samples(sampler(3))) runs(op, sample)(...sample.x.map(move))
        }),
      )
    const moveAll = (row: Readonly<Record<string, Tensor | undefined>>) =>
      Object.fromEntries(Object.entries(row).map(([field, x]) => [field, x && move(x)]))
    for (const op of core.updates().values())
      scope(() => {
        for (const { rows, scalars, attrs } of op.samples(sampler(3)))
          core.update(op, rows.map(moveAll), moveAll(scalars), attrs)
      })
    const last = full([1], 1, { backend: fresh })
    await last.data()
    last.dispose()
  } finally {
    CPUKernel.prototype.build = build
    fresh.dispose()
  }
  assert.is(names.size, 42)
})

test.after(() => backend.dispose())

test.run()
