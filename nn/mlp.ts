/**
 * The transformer's MLP.
 */

import { aFunction, checkOptions } from '../core/arguments.ts'
import { geluTanh, type Tensor } from '../core/index.ts'
import type { Init } from './init.ts'
import { checkLayer } from './layer-arguments.ts'
import { Linear, type LinearOptions } from './linear.ts'
import { Layer } from './module.ts'

/** Options of an MLP. */
export interface MlpOptions {
  /** Activation (default: GELU in its tanh form, as in DiT, MDT and MaskDiT; MaskDM takes the exact one). */
  readonly activation?: (x: Tensor) => Tensor
  readonly weight?: LinearOptions['weight']
}

/** Linear to `hidden`, activation, Linear back. */
export class Mlp extends Layer {
  readonly fc1: Linear
  readonly fc2: Linear
  /** Of every hidden value. */
  readonly activation: (x: Tensor) => Tensor

  constructor(D: number, hidden: number, init: Init, options: MlpOptions = {}) {
    super()
    checkLayer('Mlp', { D, hidden }, init)
    checkOptions('Mlp', options, { activation: aFunction, weight: aFunction })
    const { activation = geluTanh, weight } = options
    this.fc1 = new Linear(D, hidden, init, { weight })
    this.fc2 = new Linear(hidden, D, init, { weight })
    this.activation = activation
  }

  /** x (…, D) → (…, D) */
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.activation(this.fc1.forward(x)))
  }
}
