/**
 * Tensors that are known from a shape: like another tensor, identity matrices, ranges, one-hot rows.
 */

import { aDType, aNumber, check, checkOptions, checkTensor } from '../arguments.ts'
import { type DType, toTypedArray } from '../dtype.ts'
import { checkSizes, type Shape } from '../shape.ts'
import { createTensor, filled, placeKinds, type Tensor, type TensorOptions } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { reshape } from './movement.ts'
import { inNameOf, scatterAdd } from './rows.ts'

/** Where a tensor is made, and of what dtype. */
type Place = Omit<TensorOptions, 'shape'>

/** `value` in every element, with the shape (…), dtype and backend of x. */
export function fullLike(x: Tensor, value: number): Tensor {
  check('fullLike', 'value', value, aNumber)
  return like('fullLike', x, value)
}

function like(op: string, x: Tensor, value: number): Tensor {
  checkTensor(op, 'x', x)
  const { shape, dtype, backend } = x
  return filled(op, shape, value, { dtype, backend })
}

/** All 0, with the shape (…), dtype and backend of x. */
export function zerosLike(x: Tensor): Tensor {
  return like('zerosLike', x, 0)
}

/** All 1, with the shape (…), dtype and backend of x. */
export function onesLike(x: Tensor): Tensor {
  return like('onesLike', x, 1)
}

/** The identity matrix (n, n). Throws ShapeError. */
export function eye(n: number, options: Place = {}): Tensor {
  check('eye', 'n', n, aNumber)
  checkSizes('eye', [n])
  checkOptions('eye', options, placeKinds)
  const values = toTypedArray(options.dtype ?? 'f32', new Uint8Array(n * n))
  for (let i = 0; i < n; i++) values[i * n + i] = 1
  return createTensor('eye', values, { ...options, shape: [n, n] })
}

/** n numbers from start to end, both included, in equal steps: (n). One number is start. Throws ShapeError. */
export function linspace(start: number, end: number, n: number, options: Place = {}): Tensor {
  check('linspace', 'start', start, aNumber)
  check('linspace', 'end', end, aNumber)
  check('linspace', 'n', n, aNumber)
  checkSizes('linspace', [n])
  checkOptions('linspace', options, placeKinds)
  const step = (end - start) / (n - 1)
  // Each half counts from its own end, so that both ends are exact.
  const value = (i: number) => (i < n / 2 ? start + i * step : end - (n - 1 - i) * step)
  return createTensor(
    'linspace',
    Float64Array.from({ length: n }, (_, i) => (n === 1 ? start : value(i))),
    options,
  )
}

/**
 * 1 at the position that each id names, else 0: ids i32 (…) in [0, classes) → (…, classes), f32 unless given. Throws
 * ShapeError, RangeError.
 */
export function oneHot(ids: Tensor, classes: number, options: { readonly dtype?: DType } = {}): Tensor {
  checkTensor('oneHot', 'ids', ids)
  if (ids.dtype !== 'i32') throw atCaller(new Error(`oneHot: expected ids in i32, got ${ids.dtype}`))
  check('oneHot', 'classes', classes, aNumber)
  checkSizes('oneHot', [classes])
  checkOptions('oneHot', options, { dtype: aDType })
  const { dtype = 'f32' } = options
  const each: Shape = [ids.size, 1]
  const one = filled('oneHot', [...each, 1], 1, { dtype, backend: ids.backend })
  const hits = inNameOf('oneHot', () => scatterAdd(reshape(ids, each), one, classes)) // (N, classes, 1)
  return reshape(hits, [...ids.shape, classes])
}
