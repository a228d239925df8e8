/**
 * adaLN-Zero: a block's shifts, scales and gates come from the condition c through SiLU and a linear layer that begins
 * at zero, so that every block begins as the identity [DiT §3.2]. The two operations that use them, adaLayerNorm and
 * gatedResidual, are in core/ops/norm.ts; models compose them.
 */

import { silu, split, type Tensor } from '../core/index.ts'
import { constantZero, type Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Linear } from './linear.ts'
import { Activation, type Layer, Sequential } from './module.ts'

function layersOf(from: number, D: number, parts: number, init: Init): Layer[] {
  checkLayer('Modulation', { from, D, parts }, init)
  return [new Activation(silu), new Linear(from, parts * D, init, { weight: constantZero })]
}

/** `adaLN_modulation` of the official code; its linear layer is named '1'. */
export class Modulation extends Sequential {
  readonly parts: number

  /** From a condition of width `from` to `parts` vectors of width D. */
  constructor(from: number, D: number, parts: number, init: Init) {
    super(layersOf(from, D, parts, init))
    this.parts = parts
  }

  /**
   * c (N, from) → `parts` tensors (N, D). DiT's order is shift, scale, gate of the attention, then of the MLP; a final
   * layer has shift and scale.
   */
  vectors(c: Tensor): Tensor[] {
    return split(this.forward(c), this.parts, 1) // parts × (N, D)
  }
}
