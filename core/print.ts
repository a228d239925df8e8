/**
 * Tensors as text: dtype, shape, backend and values in NumPy's layout. Columns are aligned, and of a tensor with more than
 * 1,000 elements the long axes are elided. Values that cannot be read at once are left out, which the line says.
 */

import type { DType } from './dtype.ts'
import { type Shape, show, sizeOf, stridesOf } from './shape.ts'
import type { Tensor } from './tensor.ts'

/** Elements above which axes longer than twice `edge` show only their ends. */
const threshold = 1000
const edge = 3
/** Characters of a line, its indentation included. */
const lineWidth = 80
/** Digits after the point, at most. */
const precision = 4

/** Description of a tensor without its values: dtype, shape, backend, and its part in a recorded computation. */
export function headerOf(x: Tensor): string {
  const head = `Tensor ${x.dtype} ${show(x.shape)}`
  if (x.disposed) return `${head}, disposed`
  const { node } = x
  const recorded = node === null ? '' : node.leaf === null ? `, result of ${node.name}` : ', requires grad'
  return `${head} on ${x.backend.name}${recorded}`
}

/** The values of a tensor, one line for each row, in the axes' nested brackets; or why they cannot be read. */
export function valuesOf(x: Tensor): string {
  if (x.disposed) return ''
  if (x.backend.readSync === undefined) return 'values are read asynchronously, call await x.data()'
  try {
    return layOut(x.dataSync(), x.shape, x.dtype)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** A tensor as text, on one line if its values fit there. Never throws. */
export function textOf(x: Tensor): string {
  const values = valuesOf(x)
  if (values === '') return headerOf(x)
  return `${headerOf(x)}:${values.includes('\n') ? '\n' : ' '}${values}`
}

/** Row-major values in nested brackets. */
function layOut(data: ArrayLike<number>, shape: Shape, dtype: DType): string {
  if (shape.length === 0) return single(data[0], dtype)
  if (data.length === 0) return '[]'
  const positions = shape.map(n => positionsOf(n, sizeOf(shape) > threshold))
  const cell = format(shownValues(data, shape, positions), dtype)
  const strides = stridesOf(shape)
  const last = shape.length - 1
  const nested = (axis: number, offset: number): string => {
    const indent = ' '.repeat(axis + 1)
    const items = positions[axis].map(i => {
      if (i === null) return '…'
      const at = offset + i * strides[axis]
      return axis === last ? cell(data[at]) : nested(axis + 1, at)
    })
    return `[${axis === last ? wrap(items, indent) : items.join(`,${'\n'.repeat(last - axis)}${indent}`)}]`
  }
  return nested(0, 0)
}

/** Indices along an axis of n; null stands for those that are left out. */
function positionsOf(n: number, elided: boolean): (number | null)[] {
  if (!elided || n <= 2 * edge) return Array.from({ length: n }, (_, i) => i)
  return [...Array.from({ length: edge }, (_, i) => i), null, ...Array.from({ length: edge }, (_, i) => n - edge + i)]
}

/** The values at all combinations of positions. */
function shownValues(
  data: ArrayLike<number>,
  shape: Shape,
  positions: readonly (readonly (number | null)[])[],
): number[] {
  const strides = stridesOf(shape)
  const offsets = positions.reduce<number[]>(
    (before, axis, k) => before.flatMap(offset => axis.flatMap(i => (i === null ? [] : offset + i * strides[k]))),
    [0],
  )
  return offsets.map(at => data[at])
}

/** Items separated by commas, on as many lines as they need. */
function wrap(items: readonly string[], indent: string): string {
  const lines = ['']
  for (const [i, item] of items.entries()) {
    const word = i === items.length - 1 ? item : `${item},`
    const line = lines[lines.length - 1]
    if (line !== '' && indent.length + line.length + 1 + word.length > lineWidth) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.join(`\n${indent}`)
}

/** One number with all digits that its dtype holds. */
function single(value: number, dtype: DType): string {
  return written(dtype === 'f32' && Number.isFinite(value) ? Number(value.toPrecision(7)) : value)
}

/** Shows −0 as it is. */
function written(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value)
}

/**
 * How all of these values are written, at equal widths. Floats with a fraction have as many digits after the point as the
 * longest of them needs, at most four. They have an exponent under NumPy's conditions: one is at least 10⁸ or below 10⁻⁴,
 * or the largest is more than 1,000 times the smallest.
 */
function format(values: readonly number[], dtype: DType): (value: number) => string {
  const text = dtype === 'i32' ? written : floatFormat(values)
  const width = values.reduce((most, value) => Math.max(most, text(value).length), 0)
  return value => text(value).padStart(width)
}

function floatFormat(values: readonly number[]): (value: number) => string {
  const finite = values.filter(Number.isFinite)
  const sizes = finite.map(Math.abs).filter(value => value > 0)
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0)
  const smallest = sizes.reduce((a, b) => Math.min(a, b), Infinity)
  if (largest < 1e8 && finite.every(Number.isInteger)) return written
  const scientific = largest >= 1e8 || smallest < 1e-4 || largest > 1000 * smallest
  const digits = finite.reduce((most, value) => Math.max(most, digitsOf(value, scientific)), 0)
  return value => {
    if (!Number.isFinite(value)) return String(value)
    if (!scientific) return `${Object.is(value, -0) ? '-' : ''}${value.toFixed(digits)}`
    const [mantissa, exponent] = value.toExponential(digits).split('e')
    return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
  }
}

/** Digits after the point that a value needs, at most `precision`. */
function digitsOf(value: number, scientific: boolean): number {
  const [mantissa] = (scientific ? value.toExponential(precision) : value.toFixed(precision)).split('e')
  return mantissa.replace(/\.?0+$/, '').split('.')[1]?.length ?? 0
}
