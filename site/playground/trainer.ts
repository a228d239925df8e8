/**
 * Trains MDT-tiny in a page, with the training step of the Node programs (training/step.ts) and MDT's record, and so with
 * the same random numbers: a run that is exported continues in Node as if it had begun there. Runs in a worker (studio.ts).
 * Leaves out files, progress bars and Ctrl-C. Before: examples/train-mdt-s.ts.
 */

import { zipSync } from 'fflate'
import { backward, rng, type Tensor } from '../../core/index.ts'
import { Batches } from '../../data/batches.ts'
import type { ImageDataset } from '../../data/dataset.ts'
import { encodeSafetensors, type HostTensor, safetensorsDType } from '../../io/safetensors.ts'
import { type MDT, mdt } from '../../models/index.ts'
import { constant, Ema, type Optimizer, warmUp } from '../../nn/index.ts'
import { newSettings, runStep } from '../../training/index.ts'

const { training } = mdt

/** A row of metrics.jsonl: step, columns of MDT's record, gradient norm and learning rate. */
export interface Metrics {
  readonly step: number
  readonly loss: number
  readonly gradNorm: number
  readonly lr: number
  readonly [column: string]: number
}

export class Trainer {
  readonly model: MDT
  readonly ema: Ema<MDT>
  readonly settings
  /** Of each step. */
  readonly metrics: Metrics[] = []
  step = 0
  readonly #optimizer: Optimizer
  readonly #random
  readonly #batches: Batches
  readonly #data: ImageDataset

  constructor(data: ImageDataset, { seed = 0, batch }: { seed?: number; batch?: number } = {}) {
    const settings = newSettings(mdt, { preset: 'tiny', data: data.name, size: data.size, seed, batch })
    this.settings = settings
    this.#random = rng(seed)
    const pictures = { inputSize: data.size, inChannels: data.channels, numClasses: 0 }
    const options = mdt.options(settings.preset, pictures, settings)
    this.model = mdt.make(options, { rng: this.#random.fork('weights') })
    this.ema = new Ema(this.model, mdt.make(options, { rng: null }), { decay: training.decay(settings) })
    this.#optimizer = training.optimizer(this.model.namedParameters(), settings)
    const random = this.#random.fork('pictures')
    this.#batches = new Batches(data, { batch: settings.batch, rng: random, replacement: true })
    this.#data = data
  }

  /** One step of the optimizer on one batch. Throws if the loss is not finite; the weights then are as they were. */
  async next(): Promise<Metrics> {
    const { size: S, channels: C } = this.#data
    const { batch: N, lr: top, warmUpSteps, parts } = this.settings
    const { images } = await this.#batches.at(this.step)
    const inputs = {
      step: this.step,
      progress: 0, // a page trains for as long as it is open
      images,
      shape: [N, C, S, S],
      labels: null,
      parts,
      rng: this.#random,
    } as const
    const { terms, gradNorm, lr, finite } = await runStep(
      inputs,
      this.model.parameters(),
      part => {
        for (const pass of training.passes(this.model, part, this.settings)) {
          const { loss, terms } = pass()
          backward(loss)
          part.report(terms)
        }
      },
      losses => {
        const update = this.#optimizer.step({ lr: warmUp(warmUpSteps, constant(top))(this.step + 1), losses })
        this.ema.update(update.finite)
        this.#optimizer.zeroGrad()
        return update
      },
    )
    const columns = training.columns(terms, this.settings, 0)
    if (!finite) throw new Error(`step ${this.step + 1}: the loss is ${columns.loss}; nothing was changed`)
    this.step++
    const metrics = { step: this.step, ...columns, gradNorm, lr } as Metrics
    this.metrics.push(metrics)
    return metrics
  }

  /** A run's folder as a ZIP: its checkpoint, and its log. Unpacked, `demask train mdt --resume` continues it. */
  async export(arithmetic: string): Promise<Uint8Array> {
    const parts = {
      model: this.model.stateDict(),
      ema: this.ema.average.stateDict(),
      optimizer: this.#optimizer.stateDict(),
    }
    const state = {
      step: this.step,
      backend: arithmetic,
      settings: this.settings,
      model: this.model.options,
      classes: this.#data.classes,
      emaUpdates: this.ema.updates,
    }
    const text = (value: string) => new TextEncoder().encode(value)
    const files: Record<string, Uint8Array> = {
      'state.json': text(`${JSON.stringify(state, null, 2)}\n`),
    }
    for (const [part, tensors] of Object.entries(parts))
      files[`${part}.safetensors`] = encodeSafetensors(await onHost(tensors))
    return zipSync(
      {
        'metrics.jsonl': text(this.metrics.map(row => `${JSON.stringify(row)}\n`).join('')),
        [`checkpoint-${String(this.step).padStart(8, '0')}`]: files,
      },
      { level: 0 },
    )
  }

  dispose(): void {
    this.#optimizer.dispose()
    this.ema.average.dispose()
    this.model.dispose()
  }
}

async function onHost(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, HostTensor>> {
  const host = new Map<string, HostTensor>()
  for (const [name, t] of tensors)
    host.set(name, { dtype: safetensorsDType[t.dtype], shape: t.shape, data: await t.data() })
  return host
}
