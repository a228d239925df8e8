/** Token masks: partitions that can be undone, ties, and how many tokens are kept. */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { concat, cpu, full, gatherRows, rng, type Shape, scatterRows, scope } from '../../core/index.ts'
import { keptTokens, tokenMask } from '../../diffusion/index.ts'
import { f64, near } from '../near.ts'

test('masks: kept and removed tokens are a partition, and restoring undoes the shuffle', () => {
  const cases = fc.tuple(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: 40 }),
    fc.double({ min: 0, max: 0.99, noNaN: true }),
    fc.nat(),
  )
  fc.assert(
    fc.property(cases, ([N, T, ratio, seed]) => {
      const noise = rng(seed).uniformArray(N * T)
      scope(() => {
        const { kept, hostIdsKeep, idsKeep, idsRestore, mask } = tokenMask(noise, [N, T], ratio, { backend: cpu })
        assert.is(kept, Math.trunc(T * (1 - ratio)))
        const shapes: Shape[] = [idsKeep.shape, idsRestore.shape, mask.shape]
        assert.equal(shapes, [
          [N, kept],
          [N, T],
          [N, T],
        ])
        assert.equal(idsKeep.dataSync(), hostIdsKeep)
        const [restore, removed] = [idsRestore.dataSync(), mask.dataSync()]
        for (let n = 0; n < N; n++) {
          const row = [...hostIdsKeep.subarray(n * kept, (n + 1) * kept)]
          row.forEach((id, k) => {
            assert.is(restore[n * T + id], k)
            assert.is(removed[n * T + id], 0)
            assert.ok(k === 0 || noise[n * T + row[k - 1]] <= noise[n * T + id], 'in the order of the noise')
          })
          const ranks = [...restore.subarray(n * T, (n + 1) * T)]
          assert.equal(
            ranks.toSorted((a, b) => a - b),
            ranks.map((_, i) => i),
          )
          assert.is(ranks.filter((_, i) => removed[n * T + i] === 1).length, T - kept)
        }
        if (kept === 0) return
        // Kept tokens, filled up with others and put back in order, stand where they stood.
        const tokens = rng(seed + 1).normal([N, T, 2], f64)
        const padded = concat([gatherRows(tokens, idsKeep), full([N, T - kept, 2], 9, f64)], 1)
        const restored = gatherRows(kept === T ? gatherRows(tokens, idsKeep) : padded, idsRestore)
        const [got, want] = [restored.dataSync(), tokens.dataSync()]
        for (let i = 0; i < got.length; i++) assert.is(got[i], removed[i >> 1] ? 9 : want[i])
        near(scatterRows(full([N, T, 2], 9, f64), idsKeep, gatherRows(tokens, idsKeep)), restored, 1e-12, 'scattered')
      })
    }),
  )
})

test('masks: ties go to the lower position, and the number of kept tokens is cut', () => {
  scope(() => {
    const { hostIdsKeep, mask } = tokenMask([0.5, 0.5, 0.1, 0.5, 0.5], [1, 5], 0.4, { backend: cpu })
    assert.equal([...hostIdsKeep], [2, 0, 1])
    assert.equal([...mask.dataSync()], [0, 0, 0, 1, 1])
  })
  assert.is(keptTokens(10, 0.9), 0) // 10 (1 − 0.9) is just below 1
  assert.is(keptTokens(256, 0.3), 179)
  assert.is(keptTokens(16, 0), 16)
})

test.run()
