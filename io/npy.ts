/**
 * The header of an array in NumPy's format, version 1 to 3 [npy]: a magic number and a Python dict that is text. Arrays of
 * types that no tensor has (strings, records, Python objects, which are pickles) are described, and refused when their
 * elements are asked for. Files: npz.ts.
 */

import type { TypedArray } from '../core/dtype.ts'
import { type Shape, sizeOf } from '../core/shape.ts'
import { type SafetensorsDType, SafetensorsError, safetensorsBytes } from './safetensors.ts'
import { decodeElements } from './safetensors-elements.ts'
import { gatherElements } from './strided.ts'

/** The content of a header: shape, order, type, and where the elements begin. */
export interface NpyHeader {
  /** A name of safetensors.ts; for a type that is not read, NumPy's name: `<U10`, `|O`, `<c16`. */
  readonly dtype: string
  readonly shape: Shape
  readonly begin: number
  /** Bytes of an element; null where the type is not read. */
  readonly size: number | null
  /** True if the bytes of an element are in big-endian order. */
  readonly bigEndian: boolean
  /** True if the first axis varies fastest: Fortran's order. */
  readonly fortran: boolean
}

const types: Readonly<Record<string, SafetensorsDType>> = {
  b1: 'BOOL',
  u1: 'U8',
  i1: 'I8',
  i2: 'I16',
  u2: 'U16',
  i4: 'I32',
  u4: 'U32',
  i8: 'I64',
  u8: 'U64',
  f2: 'F16',
  f4: 'F32',
  f8: 'F64',
}

const magic = [0x93, ...new TextEncoder().encode('NUMPY')]
/** NumPy's own bound. */
export const largestNpyHeader = 10_000 + 12

/**
 * The header at the start of an array of `length` bytes, of which `bytes` are the first (`largestNpyHeader`, or all).
 * Throws SafetensorsError, naming `where`, where it is no array, or the length is not the shape's.
 */
export function parseNpyHeader(bytes: Uint8Array, length: number, where: string): NpyHeader {
  if (bytes.length < 12 || !isNpy(bytes)) fail(where, 'expected an array of NumPy, got other bytes, or too few')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = bytes[6]
  if (version < 1 || version > 3) fail(where, `expected version 1, 2 or 3 of NumPy's format, got ${version}`)
  const start = version === 1 ? 10 : 12
  const begin = start + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true))
  if (begin > bytes.length) fail(where, `expected a header within ${bytes.length} bytes, got one of ${begin}`)
  const text = new TextDecoder('latin1').decode(bytes.subarray(start, begin)).trim()
  const field = (name: string, value: string) => new RegExp(`['"]${name}['"]\\s*:\\s*${value}\\s*[,}]`).exec(text)?.[1]
  // A record type is a list of fields: it is described as far as its first 20 characters.
  const descr = field('descr', `['"]([^'"]{1,20})['"]`) ?? /['"]descr['"]\s*:\s*(\[.{0,20})/s.exec(text)?.[1]
  const fortran = field('fortran_order', '(True|False)')
  const sizes = field('shape', '\\(([\\d, L]*)\\)') // one class of letters: nothing to go back over
  if (!/^\{.*\}$/s.test(text) || descr === undefined || fortran === undefined || sizes === undefined)
    fail(where, `expected a header with descr, fortran_order and shape, got ${JSON.stringify(text.slice(0, 80))}`)
  const shape = sizes.split(',').flatMap(size => (size.trim() === '' ? [] : [Number(size.trim().replace(/L$/, ''))]))
  if (!shape.every(Number.isSafeInteger)) fail(where, `expected a shape of integers, got (${sizes.slice(0, 80)})`)
  const order = { bigEndian: descr.startsWith('>'), fortran: fortran === 'True' && shape.length > 1 }
  const code = /^[<>|=]/.test(descr) ? descr.slice(1) : ''
  if (!Object.hasOwn(types, code)) return { dtype: printable(descr), shape, begin, size: null, ...order }
  const dtype = types[code]
  const size = safetensorsBytes[dtype]
  const wanted = shape.reduce((product, n) => product * n, size)
  if (!Number.isSafeInteger(wanted) || wanted !== length - begin)
    fail(where, `expected ${wanted} bytes for ${dtype} [${shape.join(', ')}], got ${length - begin}`)
  return { dtype, shape, begin, size, ...order }
}

/** True if the bytes begin as an array of NumPy. */
export function isNpy(bytes: Uint8Array): boolean {
  return magic.every((byte, i) => byte === bytes[i])
}

/** Bytes of an element. Throws SafetensorsError, naming `where`, on a type that is not read. */
export function npyElementSize({ dtype, size }: NpyHeader, where: string): number {
  return size ?? fail(where, `expected elements of ${Object.values(types).join(', ')}, got '${dtype}'`)
}

/**
 * The elements of a whole array, in C order: the last axis varies fastest. `bytes` hold them as they are stored, and may be
 * changed. Throws SafetensorsError.
 */
export function decodeNpy(header: NpyHeader, bytes: Uint8Array, where: string): TypedArray {
  return decodeElements(header.dtype, orderedNpy(header, bytes, where), where)
}

/** The bytes of a whole array as C order and little-endian elements have them. `bytes` may be changed. */
export function orderedNpy(header: NpyHeader, bytes: Uint8Array, where: string): Uint8Array {
  const size = npyElementSize(header, where)
  if (header.bigEndian) for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse()
  if (!header.fortran) return bytes
  const strides = header.shape.map((_, axis) => sizeOf(header.shape.slice(0, axis))) // the first axis is the fastest
  return gatherElements(bytes, size, header.shape, strides)
}

/** The bytes before the elements of an array. Throws SafetensorsError on a type that NumPy does not have. */
export function encodeNpyHeader(dtype: SafetensorsDType, shape: Shape): Uint8Array {
  const descr = Object.keys(types).find(each => types[each] === dtype)
  if (descr === undefined) fail('writing', `expected one of ${Object.values(types).join(', ')}, got ${dtype}`)
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const order = safetensorsBytes[dtype] === 1 ? '|' : '<'
  const text = `{'descr': '${order}${descr}', 'fortran_order': False, 'shape': (${sizes}), }`
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 // elements are aligned to 64 bytes
  const bytes = new Uint8Array(length).fill(0x20)
  bytes.set([...magic, 1, 0, (length - 10) & 0xff, (length - 10) >> 8])
  bytes.set(new TextEncoder().encode(text), 10)
  bytes[length - 1] = 0x0a
  return bytes
}

function printable(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}

function fail(where: string, problem: string): never {
  throw new SafetensorsError(`${where}: ${problem}`)
}
