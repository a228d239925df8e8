/**
 * Inputs of inpaint.ts: pictures, and the part of them that is to be filled in, as pixels and as tokens.
 */

import { rng } from '../core/index.ts'
import { type ClassFrom, openDataset, readPicture, toModelRange } from '../data/index.ts'
import { keepLeast, type TokenMask } from '../diffusion/index.ts'
import { UserError } from '../io/user-error.ts'

export interface Input {
  /** (3, S, S) in [-1, 1] */
  readonly pixels: Float32Array
  readonly label: number | null
}

/** The picture that was asked for, or some of a set, by seed. Throws UserError. */
export async function pictures(
  flags: { readonly image?: string; readonly pictures: number; readonly seed: number },
  run: { readonly data?: string; readonly classFrom?: ClassFrom } | null,
  S: number,
): Promise<Input[]> {
  if (flags.image !== undefined) {
    const rgb = await readPicture(flags.image, S)
    return [{ pixels: Float32Array.from(rgb, toModelRange), label: null }]
  }
  if (run?.data === undefined)
    throw new UserError('--image: expected a picture, as a file of weights does not tell of any')
  const set = await openDataset(run.data, S, { classFrom: run.classFrom })
  const chosen = rng(flags.seed).fork('pictures').permutationArray(set.length).subarray(0, flags.pictures)
  return Promise.all(
    Array.from(chosen, async i => ({
      pixels: Float32Array.from(await set.pixels(i), toModelRange),
      label: set.label(i),
    })),
  )
}

/** S·S numbers, 1 in the hole, from `left`, `right`, `center` or `x,y,w,h`. Throws UserError. */
export function holeAt(where: string, S: number): Int32Array {
  const half = Math.round(S / 2)
  const quarter = Math.round(S / 4)
  const named: Readonly<Record<string, readonly number[]>> = {
    left: [0, 0, half, S],
    right: [S - half, 0, half, S],
    center: [quarter, quarter, S - 2 * quarter, S - 2 * quarter],
  }
  const box = named[where] ?? (/^\d+(,\d+){3}$/.test(where) ? where.split(',').map(Number) : [])
  const [x, y, w, h] = box
  if (box.length !== 4 || w < 1 || h < 1 || x + w > S || y + h > S)
    throw new UserError(`--hole: expected left, right, center or x,y,w,h within ${S}×${S} pixels, got '${where}'`)
  const hole = new Int32Array(S * S)
  for (let row = y; row < y + h; row++) hole.fill(1, row * S + x, row * S + x + w)
  return checked('--hole', hole)
}

/** The same from the bright half of a picture's range. Throws UserError. */
export async function holeIn(path: string, S: number): Promise<Int32Array> {
  const rgb = await readPicture(path, S)
  return checked(
    `--mask: ${path}`,
    Int32Array.from({ length: S * S }, (_, i) => (rgb[i] + rgb[S * S + i] + rgb[2 * S * S + i] > 382 ? 1 : 0)),
  )
}

function checked(what: string, hole: Int32Array): Int32Array {
  const size = hole.reduce((a, b) => a + b, 0)
  if (size === 0 || size === hole.length)
    throw new UserError(
      `${what}: expected a hole that is a part of the picture, got ${size === 0 ? 'none' : 'all of it'}`,
    )
  return hole
}

/** The mask that removes every token with a pixel in the hole, for N pictures. Throws UserError where that is all. */
export function maskOf(hole: Int32Array, N: number, S: number, P: number): TokenMask {
  const side = S / P
  const removed = new Float32Array(side * side)
  hole.forEach((inside, i) => {
    if (inside === 1) removed[Math.floor(Math.floor(i / S) / P) * side + Math.floor((i % S) / P)] = 1
  })
  const K = removed.filter(r => r === 0).length
  if (K === 0) throw new UserError('--hole: it touches every token of the model, and mdt must keep some')
  const all = Float32Array.from({ length: N * side * side }, (_, i) => removed[i % (side * side)])
  return keepLeast(all, [N, side * side], K)
}
