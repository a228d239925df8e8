/** Parity of every model with the reference implementations on WebGPU. Skipped without an adapter. */

import { test } from 'uvu'
import { parityOn } from '../parity/on-backend.ts'
import { openWebGpu } from './device.ts'

const backend = await openWebGpu()
parityOn(test, backend)

test.after(() => backend?.dispose())

test.run()
