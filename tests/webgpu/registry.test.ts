/**
 * The walk over all ops, functions made of ops, and updates (registry-walk.ts, composites.ts, update-walk.ts) on WebGPU: ops once
 * with hand-written shaders where there are such, once with gpu.js' kernels alone. Skipped without an adapter.
 */

import { test } from 'uvu'
import { registry, updates } from '../../core/index.ts'
import { composites } from '../core/composites.ts'
import { walk } from '../core/registry-walk.ts'
import { walkUpdate } from '../core/update-walk.ts'
import { openWebGpu } from './device.ts'

const written = await openWebGpu()
const translated = written && (await openWebGpu({ wgsl: false }))
const run = written === null ? test.skip : test

for (const op of registry().values()) {
  run(`${op.name} on webgpu`, () => walk(op, 'webgpu', written!))
  run(`${op.name} on webgpu, without hand-written shaders`, () => walk(op, 'webgpu without wgsl', translated!))
}

for (const op of composites) run(`${op.name} on webgpu`, () => walk(op, 'webgpu', written!))

for (const op of updates().values()) run(`${op.name} in place on webgpu`, () => walkUpdate(op, written!, 'f32'))

test.after(() => {
  written?.dispose()
  translated?.dispose()
})

test.run()
