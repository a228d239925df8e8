/**
 * Matrix products on the wasm backend, packing included, as GFLOP/s and as fractions of the ceiling that the same run
 * measures. `npx tsx bench/matmul.ts [threads]` prints the table.
 */

import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import type { Operand } from '../core/backend.ts'
import { createWasm, type WasmBackend } from '../core/backends/wasm/index.ts'
import { rng } from '../core/random.ts'
import { type Shape, sizeOf } from '../core/shape.ts'
import { measureCeiling } from './ceiling.ts'

/** A product (M, K) × (K, N), and which operands are stored transposed: 'N' and 'T' as in BLAS. */
export interface Product {
  readonly M: number
  readonly N: number
  readonly K: number
  readonly layout: 'NN' | 'NT' | 'TN' | 'TT'
}

/** A square one, those of a DiT-S block with 512 tokens (qkv, mlp, their gradients), and odd sizes. */
export const products: readonly Product[] = [
  { M: 512, N: 512, K: 512, layout: 'NN' },
  { M: 512, N: 1536, K: 384, layout: 'NN' },
  { M: 512, N: 1536, K: 384, layout: 'NT' },
  { M: 512, N: 384, K: 1536, layout: 'NT' },
  { M: 512, N: 384, K: 1536, layout: 'NN' },
  { M: 1536, N: 384, K: 512, layout: 'TN' },
  { M: 512, N: 512, K: 512, layout: 'TT' },
  { M: 8, N: 2304, K: 384, layout: 'NT' },
  { M: 251, N: 383, K: 127, layout: 'NN' },
  { M: 64, N: 64, K: 64, layout: 'NN' },
  { M: 1024, N: 1024, K: 1024, layout: 'NN' },
]

export interface MatmulResult extends Product {
  /** Of the fastest call. */
  readonly gflops: number
  readonly milliseconds: number
}

/** Times one product: the fastest of calls made during `budget` milliseconds. */
export function measureMatmul(backend: WasmBackend, product: Product, budget = 300): MatmulResult {
  const { M, N, K, layout } = product
  const [tA, tB] = [layout[0] === 'T', layout[1] === 'T']
  const a = operand(backend, tA ? [K, M] : [M, K])
  const b = operand(backend, tB ? [N, K] : [K, N])
  let milliseconds = Infinity
  for (const end = performance.now() + budget; performance.now() < end; ) {
    const start = performance.now()
    const y = backend.kernels.matmul(a, b, tA, tB, { shape: [M, N], dtype: 'f32' })
    milliseconds = Math.min(milliseconds, performance.now() - start)
    backend.free(y)
  }
  backend.free(a.storage)
  backend.free(b.storage)
  return { ...product, milliseconds, gflops: (2 * M * N * K) / milliseconds / 1e6 }
}

function operand(backend: WasmBackend, shape: Shape): Operand {
  const storage = backend.alloc('f32', sizeOf(shape))
  backend.write(storage, rng(1).normalArray(sizeOf(shape)))
  return { shape, dtype: 'f32', storage }
}

/** Prints the table for a number of threads. */
export async function printMatmul(threads: number): Promise<void> {
  const ceiling = await measureCeiling({ threads })
  const backend = await createWasm({ threads })
  console.log(
    `${backend.build} build, ${threads} thread${threads > 1 ? 's' : ''}: ceiling ${ceiling.toFixed(1)} GFLOP/s`,
  )
  for (const product of products) {
    // A turn for workers that are still starting.
    await new Promise(resolve => setTimeout(resolve, 20))
    const { M, N, K, layout, gflops, milliseconds } = measureMatmul(backend, product)
    const share = `${((100 * gflops) / ceiling).toFixed(1)} %`
    console.log(
      `${`${M}×${N}×${K} ${layout}`.padEnd(20)} ${gflops.toFixed(1).padStart(6)} GFLOP/s ${share.padStart(7)} ${milliseconds.toFixed(3).padStart(9)} ms`,
    )
  }
  backend.dispose()
}

if (argv[1] === fileURLToPath(import.meta.url)) await printMatmul(Number(argv[2] ?? 1))
