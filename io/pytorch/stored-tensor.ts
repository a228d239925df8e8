/**
 * Where a tensor of a PyTorch checkpoint lies: a type, a storage, and the offset, sizes and strides by which it is a view
 * of that storage [torch.Tensor.as_strided]. Checked once, when it is described, against the storage's length; turned
 * into contiguous elements when it is read.
 */

import type { TypedArray } from '../../core/dtype.ts'
import { type Shape, show, sizeOf } from '../../core/shape.ts'
import { decodeElements, type SafetensorsDType, safetensorsBytes } from '../safetensors-elements.ts'
import { PickleError } from './pickle.ts'

/** Elements that a tensor may have beyond those of its storage, by strides that visit some more than once. */
const mostRepeated = 2 ** 20
const mostAxes = 64

export class StoredTensor {
  readonly dtype: SafetensorsDType
  readonly shape: Shape
  /** Name of the storage in the archive. */
  readonly storage: string
  /** Bytes that the storage must have. */
  readonly storageBytes: number
  readonly strides: readonly number[]
  /** Bytes [begin, end) of the storage hold all elements. */
  readonly begin: number
  readonly end: number

  private constructor(
    dtype: SafetensorsDType,
    storage: { readonly key: string; readonly bytes: number },
    shape: Shape,
    strides: readonly number[],
    [begin, end]: readonly [number, number],
  ) {
    this.dtype = dtype
    this.storage = storage.key
    this.storageBytes = storage.bytes
    this.shape = shape
    this.strides = strides
    this.begin = begin
    this.end = end
  }

  /**
   * A view as a pickle describes it. `held.of` is the storage's own type, null where `held.length` counts bytes. Throws
   * PickleError where it is none, or reaches out of its storage, or has far more elements than that.
   */
  static checked(
    dtype: SafetensorsDType,
    key: string,
    held: { readonly of: SafetensorsDType | null; readonly length: number },
    offset: unknown,
    shape: unknown,
    strides: unknown,
    where: string,
  ): StoredTensor {
    const fail = (problem: string): never => {
      throw new PickleError(`${where}: a tensor of storage ${JSON.stringify(key.slice(0, 40))}: ${problem}`)
    }
    if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length)
      return fail(`wanted an offset, at most ${mostAxes} sizes and as many strides, counts from 0, got others`)
    const bytes = held.length * (held.of === null ? 1 : safetensorsBytes[held.of])
    const available = Math.floor(bytes / safetensorsBytes[dtype])
    const elements = sizeOf(shape)
    let last = offset
    shape.forEach((n, axis) => {
      last += (n - 1) * strides[axis]
    })
    if (!(elements <= Math.max(available, mostRepeated)))
      fail(`wanted at most ${Math.max(available, mostRepeated)} elements, got ${show(shape)}`)
    if (elements > 0 && last >= available)
      fail(`wanted elements below ${available}, got ${show(shape)} from ${offset} with strides ${show(strides)}`)
    const range = elements === 0 ? ([0, 0] as const) : ([offset, last + 1] as const)
    const size = safetensorsBytes[dtype]
    return new StoredTensor(dtype, { key, bytes }, shape, strides, [range[0] * size, range[1] * size])
  }

  /** The elements, decoded (`decodeElements`), of the bytes [begin, end) of the storage, which may be changed. */
  elements(bytes: Uint8Array, bigEndian: boolean, where: string): TypedArray {
    if (bigEndian) reverseElements(bytes, safetensorsBytes[this.dtype])
    const held = decodeElements(this.dtype, bytes, where)
    const { shape, strides } = this
    if (isContiguous(shape, strides)) return held
    const count = sizeOf(shape)
    const out = zeros(held, count)
    const index = shape.map(() => 0)
    let from = 0
    for (let i = 0; i < count; i++) {
      out[i] = held[from]
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        from += strides[axis]
        if (++index[axis] < shape[axis]) break
        from -= shape[axis] * strides[axis]
        index[axis] = 0
      }
    }
    return out
  }
}

/** As many zeros of the same type. */
function zeros(like: TypedArray, count: number): TypedArray {
  if (like instanceof Float64Array) return new Float64Array(count)
  return like instanceof Float32Array ? new Float32Array(count) : new Int32Array(count)
}

/** Whether elements follow each other as they are read; strides of axes of size 1 do not matter. */
function isContiguous(shape: Shape, strides: readonly number[]): boolean {
  let wanted = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== wanted) return shape.includes(0)
    wanted *= shape[axis]
  }
  return true
}

function reverseElements(bytes: Uint8Array, size: number): void {
  for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse()
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= mostAxes && value.every(isCount)
}
