/**
 * Element types of safetensors files and their conversion to and from typed arrays: floats of 16 and 8 bits, integers of
 * any width and bytes become the f32, f64 or i32 that tensors have, and back. Read safetensors.ts first.
 */

import type { DType, TypedArray } from '../core/dtype.ts'

/** Bytes of one element of each type of the format. Elements of F6 and F4 share bytes. */
export const safetensorsBytes = {
  F64: 8,
  I64: 8,
  U64: 8,
  C64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  F4: 0.5,
} as const

/** Element types of the format. */
export type SafetensorsDType = keyof typeof safetensorsBytes

/** True if the format has a type of this name. */
export function isSafetensorsDType(name: string): name is SafetensorsDType {
  return Object.hasOwn(safetensorsBytes, name)
}

/** The stored type that holds a tensor of ours without loss. */
export const safetensorsDType: Readonly<Record<DType, SafetensorsDType>> = { f32: 'F32', f64: 'F64', i32: 'I32' }

/** A file or tensor that is not what it should be: `file: tensor 'name': expected …, got …`, one line. */
export class SafetensorsError extends Error {
  override name = 'SafetensorsError'
}

/** A name from a file, on one line and not too long. */
export function quote(name: string): string {
  return `'${JSON.stringify(name).slice(1, -1).slice(0, 120)}'`
}

/**
 * The elements of a stored tensor: F64 as f64; F32, F16, BF16 and floats of 8 bits as f32, exactly; integers and BOOL as i32.
 * `bytes` may be a view at any offset, its length a multiple of the element's; the result is a copy. Throws
 * SafetensorsError, naming `where`, on integers outside of i32, on a BOOL other than 0 and 1, and on other types.
 */
export function decodeElements(dtype: string, bytes: Uint8Array, where: string): TypedArray {
  if (dtype === 'U8' || dtype === 'BOOL') {
    const bad = dtype === 'BOOL' ? bytes.findIndex(byte => byte > 1) : -1
    if (bad >= 0) throw new SafetensorsError(`${where}: element ${bad}: expected 0 or 1 in a BOOL, got ${bytes[bad]}`)
    return new Int32Array(bytes)
  }
  const values = float8Values(dtype)
  if (values !== undefined) return Float32Array.from(bytes, code => values[code])
  const buffer = new Uint8Array(bytes).buffer // a copy, and aligned
  switch (dtype) {
    case 'I8':
      return new Int32Array(new Int8Array(buffer))
    case 'I16':
      return new Int32Array(new Int16Array(buffer))
    case 'U16':
      return new Int32Array(new Uint16Array(buffer))
    case 'F64':
      return new Float64Array(buffer)
    case 'F32':
      return new Float32Array(buffer)
    case 'I32':
      return new Int32Array(buffer)
    case 'U32':
      return narrowed(new Uint32Array(buffer), dtype, where)
    case 'I64':
      return narrowed(new BigInt64Array(buffer), dtype, where)
    case 'U64':
      return narrowed(new BigUint64Array(buffer), dtype, where)
    case 'F16':
      return fromFloat16(new Uint16Array(buffer))
    case 'BF16':
      return fromBFloat16(new Uint16Array(buffer))
  }
  throw new SafetensorsError(`${where}: expected elements that f32, f64 or i32 can hold, got ${quote(dtype)}`)
}

/**
 * The bytes of elements that are to be stored as `dtype`; a view of `data` where it has that type already. Floats are
 * rounded to nearest, ties to even. Throws SafetensorsError on a number that an integer type cannot hold, and on a type that
 * numbers are not converted to.
 */
export function encodeElements(dtype: SafetensorsDType, data: ArrayLike<number>, where: string): Uint8Array {
  if (dtype === 'F64') return bytesOf(data instanceof Float64Array ? data : new Float64Array(data))
  if (dtype === 'F32') return bytesOf(data instanceof Float32Array ? data : new Float32Array(data))
  if (dtype === 'F16') return bytesOf(toHalves(data, 10, -14))
  if (dtype === 'BF16') return bytesOf(data instanceof Float32Array ? upperHalves(data) : toHalves(data, 7, -126))
  if (dtype === 'I32' && data instanceof Int32Array) return bytesOf(data)
  if (dtype === 'U8' && data instanceof Uint8Array) return bytesOf(data)
  if (!isInteger(dtype))
    throw new SafetensorsError(`${where}: expected a type that numbers are stored as, got ${dtype}`)
  const [low, high] = integerRange[dtype]
  for (let i = 0; i < data.length; i++)
    if (!Number.isInteger(data[i]) || data[i] < low || data[i] > high)
      throw new SafetensorsError(
        `${where}: element ${i}: expected an integer in [${low}, ${high}] for ${dtype}, got ${data[i]}`,
      )
  if (dtype === 'I32') return bytesOf(new Int32Array(data))
  if (dtype === 'U32') return bytesOf(new Uint32Array(data))
  if (dtype === 'I16' || dtype === 'U16') return bytesOf(new Uint16Array(data)) // a negative number wraps
  if (dtype === 'I64' || dtype === 'U64') return bytesOf(BigInt64Array.from(Array.from(data, BigInt)))
  return new Uint8Array(data) // of an I8 too: it wraps
}

/** The integers that a type holds; of 64 bits, those that a JavaScript number holds. */
const integerRange = {
  BOOL: [0, 1],
  U8: [0, 255],
  U16: [0, 2 ** 16 - 1],
  U32: [0, 2 ** 32 - 1],
  U64: [0, 2 ** 53],
  I8: [-128, 127],
  I16: [-(2 ** 15), 2 ** 15 - 1],
  I32: [-(2 ** 31), 2 ** 31 - 1],
  I64: [-(2 ** 53), 2 ** 53],
} as const

function isInteger(dtype: SafetensorsDType): dtype is keyof typeof integerRange {
  return Object.hasOwn(integerRange, dtype)
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/** Integers of a wider type as i32. Throws SafetensorsError on one that is out of range. */
function narrowed(wide: Uint32Array | BigInt64Array | BigUint64Array, dtype: string, where: string): Int32Array {
  const out = new Int32Array(wide.length)
  for (let i = 0; i < out.length; i++) {
    out[i] = Number(wide[i])
    if (out[i] !== Number(wide[i]))
      throw new SafetensorsError(`${where}: element ${i}: expected an ${dtype} in the range of i32, got ${wide[i]}`)
  }
  return out
}

const float8Tables = new Map<string, Float32Array>()

/**
 * The 256 values of a type of 8-bit floats, by their codes; undefined for another type. `fn` types have no infinity and one
 * NaN; `fnuz` types have no negative 0 either, whose code is NaN. [OCP Microscaling formats; Micikevicius et al. 2022]
 */
function float8Values(dtype: string): Float32Array | undefined {
  const known = float8Tables.get(dtype)
  if (known !== undefined || !dtype.startsWith('F8_')) return known
  const values = new Float32Array(256)
  for (let code = 0; code < 256; code++) {
    if (dtype === 'F8_E8M0') values[code] = code === 255 ? NaN : 2 ** (code - 127)
    else if (dtype === 'F8_E4M3') values[code] = (code & 0x7f) === 0x7f ? NaN : float8(code, 4, 7)
    else if (dtype === 'F8_E4M3FNUZ') values[code] = code === 0x80 ? NaN : float8(code, 4, 8)
    else if (dtype === 'F8_E5M2FNUZ') values[code] = code === 0x80 ? NaN : float8(code, 5, 16)
    else if (dtype !== 'F8_E5M2') return undefined
    else if ((code & 0x7f) < 0x7c) values[code] = float8(code, 5, 15)
    else values[code] = (code & 0x7f) > 0x7c ? NaN : code < 0x80 ? Infinity : -Infinity
  }
  float8Tables.set(dtype, values)
  return values
}

/** Sign, exponent with this many bits and bias, and the mantissa in the rest. */
function float8(code: number, exponentBits: number, bias: number): number {
  const one = 2 ** (7 - exponentBits)
  const exponent = Math.floor((code & 0x7f) / one)
  const mantissa = (code & 0x7f) % one
  const magnitude = exponent === 0 ? (mantissa / one) * 2 ** (1 - bias) : (1 + mantissa / one) * 2 ** (exponent - bias)
  return code < 0x80 ? magnitude : -magnitude
}

/** bfloat16 is the upper half of a float32. */
function fromBFloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i] << 16
  return new Float32Array(bits.buffer)
}

/** The same of numbers that are float32, by their bits: rounded to nearest, ties to even, where a half is dropped. */
function upperHalves(data: Float32Array): Uint16Array {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length)
  const out = new Uint16Array(data.length)
  for (let i = 0; i < out.length; i++) {
    const nan = (bits[i] & 0x7fffffff) > 0x7f800000
    out[i] = nan ? 0x7fc0 : (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16
  }
  return out
}

/** Exponent and mantissa moved to their places in a float32: a number too small by the difference of biases, 2^112. */
function fromFloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < bits.length; i++) bits[i] = (halves[i] & 0x7fff) << 13
  const out = new Float32Array(bits.buffer)
  for (let i = 0; i < out.length; i++) {
    const half = halves[i] & 0x7fff
    const magnitude = half < 0x7c00 ? out[i] * 2 ** 112 : half === 0x7c00 ? Infinity : NaN
    out[i] = halves[i] < 0x8000 ? magnitude : -magnitude
  }
  return out
}

/** The nearest 16-bit floats with `bits` of mantissa and the exponent `smallest` for the smallest normal number. */
function toHalves(data: ArrayLike<number>, bits: number, smallest: number): Uint16Array {
  const out = new Uint16Array(data.length)
  const infinity = 0x8000 - (1 << bits)
  for (let i = 0; i < out.length; i++) {
    const magnitude = Math.abs(data[i])
    const sign = data[i] < 0 || Object.is(data[i], -0) ? 0x8000 : 0
    if (magnitude < Infinity) {
      const exponent = Math.max(exponentOf(magnitude), smallest)
      const steps = magnitude / 2 ** (exponent - bits) // exact; the mantissa, and what is to be rounded off
      const rounded = steps + 2 ** 52 - 2 ** 52 // from 2^52 on, numbers are integers, and ties went to even
      // A normal mantissa's leading one adds 1 to the exponent field, and so does a carry out of rounding.
      out[i] = sign + Math.min((exponent - smallest) * (1 << bits) + rounded, infinity)
    } else out[i] = Number.isNaN(data[i]) ? infinity + (1 << (bits - 1)) : sign + infinity
  }
  return out
}

const float64 = new Float64Array(1)
const words = new Uint32Array(float64.buffer)

/** ⌊log₂ x⌋ of a positive normal number; −1023 of 0 and subnormal ones. */
function exponentOf(x: number): number {
  float64[0] = x
  return (words[1] >>> 20) - 1023
}
