/** What the benchmark says a step costs, against what the ops of a step really are. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { stepBytes, stepFlops } from '../../bench/cost.ts'
import { trainingBytes } from '../../bench/memory.ts'
import { trainer } from '../../bench/step.ts'
import { profile, ready, stats } from '../../core/index.ts'

test("the formulas for MDT's step agree with its products, and with its bytes at the peak", async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const N = 32
  const { run, options, parameters, dispose } = trainer('tiny', N)
  run() // makes the optimizer's state
  const { bytes } = stats(backend)
  backend.resetPeak()

  const rows = new Map(profile(run).map(row => [row.op, row.flops]))
  // Attention's gradient computes its logits again: 5 products, of which the formula counts the 4 of a gradient.
  const products =
    rows.get('matmul')! + rows.get('linear')! + rows.get('selfAttention')! + (4 / 5) * rows.get('selfAttentionGrad')!
  const counted = products / stepFlops(options, N)
  assert.ok(counted > 0.99 && counted <= 1, `products of the step over those of the formula: ${counted}`)

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
  for (const family of ['DiT', 'MDT', 'MDTv2', 'MaskDiT'])
    assert.is(
      trainingBytes(family, 'tiny', 3, { pictures }),
      trainingBytes(family, 'tiny', 3, { pictures, backend }),
      family,
    )
  assert.is(stats(backend).bytes, 0)
  backend.dispose()
})

test.run()
