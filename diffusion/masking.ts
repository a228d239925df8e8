/**
 * Random token masks, as MAE, MDT and MaskDiT draw them: tokens are ordered by noise, the first K are kept. [MDT §3.2]
 * Integer arithmetic on the host; the tensors are i32 and feed gatherRows and where. Masked models keep the tokens in the
 * order of the noise, not of the picture: positions are added before.
 */

import { aBackend, aSize, check, checkFields, describe, type Kind, numbers } from '../core/arguments.ts'
import { type Backend, ShapeError, type Tensor, tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'

/** Which of T tokens are kept, per sample; the tensors are i32. */
export interface TokenMask {
  /** K, the same for all samples. */
  readonly kept: number
  /** `idsKeep` on the host: N·K numbers. */
  readonly hostIdsKeep: Int32Array
  /** (N, K): positions of the kept tokens, in the order of the noise. */
  readonly idsKeep: Tensor
  /** (N, T): where each position's token went in that order; below K it was kept. Undoes the shuffle. */
  readonly idsRestore: Tensor
  /** (N, T): 1 where the token was removed, 0 where it was kept. */
  readonly mask: Tensor
}

/** ⌊T (1 − ratio)⌋ tokens are kept: none of 10 at ratio 0.9, as 1 − 0.9 is just below 0.1. Throws RangeError. */
export function keptTokens(T: number, ratio: number): number {
  return tokensKept('keptTokens', T, ratio)
}

function tokensKept(op: string, T: number, ratio: number): number {
  check(op, 'T', T, aSize)
  if (!(typeof ratio === 'number' && ratio >= 0 && ratio < 1))
    throw atCaller(new RangeError(`${op}: ratio: expected a number in [0, 1), got ${describe(ratio)}`))
  return Math.trunc(T * (1 - ratio))
}

/**
 * The mask of noise (N·T numbers, row by row; ties go to the lower position): the ⌊T (1 − ratio)⌋ tokens of least noise
 * are kept. Throws RangeError on a ratio outside [0, 1), ShapeError on noise of another length.
 */
export function tokenMask(
  noise: ArrayLike<number>,
  size: readonly [N: number, T: number],
  ratio: number,
  options: { readonly backend?: Backend } = {},
): TokenMask {
  check('tokenMask', 'size', size, aSizeOfTokens)
  return maskOf('tokenMask', noise, size, tokensKept('tokenMask', size[1], ratio), options)
}

/** The mask that keeps the K tokens of least noise. Throws ShapeError as above. */
export function keepLeast(
  noise: ArrayLike<number>,
  size: readonly [N: number, T: number],
  K: number,
  options: { readonly backend?: Backend } = {},
): TokenMask {
  check('keepLeast', 'size', size, aSizeOfTokens)
  check('keepLeast', 'K', K, aSize)
  return maskOf('keepLeast', noise, size, K, options)
}

const aSizeOfTokens: Kind = {
  expected: '[N, T]',
  accepts: value => Array.isArray(value) && value.length === 2 && value.every(aSize.accepts),
}

function maskOf(
  op: string,
  noise: ArrayLike<number>,
  [N, T]: readonly [N: number, T: number],
  K: number,
  options: { readonly backend?: Backend },
): TokenMask {
  check(op, 'noise', noise, numbers)
  checkFields(op, options, { backend: aBackend })
  const { backend } = options
  if (K > T) throw new ShapeError(`${op}: expected at most ${T} kept tokens, got ${K}`)
  if (noise.length !== N * T)
    throw new ShapeError(`${op}: expected noise for ${N} samples of ${T} tokens, got ${noise.length} numbers`)
  const keep = new Int32Array(N * K)
  const restore = new Int32Array(N * T)
  const mask = new Int32Array(N * T)
  for (let n = 0; n < N; n++) {
    const order = Int32Array.from({ length: T }, (_, position) => position)
    order.sort((a, b) => noise[n * T + a] - noise[n * T + b] || a - b)
    order.forEach((position, rank) => {
      restore[n * T + position] = rank
      if (rank < K) keep[n * K + rank] = position
      else mask[n * T + position] = 1
    })
  }
  const make = (data: Int32Array, width: number) => tensor(data, { shape: [N, width], dtype: 'i32', backend })
  return { kept: K, hostIdsKeep: keep, idsKeep: make(keep, K), idsRestore: make(restore, T), mask: make(mask, T) }
}
