/**
 * The loss on pictures that a run is not trained on, with the same noise, timesteps, masks and label drops every time. Needs
 * nothing of Node.
 */

import { noGrad, rng, scope, type Tensor, tensor } from '../core/index.ts'
import { Batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { LatentDataset } from '../data/latents.ts'
import type { LossPass, Part } from '../models/family.ts'
import type { Module } from '../nn/index.ts'

/** Pictures of a forward pass. */
const together = 16
/** Forward passes of a measurement at least and at most: a small set is measured with more noise, of a large one a part. */
const [fewest, most] = [8, 32]

/** How a loss is computed from a model. */
export interface HeldOutLoss<Model extends Module> {
  passes(model: Model, part: Part): Iterable<LossPass>
  /** The loss from the means of the reported terms. */
  loss(terms: Readonly<Record<string, number>>): number
  /** True if the model is conditioned on labels. */
  readonly labelled: boolean
}

/** Pictures that are held out, and the loss on them. */
export class HeldOut<Model extends Module> {
  readonly #data: ImageDataset | LatentDataset
  readonly #loss: HeldOutLoss<Model>
  readonly #random = rng(0).fork('held out')

  constructor(data: ImageDataset | LatentDataset, loss: HeldOutLoss<Model>) {
    this.#data = data
    this.#loss = loss
  }

  /** The mean loss of a model over the pictures: over 128 examples at least, each with noise of its own, and 512 at most. */
  async measure(model: Model): Promise<number> {
    const batches = new Batches(this.#data, { batch: together, rng: this.#random.fork('pictures'), flip: false })
    const count = Math.min(Math.max(Math.ceil(this.#data.length / together), fewest), most)
    const sums = new Map<string, number>()
    for (let k = 0; k < count; k++) {
      const { images, labels } = await batches.at(k)
      const terms = this.#terms(model, images, labels, k)
      for (const [name, term] of terms) {
        sums.set(name, (sums.get(name) ?? 0) + (await term.data())[0])
        term.dispose()
      }
    }
    return this.#loss.loss(Object.fromEntries(Array.from(sums, ([name, sum]) => [name, sum / count])))
  }

  /** The reported terms of batch k. */
  #terms(model: Model, values: Float32Array, labels: Int32Array, k: number): Map<string, Tensor> {
    const { channels: C, size: S } = this.#data
    return noGrad(() =>
      scope(() => {
        const images = tensor(values, { shape: [together, C, S, S] })
        const part = { images, labels: this.#loss.labelled ? labels : null, rng: this.#random.fork(k), progress: 0 }
        const terms = new Map<string, Tensor>()
        for (const pass of this.#loss.passes(model, part))
          for (const [name, term] of Object.entries(pass().terms)) terms.set(name, term)
        return terms
      }),
    )
  }
}
