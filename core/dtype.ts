/**
 * Element types. f32 is what models train in, f64 is what the specification and the gradient checks run in (on `cpu`
 * only), i32 holds labels, timesteps' indices and token ids.
 */

export type DType = 'f32' | 'f64' | 'i32'
/** Array of elements on the host. */
export type TypedArray = Float32Array | Float64Array | Int32Array

const constructors = { f32: Float32Array, f64: Float64Array, i32: Int32Array } as const

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f64: 8, i32: 4 }

/** A zeroed typed array of `length` elements. */
export function allocate(dtype: DType, length: number): TypedArray {
  return new constructors[dtype](length)
}

/**
 * `values` as a typed array of `dtype`; returned as it is when it already has that type. To i32 as `cast` in backend.ts:
 * the fraction is dropped, what is out of range becomes the nearest i32, and NaN becomes 0.
 */
export function toTypedArray(dtype: DType, values: ArrayLike<number>): TypedArray {
  if (values instanceof constructors[dtype]) return values
  const converted = constructors[dtype].from(values)
  if (dtype === 'i32')
    for (let i = 0; i < converted.length; i++) if (converted[i] !== values[i]) converted[i] = toNumber(dtype, values[i])
  return converted
}

/** One number as an element of `dtype` holds it, rounding to f32 aside; to i32 as `toTypedArray`. */
export function toNumber(dtype: DType, value: number): number {
  if (dtype !== 'i32') return value
  return Number.isNaN(value) ? 0 : Math.max(-(2 ** 31), Math.min(Math.trunc(value), 2 ** 31 - 1))
}

/** A view of `length` elements of a buffer, from `byteOffset`. */
export function viewOf(dtype: DType, buffer: ArrayBufferLike, byteOffset: number, length: number): TypedArray {
  if (dtype === 'f32') return new Float32Array(buffer, byteOffset, length)
  if (dtype === 'f64') return new Float64Array(buffer, byteOffset, length)
  return new Int32Array(buffer, byteOffset, length)
}
