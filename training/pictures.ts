/**
 * Pictures of pictures: a grid of images as PNG. Needs Node. Charts are in charts.ts.
 */

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { SharpOptions } from 'sharp'
import { aCount, aString, check, checkOptions, listOf, numbers } from '../core/arguments.ts'
import { toByte } from '../data/dataset.ts'
import { replaceFile } from '../io/replace.ts'

/** Layout of a grid of pictures. */
export interface GridOptions {
  /** Images in a row; by default about as many as rows. */
  readonly columns?: number
  /** Side of the square that each pixel becomes, in pixels, without smoothing. */
  readonly magnify?: number
}

/**
 * Layout of a grid of samples (N, C, H, W): each at least 48 pixels high, at most 12 in a row. Samples of `kinds` kinds in turn
 * have a column for each kind, if there are at most 12 kinds.
 */
export function samplesLayout([N, , H]: readonly [N: number, C: number, H: number, W: number], kinds = 1): GridOptions {
  const most = kinds >= 1 && kinds <= 12 ? 12 - (12 % kinds) : 12
  return { columns: Math.min(most, N), magnify: Math.ceil(48 / H) }
}

/** Grey level of the 1-pixel gaps between images. */
const gap = 0xd0

const fourSizes = listOf(4)

/**
 * Writes images (N, C, H, W) in [-1, 1], C = 1 (grey) or 3 (RGB) or more (the first 3 are shown), row by row as a PNG
 * with 1-pixel gaps. Values outside are clipped. Throws UserError where the file cannot be written.
 */
export async function writeGrid(
  path: string,
  images: ArrayLike<number>,
  shape: readonly [N: number, C: number, H: number, W: number],
  options: GridOptions = {},
): Promise<void> {
  check('writeGrid', 'path', path, aString)
  check('writeGrid', 'images', images, numbers)
  check('writeGrid', 'shape', shape, fourSizes)
  checkOptions('writeGrid', options, { columns: aCount, magnify: aCount })
  const [N, C, H, W] = shape
  const { columns = Math.ceil(Math.sqrt(N)), magnify = 1 } = options
  if (images.length !== N * C * H * W || N === 0)
    throw new RangeError(`writeGrid: expected at least one image and ${N * C * H * W} values, got ${images.length}`)
  const across = Math.min(columns, N)
  const rows = Math.ceil(N / across)
  const width = across * (magnify * W + 1) - 1
  const height = rows * (magnify * H + 1) - 1
  const rgb = new Uint8Array(3 * width * height).fill(gap)
  for (let n = 0; n < N; n++) {
    const top = Math.floor(n / across) * (magnify * H + 1)
    const left = (n % across) * (magnify * W + 1)
    for (let y = 0; y < magnify * H; y++)
      for (let x = 0; x < magnify * W; x++)
        for (let c = 0; c < 3; c++) {
          const plane = n * C + (C < 3 ? 0 : c)
          const pixel = Math.floor(y / magnify) * W + Math.floor(x / magnify)
          rgb[3 * ((top + y) * width + left + x) + c] = toByte(images[plane * H * W + pixel])
        }
  }
  await writePng(path, rgb, { raw: { width, height, channels: 3 } })
}

/**
 * Writes what sharp reads, such as raw pixels or an SVG, as a PNG. Throws UserError where the file cannot be written.
 */
export async function writePng(path: string, image: Uint8Array, options: SharpOptions): Promise<void> {
  const { default: sharp } = await import('sharp')
  replaceFile(path, await sharp(image, options).png().toBuffer())
}

/** Where a run in `folder` has the picture of samples that it drew after `step` steps. */
export function samplesPath(folder: string, step: number): string {
  return join(folder, `samples-${String(step).padStart(8, '0')}.png`)
}

/** The pictures of samples in a run's folder up to `step`, in order. */
export function samplesOf(folder: string, step = Infinity): { readonly path: string; readonly step: number }[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .flatMap(name => {
      const digits = /^samples-(\d{8,})\.png$/.exec(name)?.[1]
      return digits === undefined || Number(digits) > step ? [] : { path: join(folder, name), step: Number(digits) }
    })
    .sort((a, b) => a.step - b.step)
}
