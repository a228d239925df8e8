/**
 * Element types of safetensors files and their conversion to and from typed arrays: 16-bit floats, 64-bit integers and
 * bytes become the f32, f64 or i32 that tensors have, and back. Read safetensors.ts first.
 */

import type { DType, TypedArray } from '../core/dtype.ts'

/** Bytes of one element of each stored type. */
export const safetensorsBytes = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const

/** Element types of the format that are read and written. */
export type SafetensorsDType = keyof typeof safetensorsBytes

/** The stored type that holds a tensor of ours without loss. */
export const safetensorsDType: Readonly<Record<DType, SafetensorsDType>> = { f32: 'F32', f64: 'F64', i32: 'I32' }

/** A file or tensor that is not what it should be: `file: tensor 'name': wanted …, got …`, one line. */
export class SafetensorsError extends Error {
  override name = 'SafetensorsError'
}

/** A name from a file, on one line and not too long. */
export function quote(name: string): string {
  return `'${JSON.stringify(name).slice(1, -1).slice(0, 120)}'`
}

/**
 * The elements of a stored tensor: F64 as f64; F32, F16, BF16 as f32; I64 to I8, U8, BOOL as i32. `bytes` may be a view
 * at any offset, its length a multiple of the element's; the result is a copy. Throws SafetensorsError on an I64 outside
 * i32 and on a BOOL other than 0 and 1, naming `where`.
 */
export function decodeElements(dtype: SafetensorsDType, bytes: Uint8Array, where: string): TypedArray {
  if (dtype === 'U8' || dtype === 'BOOL') {
    const bad = dtype === 'BOOL' ? bytes.findIndex(byte => byte > 1) : -1
    if (bad >= 0) throw new SafetensorsError(`${where}: element ${bad}: wanted 0 or 1 in a BOOL, got ${bytes[bad]}`)
    return new Int32Array(bytes)
  }
  const buffer = new Uint8Array(bytes).buffer // a copy, and aligned
  if (dtype === 'I8') return new Int32Array(new Int8Array(buffer))
  if (dtype === 'I16') return new Int32Array(new Int16Array(buffer))
  if (dtype === 'F64') return new Float64Array(buffer)
  if (dtype === 'F32') return new Float32Array(buffer)
  if (dtype === 'I32') return new Int32Array(buffer)
  if (dtype === 'I64') return narrow(new Int32Array(buffer), where)
  return dtype === 'BF16' ? fromBFloat16(new Uint16Array(buffer)) : fromFloat16(new Uint16Array(buffer))
}

/**
 * The bytes of elements that are to be stored as `dtype`; a view of `data` where it has that type already. Floats are
 * rounded to nearest, ties to even. Throws SafetensorsError on a number that an integer type cannot hold.
 */
export function encodeElements(dtype: SafetensorsDType, data: ArrayLike<number>, where: string): Uint8Array {
  if (dtype === 'F64') return bytesOf(data instanceof Float64Array ? data : new Float64Array(data))
  if (dtype === 'F32') return bytesOf(data instanceof Float32Array ? data : new Float32Array(data))
  if (dtype === 'F16') return bytesOf(toHalves(data, 10, -14))
  if (dtype === 'BF16') return bytesOf(data instanceof Float32Array ? upperHalves(data) : toHalves(data, 7, -126))
  if (dtype === 'I32' && data instanceof Int32Array) return bytesOf(data)
  if (dtype === 'U8' && data instanceof Uint8Array) return bytesOf(data)
  const [low, high] = integerRange[dtype]
  for (let i = 0; i < data.length; i++)
    if (!Number.isInteger(data[i]) || data[i] < low || data[i] > high)
      throw new SafetensorsError(
        `${where}: element ${i}: wanted an integer in [${low}, ${high}] for ${dtype}, got ${data[i]}`,
      )
  if (dtype === 'I32') return bytesOf(new Int32Array(data))
  if (dtype === 'I16') return bytesOf(new Int16Array(data))
  if (dtype === 'I64') return bytesOf(BigInt64Array.from(Array.from(data, BigInt)))
  return new Uint8Array(data) // of an I8 too: it wraps
}

/** The integers that a type holds, of I64 those that a number here does. */
const integerRange = {
  BOOL: [0, 1],
  U8: [0, 255],
  I8: [-128, 127],
  I16: [-(2 ** 15), 2 ** 15 - 1],
  I32: [-(2 ** 31), 2 ** 31 - 1],
  I64: [-(2 ** 53), 2 ** 53],
} as const

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/** 64-bit integers, given as pairs of words, that fit in 32 bits: the upper word only repeats the sign. */
function narrow(pairs: Int32Array, where: string): Int32Array {
  const out = new Int32Array(pairs.length / 2)
  for (let i = 0; i < out.length; i++) {
    const [low, high] = [pairs[2 * i], pairs[2 * i + 1]]
    if (high !== low >> 31) {
      const got = BigInt(high) * 2n ** 32n + BigInt(low >>> 0)
      throw new SafetensorsError(`${where}: element ${i}: wanted an I64 in the range of i32, got ${got}`)
    }
    out[i] = low
  }
  return out
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
