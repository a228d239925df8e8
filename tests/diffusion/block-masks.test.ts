/**
 * Patch, block and crop masks: how many tokens each keeps and which, and that every draw is one the official generators
 * could have made.
 */

import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng } from '../../core/index.ts'
import {
  cropFlags,
  cropSize,
  keptPatches,
  type Masking,
  maskOfFlags,
  removedBlocks,
  removedTokens,
  sampleMask,
  spreadBlocks,
} from '../../diffusion/block-masks.ts'
import { keptTokens, type TokenMask } from '../../diffusion/masking.ts'
import type { Grid } from '../../nn/index.ts'
import { values } from '../near.ts'

const place = { backend: cpu }
const ratio = fc.double({ min: 0, max: 0.95, noNaN: true })
const side = fc.integer({ min: 1, max: 9 })
const seed = fc.integer({ min: 0, max: 1000 })
const N = 3

/** Checks the invariants of all masks; returns the flags of each picture. */
function checked(mask: TokenMask, [rows, columns]: Grid, kept: number): number[][] {
  const T = rows * columns
  assert.is(mask.kept, kept)
  assert.equal(
    [mask.mask.shape, mask.idsKeep.shape, mask.idsRestore.shape],
    [
      [N, T],
      [N, kept],
      [N, T],
    ],
  )
  const flags = values(mask.mask)
  const keep = values(mask.idsKeep)
  const restore = values(mask.idsRestore)
  assert.equal([...mask.hostIdsKeep], keep)
  return Array.from({ length: N }, (_, n) => {
    const own = flags.slice(n * T, (n + 1) * T)
    // Kept ones in the order of their positions, then the removed ones in theirs: a permutation and its inverse.
    const order = [0, 1].flatMap(flag => own.flatMap((f, i) => (f === flag ? [i] : [])))
    assert.equal(keep.slice(n * kept, (n + 1) * kept), order.slice(0, kept))
    for (const [rank, position] of order.entries()) assert.is(restore[n * T + position], rank)
    return own
  })
}

test('patches: ⌊ratio T⌋ of each picture are removed', () => {
  fc.assert(
    fc.property(side, side, ratio, seed, (rows, columns, ratio, seed) => {
      const T = rows * columns
      const removed = Math.trunc(ratio * T)
      const mask = sampleMask({ way: 'patch', ratio }, N, [rows, columns], rng(seed), place)
      for (const own of checked(mask, [rows, columns], T - removed))
        assert.is(
          own.reduce((a, b) => a + b, 0),
          removed,
        )
    }),
    { seed: 1 },
  )
})

test('blocks: whole ones only, ⌊⌊ratio T⌋/size²⌋ of each picture', () => {
  const small = fc.integer({ min: 1, max: 4 })
  fc.assert(
    fc.property(small, small, small, ratio, seed, (down, across, size, ratio, seed) => {
      const [rows, columns] = [down * size, across * size]
      const removed = Math.floor(Math.trunc(ratio * rows * columns) / size ** 2)
      const mask = sampleMask({ way: 'block', ratio, size }, N, [rows, columns], rng(seed), place)
      for (const own of checked(mask, [rows, columns], rows * columns - removed * size ** 2))
        for (let r = 0; r < rows; r++)
          for (let c = 0; c < columns; c++) {
            const corner = (r - (r % size)) * columns + c - (c % size)
            assert.is(own[r * columns + c], own[corner], `token (${r}, ${c}) and its block`)
          }
    }),
    { seed: 2 },
  )
})

test('crops: a square is kept, wherever it fits', () => {
  fc.assert(
    fc.property(side, side, side, seed, (rows, columns, wanted, seed) => {
      const size = Math.min(rows, columns, wanted)
      const mask = sampleMask({ way: 'crop', size }, N, [rows, columns], rng(seed), place)
      for (const own of checked(mask, [rows, columns], size ** 2)) {
        const first = own.indexOf(0)
        const [top, left] = [Math.floor(first / columns), first % columns]
        assert.ok(top + size <= rows && left + size <= columns)
        own.forEach((flag, i) => {
          const [down, right] = [Math.floor(i / columns) - top, (i % columns) - left]
          assert.is(flag, down >= 0 && down < size && right >= 0 && right < size ? 0 : 1)
        })
      }
    }),
    { seed: 3 },
  )
})

test('every place is drawn about equally often, and pictures of a batch have masks of their own', () => {
  const draws = 3000
  const ways: readonly [Masking, (token: number) => number][] = [
    [{ way: 'patch', ratio: 0.5 }, () => 0.5],
    [{ way: 'block', ratio: 0.5, size: 2 }, () => 0.5],
    // Of the 3 × 3 places of a 2 × 2 square on 4 × 4 tokens, a corner is in 1, an edge in 2, the middle in 4.
    [{ way: 'crop', size: 2 }, token => 1 - ([1, 2, 2, 1][token >> 2] * [1, 2, 2, 1][token % 4]) / 9],
  ]
  for (const [masking, wanted] of ways) {
    const flags = values(sampleMask(masking, draws, [4, 4], rng(4), place).mask)
    const removed = new Float64Array(16)
    flags.forEach((flag, i) => {
      removed[i % 16] += flag / draws
    })
    removed.forEach((share, token) => {
      assert.ok(Math.abs(share - wanted(token)) < 0.05, `${masking.way}: token ${token} removed in ${share}`)
    })
    const pictures = Array.from({ length: draws }, (_, n) => flags.slice(16 * n, 16 * (n + 1)).join(''))
    assert.ok(new Set(pictures).size >= 6, `${masking.way}: ${new Set(pictures).size} masks`)
  }
})

test('the same stream gives the same masks', () => {
  for (const masking of [
    { way: 'patch', ratio: 0.7 },
    { way: 'block', ratio: 0.7, size: 2 },
    { way: 'crop', size: 3 },
  ] as const) {
    const draw = (seed: number) => values(sampleMask(masking, 4, [6, 6], rng(seed), place).mask)
    assert.equal(draw(5), draw(5))
    assert.not.equal(draw(5), draw(6))
  }
})

test('the removed ones are counted, not the kept ones', () => {
  assert.is(removedTokens(10, 0.9), 9) // one stays, where masking.ts keeps none
  assert.is(keptTokens(10, 0.9), 0)
  assert.is(removedTokens(256, 0.9), 230)
  assert.is(removedTokens(5, 0.1), 0)
  assert.is(removedBlocks([16, 16], 0.9, 4), 14)
  assert.is(removedBlocks([64, 64], 0.9, 4), 230)
  assert.is(keptPatches({ way: 'block', ratio: 0.9, size: 4 }, [16, 16]), 32)
})

test('crop sizes: those of the official configurations, and at any rate the largest that removes enough', () => {
  assert.equal(
    [0.1, 0.5, 0.9].map(ratio => cropSize([16, 16], ratio)),
    [15, 11, 5],
  )
  fc.assert(
    fc.property(side, side, ratio, (rows, columns, ratio) => {
      const size = cropSize([rows, columns], ratio)
      const enough = (s: number) => rows * columns - s * s >= removedTokens(rows * columns, ratio)
      assert.ok(size >= 1 && size <= Math.min(rows, columns))
      assert.ok(size === 1 || enough(size))
      assert.ok(size === Math.min(rows, columns) || !enough(size + 1))
    }),
    { seed: 4 },
  )
})

test('masks from given draws', () => {
  const grid: Grid = [4, 4]
  assert.equal(
    [...spreadBlocks([0, 1, 1, 0], 1, grid, 2)],
    [
      [0, 0, 1, 1],
      [0, 0, 1, 1],
      [1, 1, 0, 0],
      [1, 1, 0, 0],
    ].flat(),
  )
  assert.equal([...cropFlags([0, 1], 1, [3, 3], 2)], [1, 0, 0, 1, 0, 0, 1, 1, 1])
  assert.equal([...cropFlags([1, 0, 0, 0], 2, [2, 2], 1)], [1, 1, 0, 1, 0, 1, 1, 1])
})

test('bad settings are one line that says what was wanted and what came', () => {
  const draw =
    (masking: Masking, grid: Grid = [4, 4]) =>
    () =>
      sampleMask(masking, 2, grid, rng(0), place)
  const wrong: readonly [() => unknown, RegExp][] = [
    [draw({ way: 'patch', ratio: 1 }), /^sampleMask: ratio: expected a number in \[0, 1\), got 1$/],
    [draw({ way: 'patch', ratio: -0.1 }), /ratio: .*got -0\.1$/],
    [draw({ way: 'block', ratio: Number.NaN, size: 2 }), /ratio: .*got NaN$/],
    [draw({ way: 'block', ratio: 0.5, size: 8 }), /^sampleMask: block size: expected an integer in \[1, 4\], got 8$/],
    [draw({ way: 'block', ratio: 0.5, size: 0 }), /block size: .*got 0$/],
    [
      draw({ way: 'block', ratio: 0.5, size: 3 }),
      /^sampleMask: block size: expected one that divides a grid of 4×4, got 3$/,
    ],
    [draw({ way: 'block', ratio: 0.5, size: 2 }, [4, 3]), /divides a grid of 4×3, got 2$/],
    [draw({ way: 'crop', size: 5 }), /^sampleMask: crop size: expected an integer in \[1, 4\], got 5$/],
    [draw({ way: 'crop', size: 1.5 }), /crop size: .*got 1\.5$/],
    [() => spreadBlocks([0, 1, 0], 1, [4, 4], 2), /^spreadBlocks: expected 4 blocks for each of 1 pictures, got 3$/],
    [() => cropFlags([0, 1, 0], 2, [4, 4], 2), /^cropFlags: expected row and column of 2 corners, got 3 numbers$/],
    [() => maskOfFlags([0, 1, 1, 1, 0, 0], [2, 3], place), /^maskOfFlags: expected equally many kept .*, got 1, 2$/],
    [() => maskOfFlags([1, 1], [1, 2], place), /^maskOfFlags: expected equally many kept .*, got 0$/],
    [() => maskOfFlags([0, 1, 1], [2, 2], place), /^maskOfFlags: expected flags for 2 pictures of 2 tokens, got 3$/],
  ]
  for (const [run, message] of wrong) assert.throws(run, message)
})

test.run()
