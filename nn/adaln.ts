/**
 * adaLN-Zero: a block's shifts, scales and gates come from the condition c through SiLU and a linear layer that begins
 * at zero, so that every block begins as the identity [DiT §3.2]. The two operations that use them, adaLayerNorm and
 * gatedResidual, are in core/ops/norm.ts; models compose them. Next: patch-embed.ts.
 */

import { silu, split, type Tensor } from '../core/index.ts'
import { constantZero, type Init } from './init.ts'
import { Linear } from './linear.ts'
import { Activation, Sequential } from './module.ts'

/** `adaLN_modulation` of the official code; its linear layer is named '1'. */
export class Modulation extends Sequential {
  readonly parts: number

  /** From a condition of width `from` to `parts` vectors of width D. */
  constructor(from: number, D: number, parts: number, init: Init) {
    super([new Activation(silu), new Linear(from, parts * D, init, { weight: constantZero })])
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
