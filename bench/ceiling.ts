/**
 * The most that this machine can do in wasm: multiply-adds on registers, four lanes at a time, no memory. Figures of the
 * wasm backend are given as fractions of it, measured in the same run.
 */

import { createWasm } from '../core/backends/wasm/index.ts'
import type { Build } from '../core/backends/wasm/runtime.ts'

/** Flops of a round of the kernel: 12 vectors × 4 lanes × 2. */
const FLOPS = 12 * 4 * 2
const ROUNDS = 500_000

export interface CeilingOptions {
  /** Default: 1. */
  readonly threads?: number
  /** Default: relaxed where the machine has it. */
  readonly build?: Build
  /** Default: 40, some tenths of a second. */
  readonly repeats?: number
}

/** GFLOP/s of a loop of multiply-adds on registers: the best of `repeats`. */
export async function measureCeiling({ threads = 1, build, repeats = 40 }: CeilingOptions = {}): Promise<number> {
  const { runtime, dispose } = await createWasm({ threads, build })
  const chunks = threads === 1 ? 1 : 4 * threads
  const out = runtime.memory.address(runtime.memory.alloc(64 * chunks))
  let best = 0
  for (let i = 0; i < repeats; i++) {
    const start = performance.now()
    runtime.launch(runtime.kernels.ceiling, chunks, { rounds: ROUNDS, x: 1e-6, out })
    best = Math.max(best, (chunks * ROUNDS * FLOPS) / (performance.now() - start) / 1e6)
    // Workers start on their own time: give them a turn.
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  dispose()
  return best
}
