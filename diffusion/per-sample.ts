/**
 * Values that differ between the samples of a batch: timesteps, and coefficients looked up by them. Timesteps and tables
 * live on the host in f64; a coefficient becomes a tensor of N numbers in the dtype of the batch it multiplies, so that
 * tables keep their precision and nothing is read back from a device.
 */

import { mean, mul, ShapeError, type Tensor, tensor } from '../core/index.ts'

/** Timesteps of a batch, (N), integers on the host. */
export type Timesteps = ArrayLike<number>

/**
 * The numbers f(v) for v in `values`, one per sample of x (N, …), as a tensor (N, 1, …, 1) that broadcasts against x, in
 * its dtype and backend. Throws ShapeError when there are not N.
 */
export function perSample(x: Tensor, values: ArrayLike<number>, f: (value: number) => number): Tensor {
  const [N] = x.shape
  if (values.length !== N)
    throw new ShapeError(`perSample: expected a value for each of ${N} samples, got ${values.length}`)
  const shape = x.shape.map((_, axis) => (axis === 0 ? N : 1))
  return tensor(Float64Array.from(values, f), { shape, dtype: x.dtype, backend: x.backend }) // (N, 1, …, 1)
}

/** Each sample of x (N, …) times its f(v). Throws ShapeError. */
export function scaled(x: Tensor, values: ArrayLike<number>, f: (value: number) => number): Tensor {
  return mul(x, perSample(x, values, f))
}

/** Mean over all axes but the first: (N, …) → (N). */
export function meanPerSample(x: Tensor): Tensor {
  return mean(
    x,
    x.shape.slice(1).map((_, i) => i + 1),
  ) // (N)
}

/**
 * Checks that t holds one integer in [0, steps) per sample of x. Throws ShapeError when there are not N, RangeError
 * naming the first that is out of range.
 */
export function checkTimesteps(where: string, x: Tensor, t: Timesteps, steps: number): void {
  if (t.length !== x.shape[0])
    throw new ShapeError(`${where}: expected a timestep for each of ${x.shape[0]} samples, got ${t.length}`)
  for (let n = 0; n < t.length; n++)
    if (!Number.isInteger(t[n]) || t[n] < 0 || t[n] >= steps)
      throw new RangeError(`${where}: t: expected integers in [0, ${steps}), got ${t[n]} for sample ${n}`)
}

/** Throws RangeError unless `value` is a number, not infinite, with low ≤ value ≤ high. */
export function checkRange(where: string, name: string, value: number, low: number, high = Infinity): void {
  if (!Number.isFinite(value) || value < low || value > high)
    throw new RangeError(`${where}: ${name}: expected a number ${interval(low, high)}, got ${value}`)
}

/** Throws RangeError unless `value` is an integer with low ≤ value ≤ high. */
export function checkCount(where: string, name: string, value: number, low: number, high = Infinity): void {
  if (!Number.isInteger(value) || value < low || value > high)
    throw new RangeError(`${where}: ${name}: expected an integer ${interval(low, high)}, got ${value}`)
}

function interval(low: number, high: number): string {
  return high === Infinity ? `from ${low}` : `in [${low}, ${high}]`
}
