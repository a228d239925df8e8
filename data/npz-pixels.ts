/**
 * The pictures of a NumPy array as RGB bytes: grey or RGB, channels last or first, bytes or other numbers whose range the
 * values tell. Needs Node. The data set: npz-pictures.ts; the file: io/npz.ts.
 */

import { aFunction, check, type Kind } from '../core/arguments.ts'
import { NpzFile } from '../io/npz.ts'
import { decodeElements } from '../io/safetensors-elements.ts'
import { UserError } from '../io/user-error.ts'

/** The array of pictures in ADM's batches. */
export const pictures = 'arr_0'

export interface NpzPixels {
  readonly count: number
  readonly height: number
  readonly width: number
  /** Interleaved RGB (H, W, 3) of one row of the array. */
  rgb(row: Uint8Array): Uint8Array
}

const anNpzFile: Kind = { expected: 'an open .npz', accepts: value => value instanceof NpzFile }

/**
 * Layout and range of the pictures in arr_0. Floats are read once for their range: 0 … 255, 0 … 1 or −1 … 1,
 * which is reported. Rejects with UserError on another shape or range.
 */
export async function npzPixels(
  file: NpzFile,
  report: (line: string) => void = line => console.error(line),
): Promise<NpzPixels> {
  check('npzPixels', 'file', file, anNpzFile)
  check('npzPixels', 'report', report, aFunction)
  const { dtype, shape } = file.header(pictures)
  const where = `${file.path}: ${pictures}`
  const layout = layoutOf(shape)
  if (layout === null || shape.includes(0))
    throw new UserError(
      `${where}: expected pictures (N, H, W, 3), (N, 3, H, W) or grey (N, H, W), got ${dtype} [${shape.join(', ')}]`,
    )
  const decode = (row: Uint8Array) => (dtype === 'U8' ? row : decodeElements(dtype, row, where))
  const toByte = dtype === 'U8' ? (value: number) => value : await byteScale(file, decode, where, report)
  const { height, width, channels, first } = layout
  const area = height * width
  const rgb = (row: Uint8Array) => {
    const values = decode(row)
    const out = new Uint8Array(3 * area)
    for (let i = 0; i < area; i++)
      for (let c = 0; c < 3; c++) {
        const channel = channels === 1 ? 0 : c
        out[3 * i + c] = toByte(values[first ? channel * area + i : channels * i + channel])
      }
    return out
  }
  return { count: shape[0], height, width, rgb }
}

/** Sizes, channels, and whether the channels come first; null for another shape. */
function layoutOf([, a, b, c, ...more]: readonly number[]) {
  if (b === undefined || more.length > 0) return null
  if (c === undefined) return { height: a, width: b, channels: 1, first: false }
  if (c === 3 || c === 1) return { height: a, width: b, channels: c, first: false }
  return a === 3 || a === 1 ? { height: b, width: c, channels: a, first: true } : null
}

/** From a number of an array to a byte, by the range of all of them. Rejects with UserError. */
async function byteScale(
  file: NpzFile,
  decode: (row: Uint8Array) => ArrayLike<number>,
  where: string,
  report: (line: string) => void,
): Promise<(value: number) => number> {
  let [least, most] = [Infinity, -Infinity]
  for await (const row of file.rows(pictures))
    for (const value of Array.from(decode(row))) {
      if (!Number.isFinite(value)) throw new UserError(`${where}: expected finite numbers, got ${value}`)
      least = Math.min(least, value)
      most = Math.max(most, value)
    }
  const ranges = [
    { low: 0, high: 1 },
    { low: 0, high: 255 },
    { low: -1, high: 1 },
  ]
  const range = ranges.find(({ low, high }) => least >= low && most <= high)
  if (range === undefined)
    throw new UserError(`${where}: expected numbers from 0 to 255, 0 to 1 or -1 to 1, got ${least} to ${most}`)
  const { low, high } = range
  report(`${where}: its numbers, ${least} to ${most}, are taken as ${low} to ${high}`)
  return value => Math.round(((value - low) / (high - low)) * 255)
}
