/**
 * The one walk over all ops: every op × every sample × every backend. Values and first derivatives against `cpu` in f64,
 * derivatives of both orders in f64 against differences, fused against decomposed, integers exactly, and no bytes left
 * behind. A new op or update is tested by being registered. What is done on a backend: registry-walk.ts and update-walk.ts;
 * on WebGPU: webgpu/.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { gradcheck, gradcheck2, runs } from '../../core/gradcheck.ts'
import {
  add,
  type Backend,
  cast,
  cpu,
  gradients,
  mul,
  noGrad,
  registry,
  scope,
  shapes,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  updates,
} from '../../core/index.ts'
import { untyped } from '../../core/op.ts'
import { sampler } from '../../core/samples.ts'
import { describe, distance, report, samplesOf, walk } from './registry-walk.ts'
import { walkUpdate } from './update-walk.ts'

const backends: Record<string, Backend> = {
  'cpu f32': cpu,
  wasm: await createWasm({ threads: 2 }),
  'wasm simd': await createWasm({ threads: 1, build: 'simd' }),
  gpu: await gpu({ device: 'cpu' }),
}

for (const op of registry().values()) {
  const record = untyped(op)

  test(`${op.name}: derivatives against differences, fused against decomposed, in f64`, () => {
    const found: string[] = []
    const bytes = cpu.stats().bytes
    scope(() => {
      for (const sample of samplesOf(op)) {
        const f = runs(op, sample)
        const say = (what: string, error: number) =>
          found.push(`${op.name} ${describe(sample.x)}: ${what} ${error.toExponential(1)}`)
        const first = record.differentiable === 'none' ? undefined : gradcheck(f, sample.x)
        const second = record.differentiable === undefined ? gradcheck2(f, sample.x) : undefined
        if (first !== undefined && !(first <= 1e-6)) say('first derivative', first)
        if (second !== undefined && !(second <= 1e-6)) say('second derivative', second)
        if (record.decompose === undefined) continue
        const fused = [f(...sample.x)].flat()
        const plain = [record.decompose(sample.x, sample.attrs)].flat()
        fused.forEach((y, i) => {
          const units = distance(y.dataSync(), plain[i].dataSync(), 1e-10)
          if (units > 1) say(`result ${i} differs from the decomposition by`, units * 1e-10)
        })
      }
    })
    report(found)
    assert.is(cpu.stats().bytes, bytes, 'bytes left behind')
  })

  for (const [name, backend] of Object.entries(backends)) test(`${op.name} on ${name}`, () => walk(op, name, backend))

  test(`${op.name} has samples with a size-1 axis, an odd size and a long axis`, () => {
    scope(() => {
      const sizes = samplesOf(op).flatMap(sample => {
        const results = noGrad(() => [runs(op, sample)(...sample.x)].flat())
        return [...sample.x, ...results].flatMap(t => t.shape)
      })
      // Attention over 1,000 tokens would have a million scores a head: its longest sample has 67.
      const long = op.name.startsWith('selfAttention') ? 64 : 1000
      assert.ok(sizes.includes(1), 'no axis of size 1')
      assert.ok(sizes.filter(n => n > 1 && n % 2 === 1).length > 0, 'no odd size')
      assert.ok(sizes.filter(n => n > long).length > 0, `no axis longer than ${long}`)
    })
  })
}

for (const op of updates().values()) {
  test(`${op.name} in place on cpu f64`, () => walkUpdate(op, cpu, 'f64'))
  for (const [name, backend] of Object.entries(backends))
    test(`${op.name} in place on ${name}`, () => walkUpdate(op, backend, 'f32'))
}

test('every backend has the kernels that pay there', () => {
  const kernels = (backend: Backend) =>
    [...updates().values()].filter(op => op.kernel(backend.kernels) !== undefined).map(({ name }) => name)
  const all = ['assign', 'lerp', 'adamW', 'adan', 'sgd']
  assert.equal(kernels(cpu), all)
  assert.equal(kernels(backends.wasm), all)
  assert.equal(kernels(backends.gpu), ['assign', 'lerp', 'adamW'])
  assert.equal(kernels(shapes), ['assign'])
})

test('gradcheck sees a wrong gradient: of first order, of one element among many, of second order', () => {
  scope(() => {
    const x = sampler(1)(3, 5)
    const once = (x: Tensor) => mul(x, x.detach()) // x², of which the tape sees one factor
    const mask = tensor(
      Float64Array.from({ length: 15 }, (_, i) => (i === 7 ? 1 : 0)),
      { shape: [3, 5], dtype: 'f64', backend: cpu },
    )
    assert.ok(gradcheck(square, [x])! < 1e-9)
    assert.ok(gradcheck(once, [x])! > 0.1)
    assert.ok(gradcheck(x => add(square(x), mul(mask, sub(once(x), square(x)))), [x])! > 1e-3)
    // x³ with the right gradient, which the tape takes for linear in x.
    const flat = (x: Tensor) => sub(mul(square(x.detach()), mul(x, 3)), mul(mul(x, square(x)).detach(), 2))
    assert.ok(gradcheck2(x => mul(x, square(x)), [x])! < 1e-9)
    assert.ok(gradcheck2(flat, [x])! > 0.1)
  })
})

test('cast hands a gradient back in the dtype that it came from', () => {
  scope(() => {
    const x = sampler(1)(3).requireGrad()
    const [g] = gradients(sum(mul(cast(x, 'f32'), 2)), [x])
    assert.equal(g.dataSync(), Float64Array.of(2, 2, 2))
  })
})

test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

test.run()
