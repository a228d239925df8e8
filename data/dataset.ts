/**
 * Interface of data sets to the training loop, and the conversion of bytes to model inputs. Sets of pictures: emoji.ts
 * and folder.ts; latents: latents.ts; batches: batches.ts.
 */

import { aCount, aFunction, aNumber, arrayOf, aUint8Array, check } from '../core/arguments.ts'
import type { Skipped } from './unreadable.ts'

/** Training examples: squares of some channels, pictures or their latents, with one class each. */
export interface TrainingSet {
  /** The argument of openDataset, or the folder of latents. */
  readonly name: string
  /** Number of pictures. */
  readonly length: number
  /** Height and width, of what a model sees. */
  readonly size: number
  readonly channels: number
  readonly classes: readonly string[]
  /** True if horizontal flips are a valid augmentation. */
  readonly flips: boolean
  /** Index in `classes` of picture `i`. */
  label(i: number): number
  /** Number that is the same for pictures of one thing, such as the skin tones of an emoji; absent if all are different. */
  group?(i: number): number
}

/** Square RGB pictures. */
export interface ImageDataset extends TrainingSet {
  readonly channels: 3
  /** Picture `i` as bytes, (3, size, size). At once where it is in memory; not to be written to. */
  pixels(i: number): Uint8Array | Promise<Uint8Array>
  /** Pixels by which a random crop may move; absent for none. */
  readonly margin?: number
  /** The square of `size` at (top, left) of picture `i`, both in [0, margin], as bytes (3, size, size). */
  window?(i: number, top: number, left: number): Promise<Uint8Array>
  /** Pictures that cannot be read and are left out; a set without it leaves none out. */
  readonly skipped?: Skipped
}

/** Bytes in [0, 255] to [-1, 1]. */
export function toModelRange(byte: number): number {
  check('toModelRange', 'byte', byte, aNumber)
  return byte / 127.5 - 1
}

const pictureBytes = arrayOf('a list of Uint8Arrays', aUint8Array)

/** Pictures as bytes, each (3, size, size), to what models see: (N, 3, size, size) in [-1, 1], some mirrored. */
export function imagesOf(
  pictures: readonly Uint8Array[],
  size: number,
  mirrored: (i: number) => boolean = () => false,
): Float32Array {
  check('imagesOf', 'pictures', pictures, pictureBytes)
  check('imagesOf', 'size', size, aCount)
  check('imagesOf', 'mirrored', mirrored, aFunction)
  const images = new Float32Array(pictures.length * 3 * size * size)
  for (const [i, bytes] of pictures.entries()) {
    const mirror = mirrored(i)
    for (let row = 0; row < 3 * size; row++)
      for (let x = 0; x < size; x++)
        images[(i * 3 * size + row) * size + x] = toModelRange(bytes[row * size + (mirror ? size - 1 - x : x)])
  }
  return images
}

/** [-1, 1] to bytes, clipped and rounded: ADM truncates, which makes pictures darker by half a level. */
export function toByte(value: number): number {
  check('toByte', 'value', value, aNumber)
  return Math.round(Math.min(Math.max((value + 1) * 127.5, 0), 255))
}

/** Interleaved pixels (H, W, C) with at least 3 channels to planes (3, H, W). */
export function planesOf(pixels: Uint8Array, channels: number): Uint8Array {
  check('planesOf', 'pixels', pixels, aUint8Array)
  check('planesOf', 'channels', channels, aCount)
  const area = pixels.length / channels
  const planes = new Uint8Array(3 * area)
  for (let c = 0; c < 3; c++) for (let i = 0; i < area; i++) planes[c * area + i] = pixels[i * channels + c]
  return planes
}
