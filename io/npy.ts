/**
 * The header of an array in NumPy's format, version 1 to 3 [npy]: a magic number and a Python dict that is text. Types
 * that numbers here have no place for are refused by name, as are arrays of Python objects: those are pickles.
 * Files: npz.ts.
 */

import type { Shape } from '../core/shape.ts'
import { type SafetensorsDType, SafetensorsError, safetensorsBytes } from './safetensors.ts'

/** What a header says: the type under its name in safetensors.ts, the shape, and where the elements begin. */
export interface NpyHeader {
  readonly dtype: SafetensorsDType
  readonly shape: Shape
  readonly begin: number
}

const types: Readonly<Record<string, SafetensorsDType>> = {
  '|b1': 'BOOL',
  '|u1': 'U8',
  '|i1': 'I8',
  '<i2': 'I16',
  '<i4': 'I32',
  '<i8': 'I64',
  '<f2': 'F16',
  '<f4': 'F32',
  '<f8': 'F64',
}

const magic = [0x93, ...new TextEncoder().encode('NUMPY')]
/** NumPy's own bound. */
export const largestNpyHeader = 10_000 + 12

/**
 * The header at the start of an array of `length` bytes, of which `bytes` are the first (`largestNpyHeader`, or all).
 * Throws SafetensorsError, naming `where`, where it is no array that can be read, or the length is not the shape's.
 */
export function parseNpyHeader(bytes: Uint8Array, length: number, where: string): NpyHeader {
  if (bytes.length < 12 || magic.some((byte, i) => bytes[i] !== byte))
    fail(where, 'wanted an array of NumPy, got other bytes, or too few')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = bytes[6]
  if (version < 1 || version > 3) fail(where, `wanted version 1, 2 or 3 of NumPy's format, got ${version}`)
  const start = version === 1 ? 10 : 12
  const begin = start + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true))
  if (begin > bytes.length) fail(where, `wanted a header within ${bytes.length} bytes, got one of ${begin}`)
  const text = new TextDecoder('latin1').decode(bytes.subarray(start, begin)).trim()
  const field = (name: string, value: string) => new RegExp(`['"]${name}['"]\\s*:\\s*${value}\\s*[,}]`).exec(text)?.[1]
  const descr = field('descr', `['"]([^'"]{1,20})['"]`)
  const fortran = field('fortran_order', '(True|False)')
  const sizes = field('shape', '\\(([\\d, L]*)\\)') // one class of letters: nothing to go back over
  if (!/^\{.*\}$/s.test(text) || descr === undefined || fortran === undefined || sizes === undefined)
    fail(where, `wanted a header with descr, fortran_order and shape, got ${JSON.stringify(text.slice(0, 80))}`)
  if (!Object.hasOwn(types, descr)) fail(where, `wanted elements of ${Object.keys(types).join(', ')}, got '${descr}'`)
  const shape = sizes.split(',').flatMap(size => (size.trim() === '' ? [] : [Number(size.trim().replace(/L$/, ''))]))
  if (!shape.every(Number.isSafeInteger)) fail(where, `wanted a shape of integers, got (${sizes.slice(0, 80)})`)
  if (fortran === 'True' && shape.length > 1) fail(where, "wanted rows one after the other, got Fortran's order")
  const dtype = types[descr]
  const wanted = shape.reduce((product, n) => product * n, safetensorsBytes[dtype])
  if (!Number.isSafeInteger(wanted) || wanted !== length - begin)
    fail(where, `wanted ${wanted} bytes for ${dtype} [${shape.join(', ')}], got ${length - begin}`)
  return { dtype, shape, begin }
}

/** The bytes before the elements of an array. Throws SafetensorsError on a type that NumPy does not have. */
export function encodeNpyHeader(dtype: SafetensorsDType, shape: Shape): Uint8Array {
  const descr = Object.keys(types).find(each => types[each] === dtype)
  if (descr === undefined) fail('writing', `wanted one of ${Object.values(types).join(', ')}, got ${dtype}`)
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 // elements are aligned to 64 bytes
  const bytes = new Uint8Array(length).fill(0x20)
  bytes.set([...magic, 1, 0, (length - 10) & 0xff, (length - 10) >> 8])
  bytes.set(new TextEncoder().encode(text), 10)
  bytes[length - 1] = 0x0a
  return bytes
}

function fail(where: string, problem: string): never {
  throw new SafetensorsError(`${where}: ${problem}`)
}
