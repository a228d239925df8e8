/**
 * One matrix product, 512³ in f32, on every backend and build: the ways, and how each is measured. Runs in Node
 * (backends.ts) and in a page (site/components/Product.vue).
 */

import type { GpuBackend } from '../core/backends/gpu/index.ts'
import { type Backend, cpu, matmul, rng, scope } from '../core/index.ts'

const n = 512

/** A way to compute the product. */
export interface Way {
  readonly name: string
  open(): Backend | Promise<Backend>
  /** Threads that it needs. */
  readonly threads?: number
}

const wasm = async () => (await import('../core/backends/wasm/index.ts')).createWasm
const gpu = async () => (await import('../core/backends/gpu/index.ts')).gpu

/** All ways, by the names under which docs/tour/figures/measurements.json records them. */
export const ways: readonly Way[] = [
  { name: 'gpu.js in its CPU mode', open: async () => (await gpu())({ device: 'cpu' }) },
  { name: 'cpu: loops in JavaScript', open: () => cpu },
  { name: 'wasm: SIMD', open: async () => (await wasm())({ threads: 1, build: 'simd' }) },
  { name: 'wasm: SIMD with relaxed multiply-add', open: async () => (await wasm())({ threads: 1 }) },
  { name: 'the same on two threads', open: async () => (await wasm())({ threads: 2 }), threads: 2 },
  { name: 'gpu.js on WebGPU', open: async () => (await gpu())({ device: 'webgpu', wgsl: false }) },
  { name: 'WGSL on WebGPU', open: async () => (await gpu())({ device: 'webgpu' }) },
]

/** A measured way. */
export interface Measured {
  readonly gflops: number
  /** Name of the device, where there is one. */
  readonly device: string | null
}

/**
 * GFLOP/s of the fastest product in `budget` milliseconds. A device takes several products between two reads, so that the way
 * there and back counts little. Throws, in one line, if the way is not possible here.
 */
export async function measure({ open, threads = 1 }: Way, budget = 2000): Promise<Measured> {
  const backend = await open()
  try {
    if ('threads' in backend && Number(backend.threads) < threads)
      throw new Error(`product: expected ${threads} threads, got ${backend.threads}`)
    const [a, b] = [rng(1).normal([n, n], { backend }), rng(2).normal([n, n], { backend })]
    let [best, count] = [Infinity, 1]
    for (const end = performance.now() + budget; performance.now() < end; ) {
      const start = performance.now()
      for (let i = 1; i < count; i++) scope(() => matmul(a, b)).dispose()
      const y = scope(() => matmul(a, b))
      if (backend.readSync === undefined) await y.data()
      const elapsed = performance.now() - start
      best = Math.min(best, elapsed / count)
      if (backend.readSync === undefined && elapsed < budget / 10) count *= 2
      y.dispose()
      await new Promise(resolve => setTimeout(resolve, 1)) // a turn for workers that are still starting
    }
    for (const x of [a, b]) x.dispose()
    const { device } = backend as Partial<GpuBackend>
    return { gflops: (2 * n ** 3) / best / 1e6, device: device?.about ?? null }
  } finally {
    backend.dispose()
  }
}
