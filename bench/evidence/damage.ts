/**
 * Damage to pictures: noise, specks, blur and shifts of a known strength. The feature network of evaluation/ is trained to
 * predict it (train-emoji-features.ts), and the yardstick is checked with it (yardstick.ts). All functions take the planes of
 * one picture, (3, S, S) in [−1, 1], and return new ones.
 */

import type { Rng } from '../../core/index.ts'

/** Colour of the background of emoji. */
const white = 1

/** Kinds of damage. */
export const damageKinds = ['noise', 'specks', 'blur', 'right', 'left', 'down', 'up'] as const

/** Adds normal noise of standard deviation `deviation`. */
export function noised(planes: Float32Array, deviation: number, rng: Rng): Float32Array {
  const noise = rng.normalArray(planes.length)
  return planes.map((value, i) => value + deviation * noise[i])
}

/** Gives each pixel, with probability `share`, a colour drawn uniformly. */
export function specked(planes: Float32Array, share: number, rng: Rng): Float32Array {
  const pixels = planes.length / 3
  const chosen = rng.uniformArray(pixels)
  const colours = rng.uniformArray(planes.length)
  return planes.map((value, i) => (chosen[i % pixels] < share ? 2 * colours[i] - 1 : value))
}

/** Mixes the picture with itself under the binomial filter of 5 × 5; `share` in [0, 1] is that of the filtered one. */
export function blurred(planes: Float32Array, share: number): Float32Array {
  const S = sideOf(planes)
  const filtered = alongAxis(alongAxis(planes, S, 1), S, S)
  return planes.map((value, i) => value + share * (filtered[i] - value))
}

/** Filters rows (`step` 1) or columns (`step` S) by 1 4 6 4 1. Pixels outside have the colour of the edge. */
function alongAxis(planes: Float32Array, S: number, step: number): Float32Array {
  return planes.map((_, i) => {
    const at = Math.floor(i / step) % S
    const neighbour = (offset: number) => planes[i + step * (Math.min(Math.max(at + offset, 0), S - 1) - at)]
    return (neighbour(-2) + 4 * neighbour(-1) + 6 * neighbour(0) + 4 * neighbour(1) + neighbour(2)) / 16
  })
}

/** Moves the picture right and down by whole pixels, or left and up by negative ones, over white. */
export function shifted(planes: Float32Array, right: number, down: number): Float32Array {
  const S = sideOf(planes)
  return planes.map((_, i) => {
    const [x, y] = [(i % S) - right, (Math.floor(i / S) % S) - down]
    return x >= 0 && x < S && y >= 0 && y < S ? planes[i - right - S * down] : white
  })
}

/** Halves height and width, by means of 2 × 2 pixels. */
export function halved(planes: Float32Array): Float32Array {
  const S = sideOf(planes)
  const half = S / 2
  return Float32Array.from({ length: planes.length / 4 }, (_, i) => {
    const [plane, y, x] = [Math.floor(i / half ** 2), Math.floor(i / half) % half, i % half]
    const at = plane * S ** 2 + 2 * (S * y + x)
    return (planes[at] + planes[at + 1] + planes[at + S] + planes[at + S + 1]) / 4
  })
}

/** Height and width of planes (3, S, S). */
function sideOf(planes: Float32Array): number {
  return Math.sqrt(planes.length / 3)
}

/** A damaged picture. */
export interface Damaged {
  readonly planes: Float32Array
  /** Strength of each of `damageKinds`, from 0 for none to 1 for the strongest. */
  readonly strengths: readonly number[]
}

/** Strongest noise, largest share of specks, and longest shift in parts of the side. */
const strongest = { noise: 0.6, specks: 0.2, shift: 1 / 8 } as const

/**
 * Damages a picture at random: each kind is absent from half of the pictures, and weak strengths are the more frequent ones.
 * A shift comes first, and noise last.
 */
export function damaged(planes: Float32Array, rng: Rng): Damaged {
  const [noise, specks, blur] = Array.from(rng.uniformArray(3), u => Math.max(0, 2 * u - 1))
  const longest = Math.round(strongest.shift * sideOf(planes))
  const [moves, ...offsets] = rng.integersArray(-longest, longest + 1, 3)
  const [right, down] = moves > 0 ? offsets : [0, 0]
  const moved = shifted(planes, right, down)
  const soft = blur > 0 ? blurred(moved, blur) : moved
  const spotted = specks > 0 ? specked(soft, strongest.specks * specks ** 2, rng) : soft
  return {
    planes: noise > 0 ? noised(spotted, strongest.noise * noise ** 2, rng) : spotted,
    strengths: [noise, specks, blur, ...[right, -right, down, -down].map(offset => Math.max(offset, 0) / longest)],
  }
}
