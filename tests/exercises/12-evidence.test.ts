/** Solutions of docs/tour/12-evidence.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, mean, reshape, rng, square, sub, where, zeros } from '../../core/index.ts'
import { tokenMask } from '../../diffusion/index.ts'

test('1: a masked step of MaskDiT-S/2 with the official decoder', () => {
  // Products of a block: 4 D² in attention and 8 D² in the MLP for every token, 2 T D for every token's pairs.
  const block = (D: number, T: number) => T * (12 * D * D + 2 * T * D)
  const [T, kept] = [256, 128]
  const DiT = 12 * block(384, T)
  const masked = 12 * block(384, kept) + 8 * block(512, T)
  assert.ok(Math.abs(masked / DiT - 1.64) < 0.02, `${masked / DiT}`)
})

test('2: nothing to be known about a share ρ of the noise leaves a loss of ρ', () => {
  const [N, T, width] = [64, 20, 48]
  const { mask, kept } = tokenMask(rng(1).uniformArray(N * T), [N, T], 0.3, { backend: cpu })
  assert.is(kept, 14)
  const noise = rng(2).normal([N, T, width], { backend: cpu })
  const predicted = where(reshape(mask, [N, T, 1]), zeros([], { backend: cpu }), noise) // 0 where removed
  const loss = mean(square(sub(noise, predicted))).dataSync()[0]
  // 18,432 squares of mean 1 and variance 2, among 61,440.
  assert.ok(Math.abs(loss - 0.3) < 0.3 * 4 * Math.sqrt(2 / (N * 6 * width)), `${loss}`)
})

test.run()
