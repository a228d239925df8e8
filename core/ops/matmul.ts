/**
 * Matrix products, batched, with either operand transposed in place of being permuted first, and the linear layer's
 * product with its bias.
 */

import { aBoolean, checkOptions, checkTensors } from '../arguments.ts'
import { addLoops } from '../backends/cpu/backend.ts'
import { matmulLoops } from '../backends/cpu/matmul.ts'
import { apply, applyMany, type Binary, defineManyOp, defineOp, type None } from '../op.ts'
import { broadcastShapes, type Shape, ShapeError, show, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { add } from './elementwise.ts'
import { reshape } from './movement.ts'

addLoops(matmulLoops)

interface MatmulAttrs {
  readonly transposeA: boolean
  readonly transposeB: boolean
}

/** M, K (of a), K (of b), N. */
function dimensions(a: Shape, b: Shape, { transposeA, transposeB }: MatmulAttrs) {
  const [M, Ka] = transposeA ? [a.at(-1)!, a.at(-2)!] : [a.at(-2)!, a.at(-1)!]
  const [Kb, N] = transposeB ? [b.at(-1)!, b.at(-2)!] : [b.at(-2)!, b.at(-1)!]
  return { M, Ka, Kb, N }
}

function fits(a: Shape, b: Shape, attrs: MatmulAttrs): boolean {
  const { Ka, Kb } = dimensions(a, b, attrs)
  return Ka === Kb
}

/** Describes the operands in an error. */
function shapesOf(a: Shape, b: Shape, { transposeA, transposeB }: MatmulAttrs): string {
  return `got ${show(a)}${transposeA ? 'ᵀ' : ''} and ${show(b)}${transposeB ? 'ᵀ' : ''}`
}

const matmulOp = defineOp<Binary, MatmulAttrs, Binary>({
  name: 'matmul',
  integers: true,
  infer: ([a, b], attrs) => {
    if (a.length < 2 || b.length < 2)
      throw new ShapeError(`matmul: expected operands of rank 2 or more, ${shapesOf(a, b, attrs)}`)
    const { M, Ka, Kb, N } = dimensions(a, b, attrs)
    if (Ka !== Kb) throw new ShapeError(`matmul: expected equal inner sizes, ${shapesOf(a, b, attrs)}`)
    return [...broadcastShapes('matmul', a.slice(0, -2), b.slice(0, -2)), M, N]
  },
  forward: (k, [a, b], { transposeA, transposeB }, out) => k.matmul(a, b, transposeA, transposeB, out),
  save: ([a, b]) => [a, b],
  // y = a b: ga = g bᵀ, gb = aᵀ g; a transposed operand wants the transpose of that.
  vjp: (g, [a, b], { transposeA, transposeB }) => [
    () =>
      transposeA
        ? matmul(b, g, { transposeA: transposeB, transposeB: true })
        : matmul(g, b, { transposeB: !transposeB }),
    () =>
      transposeB
        ? matmul(g, a, { transposeA: true, transposeB: transposeA })
        : matmul(a, g, { transposeA: !transposeA }),
  ],
  flops: ([a, b], attrs) => {
    const { M, Ka, N } = dimensions(a.shape, b.shape, attrs)
    return 2 * M * Ka * N * sizeOf(broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2)))
  },
  samples: r => {
    const no = { transposeA: false, transposeB: false }
    return [
      { x: [r(3, 5), r(5, 7)], attrs: no },
      { x: [r(5, 3), r(5, 7)], attrs: { ...no, transposeA: true } },
      { x: [r(2, 3, 5), r(2, 7, 5)], attrs: { ...no, transposeB: true } },
      { x: [r(2, 1, 5, 3), r(3, 7, 5)], attrs: { transposeA: true, transposeB: true } },
      { x: [r(2, 3, 5), r(5, 1)], attrs: no },
      { x: [r(1, 1031), r(1031, 2)], attrs: no },
      { x: [r(17, 33), r(33, 19)], attrs: no },
    ]
  },
})

/** Options of `matmul`. Transposing an operand swaps its last two axes. */
export interface MatmulOptions {
  readonly transposeA?: boolean
  readonly transposeB?: boolean
}

const matmulOptions = { transposeA: aBoolean, transposeB: aBoolean }

/**
 * (…, M, K) × (…, K, N) → (…, M, N); leading axes broadcast. A vector a (K) is a row and a vector b (K) a column, whose axis
 * the result lacks: (K) × (K) → (). Throws ShapeError, also on a transposed vector.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkTensors('matmul', { a, b })
  checkOptions('matmul', options, matmulOptions)
  const { transposeA = false, transposeB = false } = options
  const [row, column] = [a.shape.length === 1 && !transposeA, b.shape.length === 1 && !transposeB]
  if (!row && !column) return apply(matmulOp, [a, b], { transposeA, transposeB })
  const [A, B] = [row ? [1, ...a.shape] : a.shape, column ? [...b.shape, 1] : b.shape]
  if (A.length < 2 || B.length < 2 || !fits(A, B, { transposeA, transposeB }))
    throw new ShapeError(
      `matmul: expected equal inner sizes, ${shapesOf(a.shape, b.shape, { transposeA, transposeB })}`,
    )
  const y = apply(matmulOp, [reshape(a, A), reshape(b, B)], { transposeA, transposeB })
  const rank = y.shape.length
  return reshape(
    y,
    y.shape.filter((_, i) => !(row && i === rank - 2) && !(column && i === rank - 1)),
  )
}

const linearOp = defineOp<Binary | readonly [Tensor, Tensor, Tensor], None, Binary>({
  name: 'linear',
  integers: true,
  infer: ([x, w, b]) => {
    if (w.length !== 2 || x.length < 1 || x.at(-1) !== w[1])
      throw new ShapeError(`linear: expected x [..., I] and w [O, I], got ${show(x)} and ${show(w)}`)
    if (b !== undefined && (b.length !== 1 || b[0] !== w[0]))
      throw new ShapeError(`linear: bias must have shape [${w[0]}], got ${show(b)}`)
    return [...x.slice(0, -1), w[0]]
  },
  // The fused kernels are of floats.
  forward: (k, [x, w, b], _, out) => (out.dtype === 'i32' ? undefined : k.linear?.(x, w, b ?? null, out)),
  decompose: ([x, w, b]) => {
    const y = matmul(rows(x), w, { transposeB: true })
    return reshape(b === undefined ? y : add(y, b), [...x.shape.slice(0, -1), w.shape[0]])
  },
  save: ([x, w]) => [x, w],
  vjp: (g, [x, w], _, [shape, , bias]) => {
    let both: readonly Tensor[] | undefined
    return [
      () => reshape(matmul(rows(g), w), shape),
      () => {
        if (bias === undefined) return matmul(rows(g), rows(x), { transposeA: true })
        both = applyMany(linearWeightGradOp, [rows(g), rows(x)], {})
        return both[0]
      },
      // A weight that needs no gradient leaves the sum alone.
      () => both?.[1] ?? sum(rows(g), 0),
    ]
  },
  flops: ([x, w]) => 2 * x.size * w.shape[0],
  samples: r => [
    { x: [r(2, 3, 5), r(7, 5), r(7)], attrs: {} },
    { x: [r(3, 1031), r(2, 1031)], attrs: {} },
    { x: [r(1, 1), r(1, 1), r(1)], attrs: {} },
    { x: [r(5), r(3, 5), r(3)], attrs: {} },
  ],
})

/** [gᵀ x, Σ g]: the gradients of w and b in one pass over g. */
const linearWeightGradOp = defineManyOp<Binary, None>({
  name: 'linearWeightGrad',
  many: true,
  infer: ([g, x]) => {
    if (g.length !== 2 || x.length !== 2 || g[0] !== x[0])
      throw new ShapeError(`linearWeightGrad: expected g [R, O] and x [R, I], got ${show(g)} and ${show(x)}`)
    return [[g[1], x[1]], [g[1]]]
  },
  forward: (k, [g, x]) => k.linearWeightGrad?.(g, x),
  decompose: ([g, x]) => [matmul(g, x, { transposeA: true }), sum(g, 0)],
  flops: ([g, x]) => 2 * g.size * x.shape[1],
  samples: r => [
    { x: [r(6, 7), r(6, 5)], attrs: {} },
    { x: [r(3, 9), r(3, 1)], attrs: {} },
    { x: [r(1031, 10), r(1031, 2)], attrs: {} },
    { x: [r(1, 1), r(1, 1)], attrs: {} },
  ],
})

/** (…, D) as (R, D). */
function rows(x: Tensor): Tensor {
  return reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!])
}

/**
 * y = x wᵀ + b: x (…, I), w (O, I), b (O) or none → (…, O). With a vector w (I) and b () or none → (…). Throws ShapeError.
 */
export function linear(x: Tensor, w: Tensor, b: Tensor | null = null): Tensor {
  checkTensors('linear', b === null ? { x, w } : { x, w, b })
  if (w.shape.length !== 1) return apply(linearOp, b === null ? [x, w] : [x, w, b], {})
  if (b !== null && b.size !== 1) throw new ShapeError(`linear: expected b [] beside a vector w, got ${show(b.shape)}`)
  return reshape(linear(x, reshape(w, [1, -1]), b && reshape(b, [1])), x.shape.slice(0, -1))
}
