/** Solutions of docs/tour/7-dit.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createShapes, gatherRows, rng, scope, type Tensor, tensor } from '../../core/index.ts'
import { DiT, ditPreset } from '../../models/index.ts'
import { f64, near, normal } from '../near.ts'

test('1: the parameters of DiT-S/2, counted by hand', () => {
  const [D, P, C, classes, depth] = [384, 2, 4, 1000, 12]
  const linear = (from: number, to: number) => from * to + to
  const block = linear(D, 3 * D) + linear(D, D) + linear(D, 4 * D) + linear(4 * D, D) + linear(D, 6 * D)
  const embedders = linear(P * P * C, D) + linear(256, D) + linear(D, D) + (classes + 1) * D
  const final = linear(D, P * P * 2 * C) + linear(D, 2 * D)
  const model = new DiT(ditPreset('S/2', { inputSize: 32, inChannels: C, numClasses: classes }), {
    rng: null,
    backend: createShapes(),
  })
  assert.is(model.countParameters().trainable, depth * block + embedders + final)
  assert.ok(Math.abs((depth * 18 * D * D) / (depth * block) - 1) < 0.01)
})

test('2: tokens in another order, with their positions, come out in that order', () => {
  const options = { inputSize: 4, patchSize: 2, inChannels: 1, hiddenSize: 8, depth: 2, numHeads: 2, numClasses: 0 }
  const model = new DiT(options, { rng: rng(1), ...f64 })
  model.loadStateDict(new Map([...model.stateDict()].map(([name, { shape }], i) => [name, normal(i, ...shape)])))
  const [N, T] = [2, 4]
  const c = model.condition(N, [10, 500], null)
  const run = (tokens: Tensor) =>
    scope(() => {
      let x = tokens
      for (const block of model.blocks) x = block.forward(x, c)
      return model.final_layer.forward(x, c)
    })
  const order = tensor([2, 0, 3, 1, 2, 0, 3, 1], { shape: [N, T], dtype: 'i32', backend: f64.backend })
  const tokens = model.embed(normal(9, N, 1, 4, 4)) // positions are in them
  near(run(gatherRows(tokens, order)), gatherRows(run(tokens), order), 1e-10, 'permuted')
})

test.run()
