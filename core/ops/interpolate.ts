/**
 * Resampling of images. Each axis on its own: a row of the result is a sum of a few rows of x, each times a number. Rows
 * are picked rather than multiplied by 0 and 1: 0 · ∞ is NaN.
 */

import { aBoolean, check, checkFloats, checkOptions, checkTensor, type Kind, numbers, oneOf } from '../arguments.ts'
import { scope } from '../scope.ts'
import { checkSizes, ShapeError, show } from '../shape.ts'
import { type Tensor, tensor } from '../tensor.ts'
import { atCaller } from '../traceback.ts'
import { broadcastTo } from './broadcast.ts'
import { add, mul } from './elementwise.ts'
import { reshape, transpose } from './movement.ts'
import { gatherRows } from './rows.ts'
import { zeroWhere } from './where.ts'

type Pair = readonly [number, number]

/** How `interpolate` computes a pixel: from the nearest one, or from 2 × 2 or 4 × 4 around it. */
export type InterpolateMode = 'nearest' | 'bilinear' | 'bicubic'

/** The size of the result: height and width, or a factor of x's, for both axes or for each. */
export type InterpolateSize = Pair | { readonly scaleFactor: number | Pair }

/** Options of `interpolate`. */
export interface InterpolateOptions {
  /** True to place the centres of the corner pixels on each other, rather than the corners of the images. */
  readonly alignCorners?: boolean
}

/** Extent of an axis of the result, and the distance of its pixels in those of x. */
interface Axis {
  readonly to: number
  readonly step: number
}

/**
 * x (N, C, H, W) resampled to [height, width], or to ⌊H · factor⌋ × ⌊W · factor⌋. PyTorch's interpolate: its bicubic has
 * a = −0.75, and a factor that is no ratio of sizes is the distance of the pixels. Throws ShapeError, RangeError.
 */
export function interpolate(
  x: Tensor,
  size: InterpolateSize,
  mode: InterpolateMode,
  options: InterpolateOptions = {},
): Tensor {
  checkTensor('interpolate', 'x', x)
  if (x.shape.length !== 4) throw new ShapeError(`interpolate: expected x [N, C, H, W], got ${show(x.shape)}`)
  check('interpolate', 'mode', mode, oneOf(['nearest', 'bilinear', 'bicubic']))
  checkOptions('interpolate', options, { alignCorners: aBoolean })
  const { alignCorners = false } = options
  if (alignCorners && mode === 'nearest')
    throw atCaller(new Error("interpolate: expected alignCorners with 'bilinear' or 'bicubic', got 'nearest'"))
  if (mode !== 'nearest') checkFloats('interpolate', { x })
  const [N, C, H, W] = x.shape
  const [down, across] = axesOf([H, W], size, alignCorners)
  const alongRows = (y: Tensor) => resample(y, down, mode, alignCorners)
  const kept = across.to === W && across.step === 1
  const alongColumns = (y: Tensor) => (kept ? y : transpose(resample(transpose(y), across, mode, alignCorners)))
  const planes = reshape(x, [N * C, H, W])
  // A transposed copy of the smaller image is enough where the order of the axes does not change the result.
  const y = mode === 'nearest' ? alongRows(scope(() => alongColumns(planes))) : alongColumns(alongRows(planes))
  return reshape(y, [N, C, down.to, across.to])
}

const positive: Kind = {
  expected: 'a positive number',
  accepts: value => typeof value === 'number' && value > 0 && value < Infinity,
}
const pairKind: Kind = {
  expected: '[height, width]',
  accepts: value => numbers.accepts(value) && (value as Pair).length === 2,
}
const factorKind: Kind = {
  expected: 'a positive number or two',
  accepts: value => positive.accepts(value) || (pairKind.accepts(value) && (value as Pair).every(positive.accepts)),
}
const sizeKind: Kind = { ...pairKind, expected: '[height, width] or { scaleFactor }' }

/** Height and width of the result. */
function axesOf(from: Pair, size: InterpolateSize, alignCorners: boolean): readonly [Axis, Axis] {
  const axis = (R: number, to: number, ratio: number): Axis => ({
    to,
    step: alignCorners ? (to > 1 ? (R - 1) / (to - 1) : 0) : ratio,
  })
  if ('scaleFactor' in Object(size)) {
    const { scaleFactor } = size as { readonly scaleFactor: number | Pair }
    checkOptions<object & { scaleFactor: unknown }>(
      'interpolate',
      { ...size, scaleFactor },
      { scaleFactor: factorKind },
    )
    const factors = typeof scaleFactor === 'number' ? [scaleFactor, scaleFactor] : scaleFactor
    const [down, across] = from.map((R, i) => axis(R, Math.floor(R * factors[i]), 1 / factors[i]))
    return [down, across]
  }
  check('interpolate', 'size', size, sizeKind)
  const [height, width] = size as Pair
  checkSizes('interpolate', [height, width])
  return [axis(from[0], height, from[0] / height), axis(from[1], width, from[1] / width)]
}

/** A row of x for each row of the result, and its factor; without factors it is 1. */
interface Tap {
  readonly at: readonly number[]
  readonly factors?: readonly number[]
}

/** x (B, R, D) → (B, to, D). */
function resample(x: Tensor, { to, step }: Axis, mode: InterpolateMode, alignCorners: boolean): Tensor {
  const [B, R] = x.shape
  if (R === to && step === 1) return x
  const { dtype, backend } = x
  const parts = tapsOf(mode, R, to, i => (alignCorners ? i * step : (i + 0.5) * step - 0.5), step).map(tap => {
    const at = tensor(tap.at, { dtype: 'i32', backend })
    const rows = gatherRows(x, broadcastTo(at, [B, to])) // (B, to, D)
    const { factors } = tap
    if (factors === undefined) return rows
    const column = (values: readonly number[]) => tensor(values, { dtype, backend, shape: [to, 1] })
    const part = mul(rows, column(factors))
    return factors.includes(0) ? zeroWhere(column(factors.map(f => (f === 0 ? 1 : 0))), part) : part
  })
  return parts.reduce((a, b) => add(a, b))
}

/** The rows of x that make up each row of the result; `place` is where a row lies among those of x. */
function tapsOf(mode: InterpolateMode, R: number, to: number, place: (i: number) => number, step: number): Tap[] {
  const each = (f: (i: number) => number) => Array.from({ length: to }, (_, i) => f(i))
  const inside = (i: number) => Math.max(0, Math.min(i, R - 1))
  if (mode === 'nearest') return [{ at: each(i => inside(Math.floor(i * step))) }]
  if (mode === 'bilinear') {
    const from = each(i => Math.max(0, place(i)))
    const tap = (offset: number, factor: (share: number) => number): Tap => ({
      at: from.map(y => inside(Math.floor(y) + offset)),
      factors: from.map(y => factor(y % 1)),
    })
    return [tap(0, share => 1 - share), tap(1, share => share)]
  }
  return [-1, 0, 1, 2].map(offset => ({
    at: each(i => inside(Math.floor(place(i)) + offset)),
    factors: each(i => cubic(Math.abs(place(i) - Math.floor(place(i)) - offset))),
  }))
}

/** Keys' cubic convolution kernel at a distance in [0, 2], with a = −0.75. */
function cubic(t: number): number {
  const a = -0.75
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1
  return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
}
