/** Bytes that the benchmark predicts for a step, compared with those of the step. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { stepBytes } from '../../bench/cost.ts'
import { trainingBytes } from '../../bench/memory.ts'
import { trainer } from '../../bench/step.ts'
import { ready, stats } from '../../core/index.ts'
import { families } from '../../models/index.ts'

test("the formula for the bytes of MDT's step agrees with its peak", async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const N = 32
  const { run, options, parameters, dispose } = trainer('tiny', N)
  run() // makes the optimizer's state
  const { bytes } = stats(backend)
  backend.resetPeak()

  run()
  const peak = stats(backend).peakBytes / stepBytes(options, parameters, N)
  assert.ok(Math.abs(peak - 1) < 0.1, `bytes at the peak over those of the formula: ${peak}`)
  assert.is(stats(backend).bytes, bytes, 'a step leaves nothing behind')
  assert.is(stats(backend).fallbacks, 0)
  dispose()
  backend.dispose()
})

test('the bytes of a step as counted without memory are those of wasm', async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const pictures = { inputSize: 16, inChannels: 4, numClasses: 5 }
  for (const family of families)
    assert.is(
      trainingBytes(family, 'tiny', 3, { pictures }),
      trainingBytes(family, 'tiny', 3, { pictures, backend }),
      family.name,
    )
  assert.is(stats(backend).bytes, 0)
  backend.dispose()
})

test.run()
