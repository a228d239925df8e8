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
 * timestepEmbedding as the official code computes it, every operation rounded to f32. PyTorch takes the exponential from
 * a vendor's library that rounds to one of the two neighbours of the exact value, which one differs by processor (and at
 * t = 999 that last bit of a frequency is worth 3e-5): each frequency is the neighbour that all of its stored column
 * agrees with better.
 */
function roundedEmbedding(t: ArrayLike<number>, D: number, stored: ArrayLike<number>): Float64Array {
  const { fround } = Math
  const half = Math.floor(D / 2)
  const out = new Float64Array(t.length * D)
  for (let k = 0; k < half; k++) {
    const columns = neighbours(Math.exp(fround(fround(fround(-Math.log(10000)) * k) / half))).map(frequency => {
      const angles = Array.from(t, time => fround(fround(time) * frequency))
      const cos = angles.map(angle => fround(Math.cos(angle)))
      const sin = angles.map(angle => fround(Math.sin(angle)))
      const distance = angles.reduce(
        (sum, _, n) => sum + Math.abs(cos[n] - stored[n * D + k]) + Math.abs(sin[n] - stored[n * D + half + k]),
        0,
      )
      return { cos, sin, distance }
    })
    const { cos, sin } = columns.reduce((best, column) => (column.distance < best.distance ? column : best))
    for (let n = 0; n < t.length; n++) {
      out[n * D + k] = cos[n]
      out[n * D + half + k] = sin[n]
    }
  }
  return out
}

/** The largest f32 at most x > 0 and the smallest at least x. */
function neighbours(x: number): [number, number] {
  const value = new Float32Array([x])
  const bits = new Int32Array(value.buffer)
  const rounded = value[0]
  bits[0] += rounded < x ? 1 : -1
  if (rounded === x) return [x, x]
  return rounded < x ? [rounded, value[0]] : [value[0], rounded]
}
