/**
 * Einstein summation: products of tensors whose axes are named by letters. Operands are joined one after the other. Letters
 * that no later operand and no result needs are summed on the way, in a matrix product where both operands have them.
 */

import { tensors as aList, aString, check, checkOneDType } from '../arguments.ts'
import { type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { ordered } from './arrange.ts'
import { sum } from './broadcast.ts'
import { mul } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { pad, reshape, slice } from './movement.ts'

/** A tensor and the label of each of its axes. Axes of an ellipsis are labelled 0, 1, … from the last one. */
interface Labelled {
  readonly x: Tensor
  readonly labels: readonly string[]
}

/** The labels of each operand and of the result. */
interface Equation {
  readonly inputs: readonly (readonly string[])[]
  readonly output: readonly string[]
}

/**
 * The sum of products that an equation names, such as 'bij,bjk->bik'. A letter names an axis, the same letter twice in an
 * operand takes the diagonal, `...` stands for any further axes, which broadcast, and a letter that the result lacks is
 * summed. Without '->' the result has `...` and, in alphabetical order, the letters that occur once. Sizes of a letter are
 * equal, or 1 and broadcast. Tensors (…) → (…). Throws ShapeError.
 */
export function einsum(equation: string, ...tensors: readonly Tensor[]): Tensor {
  check('einsum', 'equation', equation, aString)
  check('einsum', 'tensors', tensors, aList)
  checkOneDType('einsum', Object.fromEntries(tensors.map((x, i) => [`tensor ${i + 1}`, x])))
  const { inputs, output } = parse(equation, tensors)
  const sizes = sizesOf(inputs, tensors)
  const operands = tensors.map((x, i) => withoutOnes(diagonal({ x, labels: inputs[i] }), sizes))
  const joined = operands.reduce((a, b, i) => {
    const later = new Set([...output, ...operands.slice(i + 1).flatMap(({ labels }) => labels)])
    return join(a, b, label => later.has(label))
  })
  return arranged(
    summed(joined, label => output.includes(label)),
    output,
  )
}

function parse(equation: string, tensors: readonly Tensor[]): Equation {
  const text = equation.replaceAll(' ', '')
  if (!/^(?:[a-zA-Z]|\.{3}|,)*(?:->(?:[a-zA-Z]|\.{3})*)?$/.test(text))
    throw new ShapeError(`einsum: expected letters, '...', ',' and one '->', got '${equation}'`)
  const [left, right] = text.split('->')
  const terms = left.split(',')
  if (tensors.length === 0 || terms.length !== tensors.length)
    throw new ShapeError(`einsum: expected ${terms.length} tensors for '${equation}', got ${tensors.length}`)
  const inputs = terms.map((term, i) => labelsOf(equation, term, tensors[i].shape))
  const all = inputs.flat()
  const hidden = [...new Set(all.filter(label => /\d/.test(label)))].sort((a, b) => Number(b) - Number(a))
  const once = [...new Set(all)].filter(label => !/\d/.test(label) && all.indexOf(label) === all.lastIndexOf(label))
  const output = right === undefined ? [...hidden, ...once.sort()] : (right.match(/\.{3}|\w/g)?.flatMap(expand) ?? [])
  const wrong = output.find((label, i) => !all.includes(label) || output.indexOf(label) !== i)
  if (wrong !== undefined)
    throw new ShapeError(`einsum: expected a result of letters of the operands, each once, got '${right}'`)
  return { inputs, output }

  function expand(label: string): string[] {
    return label === '...' ? hidden : [label]
  }
}

/** The label of each axis. */
function labelsOf(equation: string, term: string, shape: Shape): string[] {
  const parts = term.match(/\.{3}|\w/g) ?? []
  const letters = parts.filter(part => part !== '...').length
  const dots = parts.length - letters
  const rest = shape.length - letters
  if (dots > 1 || rest < 0 || (dots === 0 && rest > 0))
    throw new ShapeError(`einsum: expected axes '${term}' of '${equation}', got a tensor ${show(shape)}`)
  return parts.flatMap(part => (part === '...' ? Array.from({ length: rest }, (_, i) => `${rest - 1 - i}`) : [part]))
}

/** The size of each label: that of its axes, of which those of size 1 broadcast. */
function sizesOf(inputs: readonly (readonly string[])[], tensors: readonly Tensor[]): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>()
  inputs.forEach((labels, i) => {
    labels.forEach((label, axis) => {
      const n = tensors[i].shape[axis]
      const before = sizes.get(label) ?? 1
      const again = labels.indexOf(label) < axis // a diagonal does not broadcast
      if (n !== before && (again || (n !== 1 && before !== 1)))
        throw new ShapeError(
          `einsum: expected one size for ${/\d/.test(label) ? "an axis of '...'" : `'${label}'`}, got ${before} and ${n}`,
        )
      if (n !== 1) sizes.set(label, n)
      else sizes.set(label, before)
    })
  })
  return sizes
}

/** The diagonals along labels that come twice. */
function diagonal({ x, labels }: Labelled): Labelled {
  const second = labels.findIndex((label, i) => labels.indexOf(label) < i)
  if (second < 0) return { x, labels }
  const first = labels.indexOf(labels[second])
  const others = labels.map((_, i) => i).filter(i => i !== first && i !== second)
  const n = x.shape[first]
  const rest = others.map(i => x.shape[i])
  const R = sizeOf(rest)
  const square = reshape(ordered(x, [...others, first, second]), [R, n * n])
  // One more element a row puts the diagonal in the first column.
  const rows = reshape(pad(square, [0, 0], [R, n * (n + 1)]), [R, n, n + 1])
  const y = reshape(slice(rows, 2, 0, 1), [...rest, n])
  return diagonal({ x: y, labels: [...others.map(i => labels[i]), labels[first]] })
}

/** Leaves out axes of size 1 that broadcast to more. */
function withoutOnes({ x, labels }: Labelled, sizes: ReadonlyMap<string, number>): Labelled {
  const kept = labels.map((_, i) => i).filter(i => x.shape[i] === sizes.get(labels[i]))
  return {
    x: reshape(
      x,
      kept.map(i => x.shape[i]),
    ),
    labels: kept.map(i => labels[i]),
  }
}

/** Sums over the labels that are not needed. */
function summed({ x, labels }: Labelled, needed: (label: string) => boolean): Labelled {
  const axes = labels.flatMap((label, i) => (needed(label) ? [] : [i]))
  return axes.length === 0 ? { x, labels } : { x: sum(x, axes), labels: labels.filter(needed) }
}

/** x with its axes in the order of these labels. */
function arranged({ x, labels }: Labelled, order: readonly string[]): Tensor {
  return ordered(
    x,
    order.map(label => labels.indexOf(label)),
  )
}

/** The product of two operands, summed over the labels of both that are not needed later. */
function join(left: Labelled, right: Labelled, later: (label: string) => boolean): Labelled {
  const a = summed(left, label => later(label) || right.labels.includes(label))
  const b = summed(right, label => later(label) || left.labels.includes(label))
  const shared = a.labels.filter(label => b.labels.includes(label))
  const batch = shared.filter(later)
  const inner = shared.filter(label => !later(label))
  const [rows, columns] = [a, b].map(({ labels }) => labels.filter(label => !shared.includes(label)))
  const sizes = new Map([a, b].flatMap(({ x, labels }) => labels.map((label, i) => [label, x.shape[i]] as const)))
  const shapeOf = (labels: readonly string[]) => labels.map(label => sizes.get(label)!)
  const size = (labels: readonly string[]) => sizeOf(shapeOf(labels))
  const labels = [...batch, ...rows, ...columns]
  if (inner.length === 0) {
    const wide = reshape(arranged(a, [...batch, ...rows]), [
      ...shapeOf(batch),
      ...shapeOf(rows),
      ...columns.map(() => 1),
    ])
    const tall = reshape(arranged(b, [...batch, ...columns]), [
      ...shapeOf(batch),
      ...rows.map(() => 1),
      ...shapeOf(columns),
    ])
    return { x: mul(wide, tall), labels }
  }
  const [B, M, K, N] = [batch, rows, inner, columns].map(size)
  // Each operand in the order that it has already, where that is one of the two which a matrix product takes.
  const transposeA = isOrder(a, [...batch, ...inner, ...rows]) && !isOrder(a, [...batch, ...rows, ...inner])
  const transposeB = isOrder(b, [...batch, ...columns, ...inner]) && !isOrder(b, [...batch, ...inner, ...columns])
  const first = transposeA ? [inner, rows] : [rows, inner]
  const second = transposeB ? [columns, inner] : [inner, columns]
  const y = matmul(
    reshape(arranged(a, [...batch, ...first.flat()]), transposeA ? [B, K, M] : [B, M, K]),
    reshape(arranged(b, [...batch, ...second.flat()]), transposeB ? [B, N, K] : [B, K, N]),
    { transposeA, transposeB },
  ) // (B, M, N)
  return { x: reshape(y, shapeOf(labels)), labels }
}

function isOrder({ labels }: Labelled, order: readonly string[]): boolean {
  return labels.every((label, i) => label === order[i])
}
