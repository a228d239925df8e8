/**
 * The walk over all functions that are made of ops (composites.ts): values and first derivatives on every backend against `cpu`
 * in f64, derivatives of both orders against differences, integers exactly, NaN, and no bytes left behind.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { gradcheck, gradcheck2, runs } from '../../core/gradcheck.ts'
import { type Backend, cpu, scope } from '../../core/index.ts'
import { untyped } from '../../core/op.ts'
import { composites } from './composites.ts'
import { describe, report, samplesOf, walk } from './registry-walk.ts'

const backends: Record<string, Backend> = {
  'cpu f32': cpu,
  wasm: await createWasm({ threads: 2 }),
  'wasm simd': await createWasm({ threads: 1, build: 'simd' }),
  gpu: await gpu({ device: 'cpu' }),
}

for (const op of composites) {
  const { differentiable } = untyped(op)

  test(`${op.name}: derivatives against differences, in f64`, () => {
    const found: string[] = []
    const bytes = cpu.stats().bytes
    scope(() => {
      for (const sample of samplesOf(op)) {
        const f = runs(op, sample)
        const errors = {
          first: differentiable === 'none' ? undefined : gradcheck(f, sample.x),
          second: differentiable === undefined ? gradcheck2(f, sample.x) : undefined,
        }
        for (const [order, error] of Object.entries(errors))
          if (error !== undefined && !(error <= 1e-6))
            found.push(`${op.name} ${describe(sample.x)}: ${order} derivative ${error.toExponential(1)}`)
      }
    })
    report(found)
    assert.is(cpu.stats().bytes, bytes, 'bytes left behind')
  })

  for (const [name, backend] of Object.entries(backends)) test(`${op.name} on ${name}`, () => walk(op, name, backend))
}

test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

test.run()
