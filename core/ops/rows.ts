/**
 * Rows picked by index, and their adjoint: the two ops that all gathering is made of.
 */

import { addLoops } from '../backends/cpu/backend.ts'
import { gatherLoops } from '../backends/cpu/gather.ts'
import { apply, type Binary, defineOp, type None, type Unary } from '../op.ts'
import { ShapeError, show } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { zero } from './where.ts'

addLoops(gatherLoops)

const gatherOp = defineOp<Binary, None, Unary>({
  name: 'gatherRows',
  integers: true,
  selector: { at: 1, dtype: 'i32' },
  infer: ([x, index]) => {
    if (x.length !== 3 || index.length !== 2 || x[0] !== index[0])
      throw new ShapeError(`gatherRows: expected x [B, R, D] and index [B, K], got ${show(x)} and ${show(index)}`)
    return [index[0], index[1], x[2]]
  },
  forward: (k, [x, index], _, out) => k.gatherRows(x, index, out),
  save: ([, index]) => [index],
  vjp: (g, [index], _, [x]) => [() => scatterAdd(index, g, x[1]), () => zero(index, index.shape)],
  samples: r => [
    { x: [r(2, 5, 3), r.indices(5, 2, 7)], attrs: {} },
    { x: [r(1, 1031, 1), r.indices(1031, 1, 3)], attrs: {} },
    { x: [r(3, 1, 4), r.indices(1, 3, 2)], attrs: {} },
  ],
})

const scatterAddOp = defineOp<Binary, { readonly rows: number }, Unary>({
  name: 'scatterAdd',
  integers: true,
  selector: { at: 0, dtype: 'i32' },
  dtype: ([, source]) => source.dtype,
  infer: ([index, source], { rows }) => {
    if (source.length !== 3 || index.length !== 2 || source[0] !== index[0] || source[1] !== index[1])
      throw new ShapeError(
        `scatterAdd: expected index [B, K] and source [B, K, D], got ${show(index)} and ${show(source)}`,
      )
    return [index[0], rows, source[2]]
  },
  forward: (k, [index, source], _, out) => k.scatterAdd(index, source, out),
  save: ([index]) => [index],
  vjp: (g, [index]) => [() => zero(index, index.shape), () => gatherRows(g, index)],
  samples: r => [
    { x: [r.indices(5, 2, 7), r(2, 7, 3)], attrs: { rows: 5 } },
    { x: [r.indices(3, 1, 1031), r(1, 1031, 1)], attrs: { rows: 3 } },
  ],
})

/** x (B, R, D), index (B, K) i32 in [0, R) → (B, K, D): row index[b, k] of x[b]. Throws ShapeError, RangeError. */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  return apply(gatherOp, [x, index], {})
}

/** index (B, K) i32 in [0, rows), source (B, K, D) → (B, rows, D): source rows summed where the index sends them. */
export function scatterAdd(index: Tensor, source: Tensor, rows: number): Tensor {
  return apply(scatterAddOp, [index, source], { rows })
}

/** Runs `f` in the name of the function `op`: errors of an index or of dtypes name `op`, their stacks too. */
export function inNameOf(op: string, f: () => Tensor): Tensor {
  try {
    return f()
  } catch (error) {
    if (error instanceof Error) {
      const message = error.message.replace(/^(gatherRows|scatterAdd):/, `${op}:`)
      error.stack = error.stack?.replace(error.message, message)
      error.message = message
    }
    throw error
  }
}
