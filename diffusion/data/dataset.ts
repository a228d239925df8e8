/**
 * What the training loop needs to know of a set of pictures, and the conversion of pictures to what models see. Where
 * pictures come from: emoji.ts and folder.ts. How they become batches: batches.ts.
 */

/** Square RGB pictures with one class each. */
export interface ImageDataset {
  /** What openDataset was asked for. */
  readonly name: string
  /** Number of pictures. */
  readonly length: number
  /** Height and width. */
  readonly size: number
  readonly channels: 3
  readonly classes: readonly string[]
  /** Whether a picture's mirror image could be of the set too. */
  readonly flips: boolean
  /** Index in `classes` of picture `i`. */
  label(i: number): number
  /** Picture `i` as bytes, (3, size, size). At once where it is in memory; not to be written to. */
  pixels(i: number): Uint8Array | Promise<Uint8Array>
}

/** Bytes in [0, 255] to [-1, 1]. */
export function toModelRange(byte: number): number {
  return byte / 127.5 - 1
}

/** [-1, 1] to bytes, rounded and clipped. */
export function toByte(value: number): number {
  return Math.round(Math.min(Math.max((value + 1) * 127.5, 0), 255))
}

/** Interleaved pixels (H, W, C) with at least 3 channels to planes (3, H, W). */
export function planesOf(pixels: Uint8Array, channels: number): Uint8Array {
  const area = pixels.length / channels
  const planes = new Uint8Array(3 * area)
  for (let c = 0; c < 3; c++) for (let i = 0; i < area; i++) planes[c * area + i] = pixels[i * channels + c]
  return planes
}
