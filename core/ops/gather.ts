/**
 * Rows picked by index, and their adjoint. One batched form serves them all: an embedding is a gather from a batch of
 * one, the kept tokens of a masked picture are a gatherRows of x (N, T, D) by ids (N, K), and the label's entry in a row of
 * logits is a gather of rows of width 1. Next: conv.ts.
 */

import { addLoops } from '../backends/cpu/backend.ts'
import { gatherLoops } from '../backends/cpu/gather.ts'
import { apply, type Binary, defineOp, type None, type Unary } from '../op.ts'
import { ShapeError, sameShape, show } from '../shape.ts'
import { ones, type Tensor } from '../tensor.ts'
import { reshape } from './movement.ts'
import { where, zero } from './where.ts'

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

/**
 * x (B, R, D) with rows index[b, k], i32 in [0, R), replaced by source (B, K, D). Where two indices of one b are equal,
 * the row is the sum of theirs; PyTorch keeps either. Throws ShapeError, RangeError.
 */
export function scatterRows(x: Tensor, index: Tensor, source: Tensor): Tensor {
  const [B, R, D] = x.shape
  const K = index.shape[1]
  if (x.shape.length !== 3 || !sameShape(index.shape, [B, K]) || !sameShape(source.shape, [B, K, D]))
    throw new ShapeError(
      `scatterRows: expected x [B, R, D], index [B, K] and source [B, K, D], ` +
        `got ${show(x.shape)}, ${show(index.shape)} and ${show(source.shape)}`,
    )
  const hit = scatterAdd(index, ones([B, K, 1], { dtype: x.dtype, backend: x.backend }), R) // (B, R, 1)
  return where(hit, scatterAdd(index, source, R), x) // (B, R, D)
}

/** table (V, D), ids i32 of any shape S in [0, V) → (…S, D). Throws ShapeError, RangeError. */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  if (table.shape.length !== 2) throw new ShapeError(`embedding: expected a table [V, D], got ${show(table.shape)}`)
  const [V, D] = table.shape
  return reshape(gatherRows(reshape(table, [1, V, D]), reshape(ids, [1, ids.size])), [...ids.shape, D])
}

/** x (…, C), ids i32 (…) in [0, C) → (…): the entry that each id names. Throws ShapeError, RangeError. */
export function pick(x: Tensor, ids: Tensor): Tensor {
  if (!sameShape(x.shape.slice(0, -1), ids.shape))
    throw new ShapeError(`pick: expected x [..., C] and ids [...], got ${show(x.shape)} and ${show(ids.shape)}`)
  const C = x.shape.at(-1)!
  return reshape(gatherRows(reshape(x, [ids.size, C, 1]), reshape(ids, [ids.size, 1])), ids.shape)
}
