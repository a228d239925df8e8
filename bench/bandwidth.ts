/**
 * Memory bandwidth as a kernel of the wasm backend sees it: out = a + b on arrays far larger than any cache, the fastest
 * of some calls, 12 bytes an element. What the processor reads before it writes a line is not counted.
 */

import { add, type Backend, full, scope } from '../core/index.ts'

/** GB/s of a sum of two arrays of 64 MB. */
export async function measureBandwidth(backend: Backend, repeats = 12): Promise<number> {
  const size = 2 ** 24
  const [a, b] = [full([size], 1, { backend }), full([size], 2, { backend })]
  let best = 0
  for (let i = 0; i < repeats; i++) {
    const start = performance.now()
    scope(() => void add(a, b))
    best = Math.max(best, (12 * size) / (performance.now() - start) / 1e6)
    // Workers start on their own time: give them a turn.
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  a.dispose()
  b.dispose()
  return best
}
