/**
 * Shapes and the arithmetic on them: sizes, strides, axes, NumPy broadcasting. Tensors here are always contiguous and
 * row-major, so strides are derived from shapes and never stored.
 */

import { atCaller } from './traceback.ts'

/** Sizes of the axes of a tensor, integers from 0. */
export type Shape = readonly number[]

/** Error of an op whose shapes do not fit: `op: expected …, got …`. */
export class ShapeError extends Error {
  override name = 'ShapeError'

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    atCaller(this)
  }
}

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let n = 1
  for (let i = 0; i < shape.length; i++) n *= shape[i]
  return n
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length)
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    strides[i] = step
    step *= shape[i]
  }
  return strides
}

/** Strides with which `shape` is read at the indices of `out`: 0 along every axis that is broadcast. */
export function broadcastStrides(shape: Shape, out: Shape): number[] {
  const lead = out.length - shape.length
  const strides = new Array<number>(out.length).fill(0)
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    if (shape[i] !== 1 || out[lead + i] === 1) strides[lead + i] = step
    step *= shape[i]
  }
  return strides
}

/** A walk over some operands: the extents of its axes, and for each operand its strides along them, in elements. */
export interface Walk {
  readonly extents: readonly number[]
  readonly strides: readonly (readonly number[])[]
}

/**
 * The same walk with as few axes as possible. Axes of extent 1 are dropped, and neighbours merge where every operand
 * passes from one to the other in even steps. No axis remains where there is one element.
 */
export function collapseAxes(extents: readonly number[], strides: readonly (readonly number[])[]): Walk {
  const collapsed: number[] = []
  const kept = strides.map((): number[] => [])
  for (let axis = 0; axis < extents.length; axis++) {
    const extent = extents[axis]
    if (extent === 1) continue
    const last = collapsed.length - 1
    const merges = last >= 0 && strides.every((own, k) => kept[k][last] === extent * own[axis])
    if (merges) collapsed[last] *= extent
    else collapsed.push(extent)
    const target = merges ? last : last + 1
    for (let k = 0; k < strides.length; k++) kept[k][target] = strides[k][axis]
  }
  return { extents: collapsed, strides: kept }
}

/** ⌈a / b⌉ */
export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b)
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** `[2, 3]` as people write it. */
export function show(shape: Shape): string {
  return `[${shape.join(', ')}]`
}

/** Throws ShapeError unless every size is an integer from 0. */
export function checkSizes(op: string, shape: Shape): void {
  for (let i = 0; i < shape.length; i++)
    if (!(Number.isInteger(shape[i]) && shape[i] >= 0))
      throw new ShapeError(`${op}: expected sizes that are integers from 0, got ${show(shape)}`)
}

/** Throws ShapeError unless `got`, the shape of `what`, is the one that op wants. */
export function checkShape(op: string, what: string, got: Shape, wanted: Shape): void {
  if (!sameShape(got, wanted)) throw new ShapeError(`${op}: ${what} must have shape ${show(wanted)}, got ${show(got)}`)
}

/** The shape two operands broadcast to (NumPy's rule). Throws ShapeError. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a
  const rank = Math.max(a.length, b.length)
  const out = new Array<number>(rank)
  for (let i = 1; i <= rank; i++) {
    const m = a[a.length - i] ?? 1
    const n = b[b.length - i] ?? 1
    if (m !== n && m !== 1 && n !== 1)
      throw new ShapeError(`${op}: expected shapes that broadcast, got ${show(a)} and ${show(b)}`)
    out[rank - i] = m === 1 ? n : m
  }
  return out
}

/** Axis counted from the front; negative counts from the back. Throws ShapeError. */
export function axisOf(op: string, axis: number, rank: number): number {
  const i = typeof axis === 'number' && axis < 0 ? axis + rank : axis
  if (!Number.isInteger(axis) || i < 0 || i >= rank)
    throw new ShapeError(
      `${op}: expected an axis in [${-rank}, ${rank - 1}], got ${typeof axis === 'object' ? 'an object' : axis}`,
    )
  return i
}

/** Axes counted from the front, in rising order, each once; undefined means all. Throws ShapeError. */
export function axesOf(op: string, axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i)
  const list = (typeof axes === 'number' ? [axes] : axes).map(axis => axisOf(op, axis, rank)).sort((a, b) => a - b)
  if (new Set(list).size !== list.length) throw new ShapeError(`${op}: expected each axis once, got ${show(list)}`)
  return list
}

/** `shape` with the reduced `axes` kept as 1 or left out. */
export function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): number[] {
  return keepDims ? shape.map((n, i) => (axes.includes(i) ? 1 : n)) : shape.filter((_, i) => !axes.includes(i))
}

/** Neighbouring axes that a reduction treats alike, as one. */
export interface ReduceGroup {
  readonly extent: number
  readonly reduced: boolean
}

/** `shape` as groups of axes that are reduced and groups that are kept, in turn; axes of extent 1 belong to none. */
export function reduceGroups(shape: Shape, axes: readonly number[]): ReduceGroup[] {
  // Stride 0 marks reduced axes, so that only axes of one kind merge.
  const marked = stridesOf(shape).map((step, axis) => (axes.includes(axis) ? 0 : step))
  const { extents, strides } = collapseAxes(shape, [marked])
  return extents.map((extent, i) => ({ extent, reduced: strides[0][i] === 0 }))
}
