/**
 * Multi-head self-attention over tokens, and the relative position bias that MDT adds to its logits. Where only some
 * tokens are kept, the bias is that between the kept ones. The arithmetic is core/ops/attention.ts.
 */

import { aCount, aFunction, check, checkOptions, checkTensor, integers, numbers } from '../core/arguments.ts'
import { embedding, permute, selfAttention, type Tensor, tensor } from '../core/index.ts'
import { createTensor } from '../core/tensor.ts'
import { atCaller } from '../core/traceback.ts'
import { type Init, type Initializer, normal } from './init.ts'
import { aGrid, checkLayer } from './layer-arguments.ts'
import { Linear } from './linear.ts'
import { buffer, Module, parameter } from './module.ts'

/** Rows and columns of a grid of tokens, which are numbered row by row. */
export type Grid = readonly [rows: number, columns: number]

/**
 * For each pair (i, j) of tokens of each of N lists of K tokens, the row of the bias table that their offset names:
 * (r_i − r_j + rows − 1)(2 columns − 1) + (c_i − c_j + columns − 1). tokens: N·K token numbers → N·K·K.
 */
export function relativePositions(tokens: ArrayLike<number>, K: number, grid: Grid): Int32Array {
  return offsetsOf('relativePositions', tokens, K, grid)
}

function offsetsOf(op: string, tokens: ArrayLike<number>, K: number, grid: Grid): Int32Array {
  check(op, 'tokens', tokens, integers)
  check(op, 'K', K, aCount)
  check(op, 'grid', grid, aGrid)
  const [rows, columns] = grid
  const out = new Int32Array(tokens.length * K)
  // With both coordinates in one number, offsets subtract in one step.
  const at = Int32Array.from(tokens, t => Math.floor(t / columns) * (2 * columns - 1) + (t % columns))
  const middle = (rows - 1) * (2 * columns - 1) + columns - 1
  for (let i = 0; i < at.length; i++) {
    const first = i - (i % K)
    for (let j = 0; j < K; j++) out[i * K + j] = at[i] - at[first + j] + middle
  }
  return out
}

/** A learned number per head and offset between two tokens of a grid. [MDT §3.3] */
export class RelativePositionBias extends Module {
  /** ((2 rows − 1)(2 columns − 1) + 3, h); the last three rows belong to a class token, which MDT has not. */
  readonly relative_position_bias_table: Tensor
  /** (T, T) i32: the row of the table for each pair of tokens. */
  readonly relative_position_index: Tensor

  constructor(grid: Grid, heads: number, init: Init) {
    super()
    check('RelativePositionBias', 'grid', grid, aGrid)
    checkLayer('RelativePositionBias', { heads }, init)
    const [rows, columns] = grid
    const T = rows * columns
    const offsets = (2 * rows - 1) * (2 * columns - 1) + 3
    const index = relativePositions(
      Int32Array.from({ length: T }, (_, i) => i),
      T,
      grid,
    )
    this.relative_position_bias_table = parameter(normal(0.02)([offsets, heads], init))
    this.relative_position_index = buffer(tensor(index, { shape: [T, T], dtype: 'i32', backend: init.backend }))
  }

  /** The bias between all tokens, (h, T, T), or with `pairs` i32 (N, K, K) as `keptPairs` makes them, (N, h, K, K). */
  forward(pairs: Tensor | null = null): Tensor {
    const bias = embedding(this.relative_position_bias_table, pairs ?? this.relative_position_index)
    return permute(bias, pairs === null ? [2, 0, 1] : [0, 3, 1, 2])
  }
}

/**
 * Pair indices of kept tokens for `RelativePositionBias` and `Attention`: ids N·K token numbers → i32 (N, K, K). All
 * blocks of a model share them, so they are computed once per forward pass.
 */
export function keptPairs(
  ids: ArrayLike<number>,
  sizes: readonly [N: number, K: number],
  grid: Grid,
  like: Tensor,
): Tensor {
  check('keptPairs', 'sizes', sizes, numbers)
  checkTensor('keptPairs', 'like', like)
  const [N, K] = sizes
  return createTensor('keptPairs', offsetsOf('keptPairs', ids, K, grid), {
    shape: [N, K, K],
    dtype: 'i32',
    backend: like.backend,
  })
}

/** Options of an attention. */
export interface AttentionOptions {
  /** Adds a relative position bias over this grid of tokens. */
  readonly grid?: Grid
  readonly weight?: Initializer
}

/** softmax(q kᵀ/√d + bias) v per head, between two linear layers. [Attention §3.2] */
export class Attention extends Module {
  readonly qkv: Linear
  readonly proj: Linear
  readonly rel_pos_bias: RelativePositionBias | null
  readonly heads: number

  constructor(D: number, heads: number, init: Init, options: AttentionOptions = {}) {
    super()
    checkLayer('Attention', { D, heads }, init)
    checkOptions('Attention', options, { grid: aGrid, weight: aFunction })
    const { grid, weight } = options
    if (D % heads !== 0)
      throw atCaller(new RangeError(`Attention: expected a width divisible by ${heads} heads, got ${D}`))
    this.heads = heads
    this.qkv = new Linear(D, 3 * D, init, { weight })
    this.proj = new Linear(D, D, init, { weight })
    this.rel_pos_bias = grid === undefined ? null : new RelativePositionBias(grid, heads, init)
  }

  /** x (N, T, D) → (N, T, D). With a bias, x of kept tokens (N, K, D) needs `pairs` as `keptPairs` makes them. */
  forward(x: Tensor, pairs: Tensor | null = null): Tensor {
    const bias = this.rel_pos_bias?.forward(pairs) ?? null
    const y = selfAttention(this.qkv.forward(x), bias, this.heads) // (N, T, D)
    return this.proj.forward(y)
  }
}
