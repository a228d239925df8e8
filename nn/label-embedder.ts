/**
 * Class labels as vectors, with one more row for "no class", which classifier-free guidance needs. While training, some
 * labels are dropped to that row; the numbers that decide it come from the caller. [CFG §3.2]
 */

import { aFiniteNumber, aNumber, anInteger, aSize, check, integers, numbers } from '../core/arguments.ts'
import { ShapeError, type Tensor, tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { Embedding } from './embedding.ts'
import type { Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Module } from './module.ts'

/**
 * Labels, of which those with u < p are replaced by `nullLabel`; u is uniform on [0, 1), one for each label. Throws ShapeError
 * unless there are as many.
 */
export function dropLabels(labels: ArrayLike<number>, u: ArrayLike<number>, p: number, nullLabel: number): Int32Array {
  check('dropLabels', 'labels', labels, integers)
  check('dropLabels', 'u', u, numbers)
  check('dropLabels', 'p', p, aNumber)
  check('dropLabels', 'nullLabel', nullLabel, anInteger)
  if (u.length !== labels.length)
    throw new ShapeError(`dropLabels: expected a number for each of ${labels.length} labels, got ${u.length}`)
  return Int32Array.from(labels, (label, n) => (u[n] < p ? nullLabel : label))
}

/** A vector for each class, and one for none. [DiT §3] */
export class LabelEmbedder extends Module {
  /** Row `classes` is the one for "no class"; it is absent when labels are never dropped. */
  readonly embedding_table: Embedding
  readonly classes: number

  constructor(classes: number, D: number, dropProbability: number, init: Init) {
    super()
    checkLayer('LabelEmbedder', { D }, init)
    check('LabelEmbedder', 'classes', classes, aSize)
    check('LabelEmbedder', 'dropProbability', dropProbability, aFiniteNumber)
    this.embedding_table = new Embedding(classes + (dropProbability > 0 ? 1 : 0), D, init)
    this.classes = classes
  }

  /** labels: N integers in [0, classes), or `classes` for none → (N, D). Throws RangeError on a label without a row. */
  forward(labels: ArrayLike<number>): Tensor {
    const { weight } = this.embedding_table
    check('LabelEmbedder', 'labels', labels, numbers)
    const ids = Int32Array.from(labels)
    const bad = ids.find(id => id < 0 || id >= weight.shape[0])
    if (bad !== undefined)
      throw atCaller(
        new RangeError(`LabelEmbedder: labels: expected integers in [0, ${weight.shape[0] - 1}], got ${bad}`),
      )
    return this.embedding_table.forward(tensor(ids, { dtype: 'i32', backend: weight.backend })) // (N, D)
  }
}
