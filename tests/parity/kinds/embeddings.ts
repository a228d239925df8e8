/**
 * Fixtures of tables: sinusoids of time, of positions on a grid, of positions in a row. Their sizes are in the keys, or
 * in the stored shape.
 */

import { type Shape, tensor } from '../../../core/index.ts'
import { sinCos1d, sinCos2d, timestepEmbedding } from '../../../nn/index.ts'
import type { Fixture, Run } from '../fixture.ts'
import type { Computed, Results } from '../kind.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const results: Results = new Map()
  for (const name of fixture.names('out.')) {
    const { shape } = fixture.tensors.get(`out.${name}`)!
    const computed = tableOf(name, shape, fixture, run)
    if (computed !== undefined) results.set(`out.${name}`, computed)
  }
  return results
}

function tableOf(name: string, shape: Shape, fixture: Fixture, { backend, dtype }: Run): Computed | undefined {
  const table = (values: ArrayLike<number>) => tensor(values, { shape, backend, dtype })
  const numbers = [...name.matchAll(/\d+/g)].map(Number)
  if (/^(timestep|maskdm_time)_\d+$/.test(name))
    return () => table(timestepEmbedding(fixture.host('in.t').data, numbers[0]))
  if (/^timestep_\d+_f32$/.test(name))
    return () => table(roundedEmbedding(fixture.host('in.t').data, numbers[0], fixture.host(`out.${name}`).data))
  if (/^sincos2d_g\d+_d\d+$/.test(name)) return () => table(sinCos2d(numbers[2], [numbers[1], numbers[1]]))
  if (name === 'sincos2d_cls') {
    const [tokens, D] = shape
    const side = Math.sqrt(tokens - 1)
    return () => table(sinCos2d(D, [side, side], 1))
  }
  if (name === 'sinusoid_table') return () => table(sinCos1d(shape[2], shape[1]))
  return undefined
}

/**
 * timestepEmbedding as the official code computes it, every operation rounded to f32. At t = 1000 the last bit of a
 * frequency is worth 3e-5, and in that bit the exponential of PyTorch's library differs from processor to processor: of
 * 128 frequencies it is wrongly rounded at k = 12 and 106 on one, at 13, 44 and 119 on another. So a frequency may be
 * either of the two f32 numbers beside the exact one: which, the stored value of the largest t tells; the other rows
 * are then a test.
 */
function roundedEmbedding(t: ArrayLike<number>, D: number, stored: ArrayLike<number>): Float64Array {
  const { fround } = Math
  const half = Math.floor(D / 2)
  const out = new Float64Array(t.length * D)
  const cosine = (n: number, frequency: number) => fround(Math.cos(fround(fround(t[n]) * frequency)))
  const largest = Array.from(t).reduce((best, value, n) => (Math.abs(value) > Math.abs(t[best]) ? n : best), 0)
  for (let k = 0; k < half; k++) {
    const exact = Math.exp(fround(fround(fround(-Math.log(10000)) * k) / half))
    const error = (frequency: number) => Math.abs(cosine(largest, frequency) - stored[largest * D + k])
    const frequency = neighbours(exact).reduce((best, other) => (error(other) < error(best) ? other : best))
    for (let n = 0; n < t.length; n++) {
      out[n * D + k] = cosine(n, frequency)
      out[n * D + half + k] = fround(Math.sin(fround(fround(t[n]) * frequency)))
    }
  }
  return out
}

/** The f32 numbers beside a positive x, the nearer one first. */
function neighbours(x: number): number[] {
  const nearest = Math.fround(x)
  const ulp = 2 ** (Math.floor(Math.log2(x)) - 23)
  return nearest === x ? [x] : [nearest, Math.fround(nearest + (nearest < x ? ulp : -ulp))]
}
