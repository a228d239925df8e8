/**
 * The window of a convolution as its kernels take it: the taps and what they see, the passes over planes, and pictures
 * whose window is a single pixel as one row.
 */

import { type Convolution, windowPositions } from '../../../backend.ts'
import { ceilDiv, type Shape } from '../../../shape.ts'
import { type Address, addBytes } from '../memory.ts'
import type { LaunchContext } from '../storage.ts'

/** Steps of k in one pass at most, as in matmul.ts; one plane may have more. */
const PASS = 512

/** Pictures (N, groups · planes, H, W). */
export interface Pictures {
  readonly address: Address
  readonly N: number
  readonly groups: number
  readonly planes: number
  readonly H: number
  readonly W: number
}

/** A tap of the kernel: its pixel relative to the position, and its place in the kernel. */
export type Tap = readonly [down: number, right: number, place: number]

/** Positions of a window: rows × columns of them, `stride` pixels apart, and the taps that they see. */
export interface Positions {
  readonly rows: number
  readonly columns: number
  readonly stride: readonly [number, number]
  readonly taps: readonly Tap[]
}

/** The picture x and the positions of the window, of which a single pixel slides along one row of all pixels. */
export function windowOn(
  x: Address,
  [N, C, H, W]: Shape,
  { window, groups }: Convolution,
): { readonly pictures: Pictures; readonly positions: Positions } {
  const [kh, kw] = window.kernel
  const [top, , left] = window.padding
  const [down, right] = window.dilation ?? [1, 1]
  const pixelwise = kh * kw === 1 && [...window.stride, 1 + Math.max(...window.padding)].every(n => n === 1)
  const pictures = { address: x, N, groups, planes: C / groups }
  if (pixelwise)
    return {
      pictures: { ...pictures, H: 1, W: H * W },
      positions: { rows: 1, columns: H * W, stride: [1, 1], taps: [[0, 0, 0]] },
    }
  const [rows, columns] = windowPositions([N, C, H, W], window)
  const taps = Array.from({ length: kh * kw }, (_, place): Tap => {
    const [i, j] = [Math.floor(place / kw), place % kw]
    return [i * down - top, j * right - left, place]
  })
  return { pictures: { ...pictures, H, W }, positions: { rows, columns, stride: window.stride, taps } }
}

/** Passes over planes of so many taps each, and planes in all but the last: a multiple of 4 where there are several. */
export function passesOf(planes: number, taps: number): { readonly passes: number; readonly perPass: number } {
  const most = Math.max(1, Math.floor(PASS / taps))
  const even = ceilDiv(planes, ceilDiv(planes, most))
  const perPass = even < planes && even > 4 ? Math.min(most, ceilDiv(even, 4) * 4) : even
  return { passes: ceilDiv(planes, perPass), perPass }
}

/** Runs `use` with the address of the taps, and of pieces of scratch memory of these sizes. */
export function withTaps(
  { runtime, scratch }: LaunchContext,
  taps: readonly Tap[],
  sizes: readonly number[],
  use: (...pieces: Address[]) => void,
): void {
  const starts: number[] = []
  let bytes = 0
  for (const size of [12 * taps.length, ...sizes]) {
    starts.push(bytes)
    bytes += ceilDiv(size, 64) * 64
  }
  scratch(bytes, from => {
    const pieces = starts.map(start => addBytes(from, start))
    runtime.ints(pieces[0], 3 * taps.length).set(taps.flat())
    use(...pieces)
  })
}

/** Bytes that `locate` writes for the pixels of some quads of positions. */
export function listBytes(quads: number, taps: number): number {
  return quads * (16 + 32 * taps)
}
