/** Solutions of docs/tour/9-masks.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { add, rng } from '../../core/index.ts'
import { tokenMask } from '../../diffusion/index.ts'
import { MDT } from '../../models/index.ts'
import { maskedReconstruction } from '../../models/maskdit-loss.ts'
import { f64, near, normal } from '../near.ts'

const pictures = { inputSize: 4, patchSize: 2, inChannels: 1 }

test('1: where every token was kept, the side-interpolator has no say', () => {
  const options = { ...pictures, hiddenSize: 8, depth: 3, numHeads: 2, numClasses: 0, decodeLayer: 1, maskRatio: 0 }
  const model = new MDT(options, { rng: rng(1), ...f64 })
  const randomize = (seed: number, only: string) =>
    model.loadStateDict(
      new Map(
        [...model.stateDict()]
          .filter(([name, { dtype }]) => name.startsWith(only) && dtype === 'f64')
          .map(([name, { shape }], i) => [name, normal(seed + i, ...shape)]),
      ),
      { strict: false },
    )
  randomize(100, '')
  const [x, t] = [normal(2, 2, 1, 4, 4), [7, 900]]
  const mask = model.sampleMask(2, rng(3))
  assert.is(mask.kept, 4)
  const before = model.forward(x, t, null, mask)
  near(before, model.forward(x, t), 1e-10, 'as without a mask')
  randomize(500, 'sideblocks')
  near(model.forward(x, t, null, mask), before, 0, 'whatever its weights')
})

test('2: how bright the picture is does not matter to the reconstruction', () => {
  // The target is the patch's pattern; its mean could be read off its neighbours.
  const mask = tokenMask(rng(4).uniformArray(8), [2, 4], 0.5, f64)
  const [denoised, noised] = [normal(5, 2, 1, 4, 4), normal(6, 2, 1, 4, 4)]
  const loss = (brighter: number) => maskedReconstruction(denoised, add(noised, brighter), mask, 2)
  near(loss(3), loss(0), 1e-12, 'brighter')
})

test.run()
