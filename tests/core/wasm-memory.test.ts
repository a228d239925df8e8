/**
 * Memory and threads of the wasm backend: the allocator under random sequences of calls, addresses beyond 2 GiB, what is
 * refused, and that threads neither keep the process alive nor need to be waited for.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Storage } from '../../core/backend.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { Allocator } from '../../core/backends/wasm/memory.ts'
import { full, selfAttention, split, tensor } from '../../core/index.ts'
import type { Shape } from '../../core/shape.ts'
import { check, disposeAll, floats, relaxed, spec } from './wasm-helpers.ts'

/** Memory that grows as a WebAssembly.Memory does, without being there. */
function pretended(pages: number) {
  const buffer = { byteLength: pages * 65536 }
  return {
    buffer,
    grow(more: number) {
      if (buffer.byteLength / 65536 + more > 65536) throw new RangeError('no more')
      buffer.byteLength += more * 65536
      return 0
    },
  }
}

test('a storage is refused where it does not fit', () => {
  assert.throws(() => relaxed.alloc('f64', 3), /f32 or i32, got f64/)
  const storage = relaxed.alloc('f32', 3)
  assert.throws(() => relaxed.write(storage, new Float32Array(4)), 'write: expected 3 elements, got 4')
  relaxed.free(storage)
  assert.throws(() => relaxed.alloc('f32', 2 ** 30), /wasm: out of memory: expected 4096\.0 MiB.*batch size.*preset/)
})

test('addresses beyond 2 GiB', () => {
  const low = relaxed.alloc('f32', 560e6)
  const x = floats([7, 1031])
  const y = x.on.get(relaxed)!
  assert.ok((y.storage as unknown as { address: number }).address > 2 ** 31)
  check('sum beyond 2 GiB', [x], (k, [a], dtype) => k.reduce('sum', a, [1], spec([7], dtype)), { tolerance: 1e-5 })
  check(
    'matmul beyond 2 GiB',
    [floats([9, 40]), floats([40, 11])],
    (k, [a, b], dtype) => k.matmul(a, b, false, false, spec([9, 11], dtype)),
    { tolerance: 1e-5 },
  )
  relaxed.free(low)
})

test('a kernel for which there is no room leaves nothing behind', () => {
  const on = (...shape: Shape) => floats(shape).on.get(relaxed)!
  const [a, b, x, row, wide] = [on(4000, 64), on(64, 1), on(5, 3000), on(3000), on(2000, 3000)]
  const whole = full([4000, 64], 1, { backend: relaxed })
  const hole = relaxed.alloc('f32', 2 ** 14)
  const taken: Storage[] = []
  for (let n = 2 ** 29; n >= 16; ) {
    try {
      taken.push(relaxed.alloc('f32', n))
    } catch {
      n /= 2
    }
  }
  relaxed.free(hole)
  const before = relaxed.stats()
  const { kernels } = relaxed
  for (const run of [
    () => kernels.matmul(a, b, false, false, spec([4000, 1], 'f32')), // no room for packed rows
    () => kernels.reduce('sum', wide, [0], spec([3000], 'f32')), // for slots of segments
    () => kernels.layerNormGrad!(x, x, row, 1e-6), // for the second result
    () => split(whole, 32, 0), // for the third part
  ]) {
    assert.throws(run, /wasm: out of memory/)
    assert.is(relaxed.stats().bytes, before.bytes)
    assert.is(relaxed.stats().storages, before.storages)
  }
  relaxed.free(kernels.unary('neg', row, row))
  for (const storage of taken) relaxed.free(storage)
  whole.dispose()
})

test('threads: wanted, from the environment, and never what keeps the process alive', async () => {
  const script = `
    import { createWasm } from './core/backends/wasm/index.ts'
    const wasm = await createWasm()
    const x = { shape: [300000], dtype: 'f32', storage: wasm.alloc('f32', 300000) }
    wasm.write(x.storage, new Float32Array(300000).fill(3))
    // In the same tick as the creation of the workers.
    console.log(wasm.threads, wasm.readSync(wasm.kernels.reduce('sum', x, [0], { shape: [], dtype: 'f32' }))[0])`
  const run = (threads: string) =>
    spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: { ...process.env, DEMASK_THREADS: threads },
      encoding: 'utf8',
      timeout: 20000,
    })
  const { status, stdout } = run('3')
  assert.is(stdout.trim(), '3 900000')
  assert.is(status, 0)
  assert.match(run('two').stderr, /DEMASK_THREADS: expected an integer ≥ 1, got 'two'/)
  for (const threads of [0, 1.5, -2])
    await createWasm({ threads }).then(
      () => assert.unreachable(),
      error => assert.is(error.message, `wasm: threads: expected a whole number of at least 1, got ${threads}`),
    )
})

test('threads: more chunks than they can claim one by one', async () => {
  const backend = await createWasm({ threads: 3 })
  const N = 140_003 // a chunk is a head of a picture, and a single token attends to itself
  const values = Float32Array.from({ length: 3 * N }, (_, i) => i) // q, k and v in turn
  const qkv = tensor(values, { shape: [N, 1, 3], backend })
  const y = selfAttention(qkv, null, 1)
  assert.ok(y.dataSync().every((v, n) => v === values[3 * n + 2]))
  y.dispose()
  qkv.dispose()
  backend.dispose()
})

test('allocator: blocks do not overlap, all comes back, and holes merge', () => {
  const size = fc.oneof(fc.nat(200), fc.nat(5000), fc.nat(3 << 20))
  fc.assert(
    fc.property(
      fc.array(fc.record({ size, free: fc.nat(3), pick: fc.nat() }), { minLength: 1, maxLength: 200 }),
      calls => {
        const memory = pretended(2)
        const allocator = new Allocator(memory, 4096)
        const live: { block: number; from: number; to: number }[] = []
        for (const { size, free, pick } of calls) {
          if (free > 1 && live.length > 0) allocator.free(live.splice(pick % live.length, 1)[0].block)
          else {
            const block = allocator.alloc(size)
            const from = allocator.address(block)
            live.push({ block, from, to: from + allocator.capacity(block) })
            assert.is(from % 64, 0)
            assert.ok(from >= 4096 && from + Math.max(size, 1) <= memory.buffer.byteLength - 64)
            assert.ok(allocator.capacity(block) >= size && allocator.capacity(block) < size + 64 + Number(size === 0))
          }
          live.sort((a, b) => a.from - b.from)
          for (let i = 1; i < live.length; i++) assert.ok(live[i - 1].to <= live[i].from, 'blocks overlap')
          assert.is(
            allocator.used,
            live.reduce((sum, { from, to }) => sum + to - from, 0),
          )
          assert.is(allocator.count, live.length)
        }
        for (const { block } of live) allocator.free(block)
        assert.is(allocator.used, 0)
        // All holes have merged: one block of everything fits without growing.
        const bytes = memory.buffer.byteLength
        allocator.free(allocator.alloc(bytes - 4096 - 64))
        assert.is(memory.buffer.byteLength, bytes)
      },
    ),
    { numRuns: 200 },
  )
})

test('allocator: a steady mix of sizes stops growing', () => {
  const memory = pretended(2)
  const allocator = new Allocator(memory, 4096)
  const step = (seed: number) => {
    const blocks = Array.from({ length: 100 }, (_, i) => allocator.alloc(1000 + ((i * 7919 + seed * 104729) % 200000)))
    for (const block of blocks) allocator.free(block)
  }
  for (let i = 0; i < 20; i++) step(i)
  const bytes = memory.buffer.byteLength
  for (let i = 20; i < 200; i++) step(i)
  assert.is(memory.buffer.byteLength, bytes)
})

test.after(disposeAll)

test.run()
