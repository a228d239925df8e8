/** Elements of a strided view, moved to C order. Runs anywhere. */

import { type Shape, sizeOf } from '../core/shape.ts'

/**
 * Returns the bytes of a view's elements in C order. Elements have `size` bytes (1, 2, or a multiple of 4); the first one
 * is at the start of `bytes`, and `strides` count elements.
 */
export function gatherElements(bytes: Uint8Array, size: number, shape: Shape, strides: readonly number[]): Uint8Array {
  const words = Math.max(size / 4, 1) // an element is one number of 1 or 2 bytes, or several of 4
  const held = wordsOf(bytes, size)
  const out = new Uint8Array(sizeOf(shape) * size)
  const to = wordsOf(out, size)
  const index = shape.map(() => 0)
  let from = 0
  for (let i = 0; i < to.length; i += words) {
    for (let word = 0; word < words; word++) to[i + word] = held[from * words + word]
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]
      if (++index[axis] < shape[axis]) break
      from -= shape[axis] * strides[axis]
      index[axis] = 0
    }
  }
  return out
}

/** Returns bytes as unsigned integers of up to four bytes: a view, or a copy if they are not aligned. */
function wordsOf(bytes: Uint8Array, size: number): Uint8Array | Uint16Array | Uint32Array {
  if (size === 1) return bytes
  const unit = size === 2 ? 2 : 4
  const { buffer, byteOffset, length } = bytes.byteOffset % unit === 0 ? bytes : new Uint8Array(bytes)
  return size === 2
    ? new Uint16Array(buffer, byteOffset, length >> 1)
    : new Uint32Array(buffer, byteOffset, length >> 2)
}
