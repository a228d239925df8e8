/** The table of products: each size once, with the calls and operations of one run. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { productsOf, productTable } from '../../bench/products.ts'
import { ditBlock, ditStep, productFlops } from '../../bench/workloads.ts'
import { ready } from '../../core/index.ts'

test('the products of a DiT block, forward and backward', async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const block = ditBlock(backend, 2)
  const products = productsOf(block, 2)
  const callsOf = (op: string, size: string, batch = 1) =>
    products.find(each => each.op === op && each.size === size && each.batch === batch)?.calls
  // The first layer of the MLP: forward, and backward to its input and to its weight.
  assert.is(callsOf('linear', '128×1536×384 x wᵀ'), 1)
  assert.is(callsOf('matmul', '128×384×1536 a b'), 1)
  assert.is(callsOf('linearWeightGrad', '1536×384×128 gᵀ x'), 1)
  assert.is(callsOf('selfAttention', '64×64×64 tokens, tokens, width', 12), 1)
  const flops = products.reduce((sum, each) => sum + each.flops, 0)
  assert.is(flops, productFlops(block))
  assert.is(new Set(products.map(({ op, size, batch }) => `${op} ${size} ${batch}`)).size, products.length)
  const lines = productTable(products, 50).split('\n')
  assert.is(lines.length, 1 + products.length)
  assert.match(lines[1], /^(linear|linearWeightGrad|matmul) +\d+×\d+×\d+ .* %$/)
  block.dispose()
  backend.dispose()
})

test('products of one size are one row', async () => {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const step = ditStep(backend, 1)
  const blocks = 12
  const mlp = productsOf(step, 1).find(({ size }) => size === '64×1536×384 x wᵀ')
  assert.is(mlp?.calls, blocks)
  step.dispose()
  backend.dispose()
})

test.run()
