/**
 * The wasm backend on one thread and on two, in the same run: both are there from the start, and whatever is timed takes
 * turns between them, so that a machine that slows down slows both.
 */

import { availableParallelism } from 'node:os'
import { createWasm, type WasmBackend } from '../core/backends/wasm/index.ts'
import { setDefaultBackend } from '../core/index.ts'
import { measureBandwidth } from './bandwidth.ts'
import { measureCeiling } from './ceiling.ts'
import { median } from './table.ts'

/** A backend and what the machine can do with as many threads. */
export interface Lane {
  readonly threads: number
  readonly backend: WasmBackend
  /** GFLOP/s of multiply-adds on registers. */
  readonly ceiling: number
  /** GB/s */
  readonly bandwidth: number
}

/** Milliseconds of some runs. */
export interface Timing {
  readonly threads: number
  readonly min: number
  readonly median: number
  readonly runs: number
}

/** One thread, and two where there are two cores. */
export async function openLanes(): Promise<Lane[]> {
  const lanes: Lane[] = []
  for (const threads of availableParallelism() > 1 ? [1, 2] : [1]) {
    const ceiling = await measureCeiling({ threads })
    const backend = await createWasm({ threads })
    lanes.push({ threads, backend, ceiling, bandwidth: await measureBandwidth(backend) })
  }
  return lanes
}

/** The same, with both ceilings measured once more: the better of two moments counts. */
export async function settleLanes(lanes: readonly Lane[]): Promise<Lane[]> {
  const settled: Lane[] = []
  for (const { threads, backend, ceiling, bandwidth } of lanes)
    settled.push({
      threads,
      backend,
      ceiling: Math.max(ceiling, await measureCeiling({ threads })),
      bandwidth: Math.max(bandwidth, await measureBandwidth(backend)),
    })
  return settled
}

/**
 * Times `make(backend)` on every lane in turn, after a run that is not counted, for about `seconds` in all and at least
 * `least` runs each.
 */
export function alternate(
  lanes: readonly Lane[],
  make: (backend: WasmBackend) => { run(): void; dispose(): void },
  { seconds = 2, least = 3 } = {},
): Timing[] {
  const all = lanes.map(({ threads, backend }) => {
    setDefaultBackend(backend)
    const work = make(backend)
    work.run()
    return { threads, backend, work, times: [] as number[] }
  })
  for (const end = performance.now() + 1000 * seconds; performance.now() < end || all[0].times.length < least; )
    for (const { backend, work, times } of all) {
      setDefaultBackend(backend)
      const start = performance.now()
      work.run()
      times.push(performance.now() - start)
    }
  return all.map(({ threads, work, times }) => {
    work.dispose()
    return { threads, min: Math.min(...times), median: median(times), runs: times.length }
  })
}
