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
  if (/^timestep_\d+_f32$/.test(name)) return () => table(roundedEmbedding(fixture.host('in.t').data, numbers[0]))
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
 * frequency is worth 3e-5. An exponential that is itself wrong in the last bit, as some libraries' are, shows as that.
 */
function roundedEmbedding(t: ArrayLike<number>, D: number): Float64Array {
  const { fround } = Math
  const half = Math.floor(D / 2)
  const out = new Float64Array(t.length * D)
  for (let k = 0; k < half; k++) {
    const frequency = fround(Math.exp(fround(fround(fround(-Math.log(10000)) * k) / half)))
    for (let n = 0; n < t.length; n++) {
      const angle = fround(fround(t[n]) * frequency)
      out[n * D + k] = fround(Math.cos(angle))
      out[n * D + half + k] = fround(Math.sin(angle))
    }
  }
  return out
}
