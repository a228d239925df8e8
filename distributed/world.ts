/**
 * The world of a job: its processes, called ranks, and what they do together. The shape is that of MLX's `mx.distributed`.
 * Runs anywhere; ranks.ts implements it over MPI.
 */

import type { Tensor } from '../core/tensor.ts'

/** All ranks of a job. Every rank must make the same calls in the same order. */
export interface World {
  /** Number of this process, from 0. */
  readonly rank: number
  /** Number of processes. */
  readonly size: number
  /** True on rank 0, which locks, writes and prints. */
  readonly first: boolean
  /** Size and MPI library; null without a launcher. */
  readonly about: string | null
  /**
   * Replaces each tensor, of any shape, by its sum over the ranks. The sum is a pairwise tree in the order of ranks, so all
   * ranks have the same bytes. Throws an error unless the tensors are f32 on the wasm backend.
   */
  allSum(tensors: readonly Tensor[]): void
  /** Replaces each tensor, of any shape, by the one of rank `from`, 0 by default. Throws as `allSum`. */
  broadcast(tensors: readonly Tensor[], from?: number): void
  /** Returns true if the flag is true on any rank. */
  any(flag: boolean): boolean
  /** Returns the value of rank `from`, 0 by default, as JSON carries it; undefined becomes null. */
  agreed<T>(value: T, from?: number): T
  /** Returns the arrays of all ranks, in the order of ranks. Their lengths may differ. */
  gather(values: Float32Array): Float32Array[]
  /** Waits for all ranks without using a core. */
  barrier(): Promise<void>
  /**
   * Runs `work` on rank 0 while the others wait without using a core. Every call of `alive` restarts their timeout. Resolves
   * to the result of `work`; on other ranks to undefined.
   */
  onFirst<T>(work: (alive: () => void) => Promise<T>): Promise<T | undefined>
  /** Ends all ranks at once, with this exit code. */
  abort(code: number): never
  /** Leaves the job in good order; the last call of every rank. A process that exits without it ends all ranks. */
  end(): void
}

/** The world of one process without a launcher. */
export const alone: World = {
  rank: 0,
  size: 1,
  first: true,
  about: null,
  allSum() {},
  broadcast() {},
  any: flag => flag,
  agreed: value => value,
  gather: values => [values],
  async barrier() {},
  onFirst: work => work(() => {}),
  abort: code => process.exit(code),
  end() {},
}

/**
 * Returns the numbers of ranks on which a batch of `parts` parts has the bytes that it has on one: those that give every
 * rank 2ᵏ parts, since sums are pairwise trees, and 1.
 */
export function ranksThatFit(parts: number): number[] {
  const fit = parts === 1 ? [] : [1]
  for (let ranks = parts; Number.isInteger(ranks) && ranks >= 1; ranks /= 2) if (!fit.includes(ranks)) fit.push(ranks)
  return fit.sort((a, b) => a - b)
}
