/** Solutions of docs/tour/6-layers.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, gradients, layerNorm, mul, rng, square, sub, sum } from '../../core/index.ts'
import { DiTBlock } from '../../models/index.ts'
import { AdamW, relativePositions } from '../../nn/index.ts'
import { f64, near, normal, values } from '../near.ts'

test('1: a new block is the identity, and learns not to be', () => {
  const block = new DiTBlock({ hiddenSize: 8, numHeads: 2 }, { rng: rng(1), ...f64 })
  const [x, c] = [normal(2, 2, 3, 8), normal(3, 2, 8)]
  assert.equal(values(block.forward(x, c)), values(x))

  backward(sum(square(sub(block.forward(x, c), normal(4, 2, 3, 8)))))
  new AdamW(block.namedParameters(), { lr: 1e-3 }).step()
  assert.not.equal(values(block.forward(x, c)), values(x))
})

test('2: 2 × 3 tokens have 15 offsets', () => {
  const [rows, columns] = [2, 3]
  const T = rows * columns
  const pairs = relativePositions(
    Array.from({ length: T }, (_, i) => i),
    T,
    [rows, columns],
  )
  // Rows differ by −1, 0 or 1, columns by −2 … 2, and every combination occurs.
  assert.is(new Set(pairs).size, (2 * rows - 1) * (2 * columns - 1))
})

test('3: the gradient of a layer norm is orthogonal to the ones and to x̂', () => {
  // Neither adding a constant to all channels nor stretching them about their mean changes x̂ (with eps = 0).
  const [x, k] = [normal(1, 1, 7).requireGrad(), normal(2, 1, 7)]
  const unit = layerNorm(x, null, null, 0)
  const [gx] = gradients(sum(mul(unit, k)), [x], { retainGraph: true })
  near(values(sum(gx)), [0], 1e-12, 'ones')
  near(values(sum(mul(gx, unit))), [0], 1e-12, 'x̂')
})

test.run()
