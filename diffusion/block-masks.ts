/**
 * The three ways in which MaskDM hides patches [MaskDM §4.2]: single patches, square blocks of them, or all but one
 * square (a crop). Unlike masking.ts, where the kept tokens are counted, the official generators count the removed ones:
 * ⌊ratio · T⌋. Tokens stay in the order of their positions, row by row. Every picture has a mask of its own, and all keep
 * equally many. Read masking.ts first; next: models/maskdm.ts.
 */

import { aBackend, anObject, aSize, check, checkFields, describe, oneOf } from '../core/arguments.ts'
import { type Backend, type Rng, ShapeError } from '../core/index.ts'
import { aStream } from '../core/random.ts'
import { atCaller } from '../core/traceback.ts'
import type { Grid } from '../nn/index.ts'
import { aGrid } from '../nn/layer-arguments.ts'
import { keepLeast, type TokenMask } from './masking.ts'
import { checkCount } from './per-sample.ts'

/** A way to hide patches. `size` is the side, in patches, of a block that is hidden, or of the square that a crop keeps. */
export type Masking =
  | { readonly way: 'patch'; readonly ratio: number }
  | { readonly way: 'block'; readonly ratio: number; readonly size: number }
  | { readonly way: 'crop'; readonly size: number }

/** ⌊ratio · T⌋, the number of T tokens that are removed. Throws RangeError on a ratio outside [0, 1). */
export function removedTokens(T: number, ratio: number): number {
  checkCount('removedTokens', 'T', T, 0)
  return tokensRemoved('removedTokens', T, ratio)
}

function tokensRemoved(op: string, T: number, ratio: number): number {
  if (!(typeof ratio === 'number' && ratio >= 0 && ratio < 1))
    throw atCaller(new RangeError(`${op}: ratio: expected a number in [0, 1), got ${describe(ratio)}`))
  return Math.trunc(ratio * T)
}

/** ⌊⌊ratio · T⌋ / size²⌋, the number of blocks that are removed. Throws RangeError on a block that does not fit the grid. */
export function removedBlocks(grid: Grid, ratio: number, size: number): number {
  check('removedBlocks', 'grid', grid, aGrid)
  return blocksRemoved('removedBlocks', grid, ratio, size)
}

function blocksRemoved(op: string, [rows, columns]: Grid, ratio: number, size: number): number {
  checkCount(op, 'block size', size, 1, Math.min(rows, columns))
  if (rows % size !== 0 || columns % size !== 0)
    throw atCaller(
      new RangeError(`${op}: block size: expected one that divides a grid of ${rows}×${columns}, got ${size}`),
    )
  return Math.trunc(tokensRemoved(op, rows * columns, ratio) / size ** 2)
}

/**
 * The side of the largest square whose crop removes at least a share `ratio` of the grid, but 1 at least: the 15, 11 and 5
 * of the official configurations for 10, 50 and 90 % of 16×16. Throws RangeError on a ratio outside [0, 1).
 */
export function cropSize(grid: Grid, ratio: number): number {
  check('cropSize', 'grid', grid, aGrid)
  const [rows, columns] = grid
  const kept = rows * columns - tokensRemoved('cropSize', rows * columns, ratio)
  return Math.max(1, Math.min(rows, columns, Math.floor(Math.sqrt(kept))))
}

/** Number of the grid's tokens that a way of masking keeps, in every picture. Throws RangeError on settings that do not fit. */
export function keptPatches(masking: Masking, grid: Grid): number {
  return patchesKept('keptPatches', masking, grid)
}

const aWay = oneOf(['patch', 'block', 'crop'])

/** `keptPatches` in the name of another function. */
export function patchesKept(op: string, masking: Masking, grid: Grid): number {
  check(op, 'masking', masking, anObject)
  check(op, 'way', masking.way, aWay)
  check(op, 'grid', grid, aGrid)
  const T = grid[0] * grid[1]
  if (masking.way === 'patch') return T - tokensRemoved(op, T, masking.ratio)
  if (masking.way === 'block') return T - blocksRemoved(op, grid, masking.ratio, masking.size) * masking.size ** 2
  checkCount(op, 'crop size', masking.size, 1, Math.min(...grid))
  return masking.size ** 2
}

/** Masks for N pictures. Throws RangeError on settings that do not fit the grid. */
export function sampleMask(
  masking: Masking,
  N: number,
  grid: Grid,
  rng: Rng,
  options: { readonly backend?: Backend } = {},
): TokenMask {
  const kept = patchesKept('sampleMask', masking, grid)
  check('sampleMask', 'N', N, aSize)
  check('sampleMask', 'rng', rng, aStream)
  checkFields('sampleMask', options, { backend: aBackend })
  const [rows, columns] = grid
  const T = rows * columns
  if (masking.way === 'patch') return maskOfFlags(sampleFlags(N, T, T - kept, rng), [N, T], options)
  const { size } = masking
  if (masking.way === 'block') {
    const blocks = sampleFlags(N, T / size ** 2, (T - kept) / size ** 2, rng)
    return maskOfFlags(spreadBlocks(blocks, N, grid, size), [N, T], options)
  }
  const corners = new Int32Array(2 * N)
  for (const [i, bound] of [rows, columns].entries())
    rng.integersArray(0, bound - size + 1, N).forEach((corner, n) => {
      corners[2 * n + i] = corner
    })
  return maskOfFlags(cropFlags(corners, N, grid, size), [N, T], options)
}

/** For each of N pictures `removed` ones at random places among `count` numbers. */
function sampleFlags(N: number, count: number, removed: number, rng: Rng): Int32Array {
  const flags = new Int32Array(N * count)
  for (let n = 0; n < N; n++)
    for (const place of rng.permutationArray(count).subarray(0, removed)) flags[n * count + place] = 1
  return flags
}

/** A flag for each block of size² tokens, blocks row by row → the same for each token: N·T/size² numbers → N·T. */
export function spreadBlocks(blocks: ArrayLike<number>, N: number, grid: Grid, size: number): Int32Array {
  const across = grid[1] / size
  const perPicture = (grid[0] / size) * across
  if (blocks.length !== N * perPicture)
    throw new ShapeError(`spreadBlocks: expected ${perPicture} blocks for each of ${N} pictures, got ${blocks.length}`)
  return flagsBy(N, grid, (n, row, column) => {
    const block = Math.floor(row / size) * across + Math.floor(column / size)
    return blocks[n * perPicture + block] !== 0
  })
}

/** Flags that keep a square with its upper left corner at (row, column): 2N numbers, a corner per picture → N·T. */
export function cropFlags(corners: ArrayLike<number>, N: number, grid: Grid, size: number): Int32Array {
  if (corners.length !== 2 * N)
    throw new ShapeError(`cropFlags: expected row and column of ${N} corners, got ${corners.length} numbers`)
  return flagsBy(N, grid, (n, row, column) => {
    const [down, right] = [row - corners[2 * n], column - corners[2 * n + 1]]
    return !(down >= 0 && down < size && right >= 0 && right < size)
  })
}

/** 1 for each token that is removed, else 0: N·T numbers. */
function flagsBy(
  N: number,
  [rows, columns]: Grid,
  removed: (n: number, row: number, column: number) => boolean,
): Int32Array {
  const flags = new Int32Array(N * rows * columns)
  let i = 0
  for (let n = 0; n < N; n++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) flags[i++] = removed(n, row, column) ? 1 : 0
  return flags
}

/**
 * The mask of given flags (N·T numbers, row by row: 0 keeps a token, 1 removes it). Throws ShapeError unless every picture
 * keeps as many tokens as the first, and at least one.
 */
export function maskOfFlags(
  flags: ArrayLike<number>,
  [N, T]: readonly [N: number, T: number],
  options: { readonly backend?: Backend } = {},
): TokenMask {
  if (flags.length !== N * T)
    throw new ShapeError(`maskOfFlags: expected flags for ${N} pictures of ${T} tokens, got ${flags.length}`)
  const kept = new Int32Array(N)
  for (let i = 0; i < flags.length; i++) if (flags[i] === 0) kept[Math.floor(i / T)]++
  if (kept[0] === 0 || kept.some(count => count !== kept[0]))
    throw new ShapeError(`maskOfFlags: expected equally many kept tokens in every picture, got ${kept.join(', ')}`)
  return keepLeast(flags, [N, T], kept[0], options)
}
