/**
 * Parity of every model with the reference implementations through gpu.js' kernels, on the CPU. webgpu/parity.test.ts has
 * the same on WebGPU.
 */

import { test } from 'uvu'
import { gpu } from '../../core/backends/gpu/index.ts'
import { parityOn } from '../parity/on-backend.ts'

const backend = await gpu({ device: 'cpu' })
parityOn(test, backend)

test.after(() => backend.dispose())

test.run()
