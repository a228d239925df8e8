/**
 * Where a tensor of a PyTorch checkpoint lies: a type, a storage, and the offset, sizes and strides by which it is a view
 * of that storage [torch.Tensor.as_strided]. Checked once, when it is described, against the storage's length; turned
 * into contiguous elements when it is read.
 */

import { type Shape, show, sizeOf } from '../../core/shape.ts'
import { isSafetensorsDType, quote, safetensorsBytes } from '../safetensors-elements.ts'
import { gatherElements } from '../strided.ts'
import { PickleError } from './pickle.ts'

/** Elements that a tensor may have beyond those of its storage, by strides that visit some more than once. */
const mostRepeated = 2 ** 20
const mostAxes = 64

/** A tensor as a pickle describes it, before it is checked. */
interface View {
  readonly offset: unknown
  readonly shape: unknown
  readonly strides: unknown
  /** True if every element is to be negated, or conjugated, when it is read. */
  readonly negative: boolean
  readonly conjugate: boolean
}

/** Bytes of an element; null for a type that is not known. */
export function elementBytes(dtype: string): number | null {
  if (dtype === 'C128') return 16
  if (dtype === 'C32') return 4
  return isSafetensorsDType(dtype) ? safetensorsBytes[dtype] : null
}

export class StoredTensor {
  /** A name of safetensors.ts, C128, C32, or PyTorch's name of a type that is not known. */
  readonly dtype: string
  readonly shape: Shape
  /** Name of the storage in the file. */
  readonly storage: string
  /** Bytes that the storage must have. */
  readonly storageBytes: number
  readonly strides: readonly number[]
  /** Bytes [begin, end) of the storage hold all elements. */
  readonly begin: number
  readonly end: number
  readonly #negative: boolean
  readonly #conjugate: boolean

  private constructor(
    dtype: string,
    storage: { readonly key: string; readonly bytes: number },
    shape: Shape,
    strides: readonly number[],
    [begin, end]: readonly [number, number],
    { negative, conjugate }: View,
  ) {
    this.dtype = dtype
    this.storage = storage.key
    this.storageBytes = storage.bytes
    this.shape = shape
    this.strides = strides
    this.begin = begin
    this.end = end
    this.#negative = negative
    this.#conjugate = conjugate
  }

  /**
   * A view as a pickle describes it. The storage's type is null where its length counts bytes. Throws PickleError where the
   * view is none, or reaches out of its storage, or has far more elements than that. A view of an unknown type is not
   * checked, as it is not read.
   */
  static checked(
    dtype: string,
    held: { readonly key: string; readonly dtype: string | null; readonly length: number },
    view: View,
    where: string,
  ): StoredTensor {
    const { offset, shape, strides } = view
    const fail = (problem: string): never => {
      throw new PickleError(`${where}: a tensor of storage ${JSON.stringify(held.key.slice(0, 40))}: ${problem}`)
    }
    if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length)
      return fail(`expected an offset, at most ${mostAxes} sizes and as many strides, counts from 0, got others`)
    const size = elementBytes(dtype)
    const unit = held.dtype === null ? 1 : elementBytes(held.dtype)
    if (size === null || unit === null)
      return new StoredTensor(
        size === null ? dtype : held.dtype!,
        { key: held.key, bytes: 0 },
        shape,
        strides,
        [0, 0],
        view,
      )
    const bytes = held.length * unit
    const available = Math.floor(bytes / size)
    const elements = sizeOf(shape)
    let last = offset
    shape.forEach((n, axis) => {
      last += (n - 1) * strides[axis]
    })
    if (!(elements <= Math.max(available, mostRepeated)))
      fail(`expected at most ${Math.max(available, mostRepeated)} elements, got ${show(shape)}`)
    if (elements > 0 && last >= available)
      fail(`expected elements below ${available}, got ${show(shape)} from ${offset} with strides ${show(strides)}`)
    const [begin, end] = elements === 0 ? [0, 0] : [offset, last + 1]
    return new StoredTensor(dtype, { key: held.key, bytes }, shape, strides, [begin * size, end * size], view)
  }

  /** Bytes of all elements; 0 for a type that is not known. */
  get byteLength(): number {
    return sizeOf(this.shape) * (elementBytes(this.dtype) ?? 0)
  }

  /** Throws PickleError, naming `where`, on a type that is not known, and on complex numbers to be conjugated. */
  checkReadable(where: string): void {
    if (elementBytes(this.dtype) === null)
      throw new PickleError(`${where}: expected a type of elements that is known here, got ${quote(this.dtype)}`)
    if (this.#conjugate)
      throw new PickleError(
        `${where}: expected a tensor as it is stored, got one with the conjugate bit; in Python, save t.resolve_conj()`,
      )
  }

  /** The elements' bytes, little-endian and in C order, of the bytes [begin, end) of the storage, which may be changed. */
  ordered(bytes: Uint8Array, bigEndian: boolean, where: string): Uint8Array {
    const size = elementBytes(this.dtype)!
    if (bigEndian) reverseElements(bytes, /^C/.test(this.dtype) ? size / 2 : size)
    const out = isContiguous(this.shape, this.strides) ? bytes : gatherElements(bytes, size, this.shape, this.strides)
    if (this.#negative) negate(this.dtype, out, where)
    return out
  }
}

/** Bytes of the floats that a type is made of, whose last bit is the sign. */
const floats: Readonly<Record<string, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2, C128: 8, C64: 4, C32: 2 }

/** Negates elements in place. */
function negate(dtype: string, bytes: Uint8Array, where: string): void {
  const float = floats[dtype]
  const size = float ?? elementBytes(dtype)!
  if (float === undefined && !/^[IU]/.test(dtype))
    throw new PickleError(`${where}: expected numbers with the negative bit, got ${dtype}`)
  for (let end = size; end <= bytes.length; end += size) {
    if (float !== undefined) {
      bytes[end - 1] ^= 0x80
      continue
    }
    let carry = 1 // two's complement: all bits turned, plus 1
    for (let at = end - size; at < end; at++) {
      carry += bytes[at] ^ 0xff
      bytes[at] = carry & 0xff
      carry >>= 8
    }
  }
}

/** True if elements are contiguous in row-major order; strides of axes of size 1 do not matter. */
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
