/** The kernels that no op stands for (in-place.ts), on every backend that has them. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { type Backend, cpu } from '../../core/index.ts'
import { inPlaceKernels } from './in-place.ts'

const backends: Record<string, Backend> = {
  cpu,
  wasm: await createWasm({ threads: 2 }),
  'wasm simd': await createWasm({ threads: 1, build: 'simd' }),
  gpu: await gpu({ device: 'cpu' }),
}

for (const [name, backend] of Object.entries(backends)) inPlaceKernels(test, name, backend)

test('all four backends have all three', () => {
  for (const { kernels } of Object.values(backends)) assert.ok(kernels.sumOfSquares && kernels.adamW && kernels.lerp)
})

test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

test.run()
