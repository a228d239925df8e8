/**
 * Values that differ between the samples of a batch: timesteps, and coefficients looked up by them. Timesteps and tables
 * live on the host in f64; a coefficient becomes a tensor of N numbers in the dtype of the batch it multiplies, so that
 * tables keep their precision and nothing is read back from a device.
 */

import { aFunction, check, checkFloats, checkTensor, describe, numbers } from '../core/arguments.ts'
import { mean, mul, ShapeError, type Tensor, tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'

/** Timesteps of a batch, (N), integers on the host. */
export type Timesteps = ArrayLike<number>

/**
 * The numbers f(v) for v in `values`, one per sample of x (N, …), as a tensor (N, 1, …, 1) that broadcasts against x, in
 * its dtype and backend. Throws ShapeError when there are not N.
 */
export function perSample(x: Tensor, values: ArrayLike<number>, f: (value: number) => number): Tensor {
  return perSampleOf('perSample', x, values, f)
}

function perSampleOf(op: string, x: Tensor, values: ArrayLike<number>, f: (value: number) => number): Tensor {
  checkTensor(op, 'x', x)
  check(op, 'values', values, numbers)
  check(op, 'f', f, aFunction)
  const [N] = x.shape
  if (values.length !== N)
    throw new ShapeError(`${op}: expected a value for each of ${N} samples, got ${values.length}`)
  const shape = x.shape.map((_, axis) => (axis === 0 ? N : 1))
  return tensor(Float64Array.from(values, f), { shape, dtype: x.dtype, backend: x.backend }) // (N, 1, …, 1)
}

/** Each sample of x (N, …) times its f(v). Throws ShapeError. */
export function scaled(x: Tensor, values: ArrayLike<number>, f: (value: number) => number): Tensor {
  return mul(x, perSampleOf('scaled', x, values, f))
}

/** Mean over all axes but the first: (N, …) → (N). */
export function meanPerSample(x: Tensor): Tensor {
  checkFloats('meanPerSample', { x })
  if (x.shape.length === 0) throw new ShapeError('meanPerSample: expected x [N, ...], got a scalar')
  return mean(
    x,
    x.shape.slice(1).map((_, i) => i + 1),
  ) // (N)
}

/** Throws RangeError unless `value` is a number, not infinite, with low ≤ value ≤ high. */
export function checkRange(where: string, name: string, value: number, low: number, high = Infinity): void {
  if (!Number.isFinite(value) || value < low || value > high)
    throw atCaller(
      new RangeError(`${where}: ${name}: expected a number ${interval(low, high)}, got ${describe(value)}`),
    )
}

/** Throws RangeError unless `value` is an integer with low ≤ value ≤ high. */
export function checkCount(where: string, name: string, value: number, low: number, high = Infinity): void {
  if (!Number.isInteger(value) || value < low || value > high)
    throw atCaller(
      new RangeError(`${where}: ${name}: expected an integer ${interval(low, high)}, got ${describe(value)}`),
    )
}

function interval(low: number, high: number): string {
  return high === Infinity ? `from ${low}` : `in [${low}, ${high}]`
}
