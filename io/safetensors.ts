/**
 * The safetensors format [safetensors]: 8 bytes with the length of a JSON header, the header, then the tensors' bytes
 * without gaps. A header comes from a file that anyone may have made, so every field is checked before it is used, and
 * nothing is allocated that the file's length does not justify. Works on bytes, in a browser too, and assumes a
 * little-endian machine, as typed arrays are everywhere today. Element types: safetensors-elements.ts. Files on disk:
 * safetensors-node.ts.
 */

import { aMap, anObject, aSize, aString, aUint8Array, check, numbers, optional } from '../core/arguments.ts'
import type { TypedArray } from '../core/dtype.ts'
import { type Shape, show, sizeOf } from '../core/shape.ts'
import {
  decodeElements,
  encodeElements,
  isSafetensorsDType,
  quote,
  type SafetensorsDType,
  SafetensorsError,
  safetensorsBytes,
} from './safetensors-elements.ts'

export { type SafetensorsDType, SafetensorsError, safetensorsBytes, safetensorsDType } from './safetensors-elements.ts'

/** A tensor on the host, as it is read or is to be written. */
export interface HostTensor<Data = TypedArray> {
  readonly dtype: SafetensorsDType
  readonly shape: Shape
  readonly data: Data
}

/** Where a tensor lies: bytes [begin, end) of the file. */
export interface SafetensorsEntry {
  /** A type of the format, or one that came later: its tensors are listed and copied, but not read. */
  readonly dtype: string
  readonly shape: Shape
  readonly begin: number
  readonly end: number
}

/** Bytes that are stored as they are. `size` counts them. */
export interface RawTensor {
  readonly dtype: string
  readonly shape: Shape
  readonly size: number
  /** Reads the bytes as the file stores them. */
  readonly bytes: () => Uint8Array
}

/** Header of a file: the place of every tensor, and the metadata. */
export interface SafetensorsHeader {
  /** By name, in the order of the bytes. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>
  readonly metadata: ReadonlyMap<string, string>
}

const lengthBytes = 8
/** The official reader's bound. */
const largestHeader = 100_000_000

/**
 * Length of the JSON header, from the file's first 8 bytes (fewer if it is shorter). Throws SafetensorsError where the
 * file could not hold it.
 */
export function safetensorsHeaderLength(start: Uint8Array, fileLength: number, file: string): number {
  check('safetensorsHeaderLength', 'start', start, aUint8Array)
  check('safetensorsHeaderLength', 'fileLength', fileLength, aSize)
  check('safetensorsHeaderLength', 'file', file, aString)
  if (fileLength < lengthBytes || start.length < lengthBytes)
    fail(file, `expected at least ${lengthBytes} bytes, got ${fileLength}: not a safetensors file, or cut short`)
  const view = new DataView(start.buffer, start.byteOffset, lengthBytes)
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true)
  if (length > largestHeader)
    fail(file, `expected a header of at most ${largestHeader} bytes, got ${length}: not a safetensors file, or damaged`)
  if (length > fileLength - lengthBytes)
    fail(file, `the header wants ${length} bytes, got ${fileLength - lengthBytes}: the file is cut short`)
  return length
}

/** Parses and checks the JSON header of a file of `fileLength` bytes. Throws SafetensorsError. */
export function parseSafetensorsHeader(json: Uint8Array, fileLength: number, file: string): SafetensorsHeader {
  check('parseSafetensorsHeader', 'json', json, aUint8Array)
  check('parseSafetensorsHeader', 'fileLength', fileLength, aSize)
  check('parseSafetensorsHeader', 'file', file, aString)
  const header = parseObject(json, file)
  const dataBegin = lengthBytes + json.length
  const metadata = new Map<string, string>()
  const entries: [string, SafetensorsEntry][] = []
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') entries.push([name, parseEntry(value, dataBegin, `${file}: tensor ${quote(name)}`)])
    else for (const [key, text] of Object.entries(parseMetadata(value, file))) metadata.set(key, text)
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)
  let end = dataBegin
  for (const [name, entry] of entries) {
    if (entry.begin !== end)
      fail(
        `${file}: tensor ${quote(name)}`,
        `data_offsets: expected a begin at ${end - dataBegin}, where the tensor before ends, got ${entry.begin - dataBegin}`,
      )
    end = entry.end
  }
  if (end !== fileLength)
    fail(
      file,
      `expected ${end} bytes by its header, got ${fileLength}${fileLength < end ? ': the file is cut short' : ''}`,
    )
  return { tensors: new Map(entries), metadata }
}

function parseObject(bytes: Uint8Array, file: string): object {
  let json = ''
  let header: unknown
  try {
    json = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    header = JSON.parse(json)
  } catch {
    fail(file, 'expected a header of JSON in UTF-8, got bytes that are not: not a safetensors file, or damaged')
  }
  if (!isRecord(header)) fail(file, `header: expected a JSON object, got ${describe(header)}`)
  const twice = duplicateKey(json)
  if (twice !== undefined) fail(file, `header: expected every key once, got ${quote(twice)} twice`)
  return header
}

/** A key that one object in `json`, which is valid JSON, has twice. JSON.parse would keep the last silently. */
function duplicateKey(json: string): string | undefined {
  const keys: Set<string>[] = []
  for (const [token, colon] of json.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}]/g)) {
    if (token === '{') keys.push(new Set())
    else if (token === '}') keys.pop()
    else if (colon !== undefined) {
      const key: string = JSON.parse(token.slice(0, -colon.length))
      const seen = keys[keys.length - 1]
      if (seen.has(key)) return key
      seen.add(key)
    }
  }
  return undefined
}

function parseMetadata(value: unknown, file: string): Record<string, string> {
  if (value === null) return {} // some writers' word for none
  if (!isRecord(value)) fail(file, `__metadata__: expected an object of strings, got ${describe(value)}`)
  for (const [key, text] of Object.entries(value))
    if (typeof text !== 'string') fail(file, `__metadata__: expected a string at ${quote(key)}, got ${describe(text)}`)
  return value as Record<string, string>
}

function parseEntry(value: unknown, dataBegin: number, where: string): SafetensorsEntry {
  if (!isRecord(value)) fail(where, `expected { dtype, shape, data_offsets }, got ${describe(value)}`)
  const { dtype, shape, data_offsets: offsets } = value
  if (typeof dtype !== 'string' || !/^[A-Z][A-Z0-9_]{0,39}$/.test(dtype))
    fail(where, `dtype: expected the name of a type, such as F32, got ${describe(dtype)}`)
  if (!isCounts(shape)) fail(where, `shape: expected integers from 0, got ${describe(shape)}`)
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0] > offsets[1])
    fail(where, `data_offsets: expected [begin, end], integers with 0 ≤ begin ≤ end, got ${describe(offsets)}`)
  let elements = 1
  for (const n of shape) {
    elements *= n
    if (!Number.isSafeInteger(8 * elements)) fail(where, `shape: expected less than 2^53 bytes, got ${describe(shape)}`)
  }
  const bytes = isSafetensorsDType(dtype) ? elements * safetensorsBytes[dtype] : offsets[1] - offsets[0]
  if (offsets[1] - offsets[0] !== bytes)
    fail(
      where,
      `expected ${bytes} bytes for ${dtype} ${show(shape)}, got ${offsets[1] - offsets[0]} by its data_offsets`,
    )
  return { dtype, shape, begin: dataBegin + offsets[0], end: dataBegin + offsets[1] }
}

/** Returns the header's bytes and the order of the tensors: larger elements first, which aligns all of them. */
export function encodeSafetensorsHeader(
  tensors: ReadonlyMap<string, Omit<HostTensor, 'data'> | RawTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): { bytes: Uint8Array; order: string[] } {
  checkHostTensors('encodeSafetensorsHeader', tensors, metadata)
  const width = (dtype: string) => (isSafetensorsDType(dtype) ? safetensorsBytes[dtype] : 0)
  const order = [...tensors].sort(([, a], [, b]) => width(b.dtype) - width(a.dtype))
  const header: [string, unknown][] = metadata.size > 0 ? [['__metadata__', Object.fromEntries(metadata)]] : []
  let end = 0
  for (const [name, tensor] of order) {
    const { dtype, shape } = tensor
    if (name === '__metadata__') throw new SafetensorsError(`writing: '__metadata__' cannot be the name of a tensor`)
    const begin = end
    end += 'size' in tensor ? tensor.size : sizeOf(shape) * safetensorsBytes[tensor.dtype]
    header.push([name, { dtype, shape, data_offsets: [begin, end] }])
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)))
  const padded = Math.ceil(json.length / 8) * 8
  const bytes = new Uint8Array(lengthBytes + padded).fill(0x20) // the format pads with spaces
  const view = new DataView(bytes.buffer)
  view.setUint32(0, padded, true)
  view.setUint32(4, 0, true)
  bytes.set(json, lengthBytes)
  return { bytes, order: order.map(([name]) => name) }
}

/** All tensors of a file's bytes. Throws SafetensorsError; `file` is what messages call it. */
export function decodeSafetensors(
  bytes: Uint8Array,
  file = 'safetensors',
): { tensors: Map<string, HostTensor>; metadata: ReadonlyMap<string, string> } {
  check('decodeSafetensors', 'bytes', bytes, aUint8Array)
  check('decodeSafetensors', 'file', file, aString)
  const length = safetensorsHeaderLength(bytes, bytes.length, file)
  const json = bytes.subarray(lengthBytes, lengthBytes + length)
  const header = parseSafetensorsHeader(json, bytes.length, file)
  const tensors = new Map<string, HostTensor>()
  for (const [name, { dtype, shape, begin, end }] of header.tensors)
    tensors.set(name, decoded(dtype, shape, bytes.subarray(begin, end), `${file}: tensor ${quote(name)}`))
  return { tensors, metadata: header.metadata }
}

/** A stored tensor, its elements decoded (`decodeElements`). Throws SafetensorsError on a type that is not read. */
export function decoded(dtype: string, shape: Shape, bytes: Uint8Array, where: string): HostTensor {
  return { dtype: dtype as SafetensorsDType, shape, data: decodeElements(dtype, bytes, where) } // it threw on another type
}

/** The bytes of a file with these tensors. Throws SafetensorsError where data does not fit shape or stored type. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, HostTensor<ArrayLike<number>>>,
  metadata?: ReadonlyMap<string, string>,
): Uint8Array {
  checkHostTensors('encodeSafetensors', tensors, metadata)
  for (const [name, { data }] of tensors) check('encodeSafetensors', `data of ${quote(name)}`, data, numbers)
  const header = encodeSafetensorsHeader(tensors, metadata)
  const parts = [header.bytes]
  for (const name of header.order) {
    const { dtype, shape, data } = tensors.get(name)!
    const where = `writing: tensor ${quote(name)}`
    if (data.length !== sizeOf(shape))
      fail(where, `expected ${sizeOf(shape)} elements for ${show(shape)}, got ${data.length}`)
    parts.push(encodeElements(dtype, data, where))
  }
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Throws TypeError unless these are tensors by name, each with a dtype and a shape, and metadata, a Map of strings or undefined. */
export function checkHostTensors(
  op: string,
  tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: Shape }>,
  metadata?: ReadonlyMap<string, string>,
): void {
  check(op, 'tensors', tensors, aMap)
  for (const [name, tensor] of tensors) {
    check(op, `tensor ${quote(name)}`, tensor, anObject)
    check(op, `dtype of ${quote(name)}`, tensor.dtype, aString)
    check(op, `shape of ${quote(name)}`, tensor.shape, numbers)
  }
  check(op, 'metadata', metadata, optional(aMap))
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(n => Number.isSafeInteger(n) && n >= 0)
}

function describe(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 80)
}

function fail(where: string, problem: string): never {
  throw new SafetensorsError(`${where}: ${problem}`)
}
