/**
 * Tensors that are known from a shape: like another tensor, identity matrices, ranges, one-hot rows.
 */

import { checkTensor } from '../arguments.ts'
import { type DType, toTypedArray } from '../dtype.ts'
import { checkSizes, type Shape } from '../shape.ts'
import { full, ones, type Tensor, type TensorOptions, tensor } from '../tensor.ts'
import { scatterAdd } from './gather.ts'
import { reshape } from './movement.ts'

/** Where a tensor is made, and of what dtype. */
type Place = Omit<TensorOptions, 'shape'>

/** `value` in every element, with the shape (…), dtype and backend of x. */
export function fullLike({ shape, dtype, backend }: Tensor, value: number): Tensor {
  return full(shape, value, { dtype, backend })
}

/** All 0, with the shape (…), dtype and backend of x. */
export function zerosLike(x: Tensor): Tensor {
  checkTensor('zerosLike', 'x', x)
  return fullLike(x, 0)
}

/** All 1, with the shape (…), dtype and backend of x. */
export function onesLike(x: Tensor): Tensor {
  checkTensor('onesLike', 'x', x)
  return fullLike(x, 1)
}

/** The identity matrix (n, n). Throws ShapeError. */
export function eye(n: number, options: Place = {}): Tensor {
  checkSizes('eye', [n])
  const values = toTypedArray(options.dtype ?? 'f32', new Uint8Array(n * n))
  for (let i = 0; i < n; i++) values[i * n + i] = 1
  return tensor(values, { ...options, shape: [n, n] })
}

/** n numbers from start to end, both included, in equal steps: (n). One number is start. Throws ShapeError. */
export function linspace(start: number, end: number, n: number, options: Place = {}): Tensor {
  checkSizes('linspace', [n])
  const step = (end - start) / (n - 1)
  // Each half counts from its own end, so that both ends are exact.
  const value = (i: number) => (i < n / 2 ? start + i * step : end - (n - 1 - i) * step)
  return tensor(
    Float64Array.from({ length: n }, (_, i) => (n === 1 ? start : value(i))),
    options,
  )
}

/**
 * 1 at the position that each id names, else 0: ids i32 (…) in [0, classes) → (…, classes), f32 unless given. Throws
 * ShapeError, RangeError.
 */
export function oneHot(ids: Tensor, classes: number, { dtype = 'f32' }: { readonly dtype?: DType } = {}): Tensor {
  checkSizes('oneHot', [classes])
  const each: Shape = [ids.size, 1]
  const hits = scatterAdd(reshape(ids, each), ones([...each, 1], { dtype, backend: ids.backend }), classes) // (N, classes, 1)
  return reshape(hits, [...ids.shape, classes])
}
