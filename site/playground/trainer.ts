/**
 * MDT-tiny trained in a page: the steps of examples/train-mdt-s.ts with the same random numbers, so that what is trained here
 * and exported goes on in Node as if it had begun there. Runs in a worker (studio.ts). Read the example first: what is left
 * out here are files, progress bars and Ctrl-C.
 */

import { zipSync } from 'fflate'
import { backward, mean, rng, scope, stack, type Tensor, tensor } from '../../core/index.ts'
import { Batches } from '../../data/batches.ts'
import type { ImageDataset } from '../../data/dataset.ts'
import { gaussianDiffusion, linearBetas } from '../../diffusion/index.ts'
import { encodeSafetensors, type HostTensor, safetensorsDType } from '../../io/safetensors.ts'
import { drawPasses, MDT, mdtPreset, passLoss, trainingPreset } from '../../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../../nn/index.ts'

/** What metrics.jsonl has of a step, in its order. */
export interface Metrics {
  readonly step: number
  readonly loss: number
  readonly full: number
  readonly mse: number
  readonly vb: number
  readonly masked: number
  readonly maskedMse: number
  readonly maskedVb: number
  readonly gradNorm: number
  readonly lr: number
}

export class Trainer {
  readonly model: MDT
  readonly ema: Ema<MDT>
  readonly diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  readonly settings
  /** Of each step. */
  readonly metrics: Metrics[] = []
  step = 0
  readonly #optimizer: AdamW
  readonly #random
  readonly #batches: Batches
  readonly #data: ImageDataset

  constructor(data: ImageDataset, { seed = 0, batch }: { seed?: number; batch?: number } = {}) {
    const preset = trainingPreset('tiny')
    this.settings = {
      preset: 'tiny',
      size: data.size,
      data: data.name,
      latents: null,
      seed,
      maskRatio: 0.3,
      labels: 'no',
      maxNorm: null,
      skipNonfinite: 0,
      ...preset,
      batch: batch ?? preset.batch,
    }
    this.#random = rng(seed)
    const options = mdtPreset('tiny', { inputSize: data.size, inChannels: data.channels, numClasses: 0 })
    this.model = new MDT(options, { rng: this.#random.fork('weights') })
    this.ema = new Ema(this.model, new MDT(options, { rng: null }), { decay: warmUpDecay(this.settings.emaDecay) })
    this.#optimizer = new AdamW(this.model.namedParameters(), this.settings)
    this.#batches = new Batches(data, {
      batch: this.settings.batch,
      rng: this.#random.fork('pictures'),
      replacement: true,
    })
    this.#data = data
  }

  /** One step of AdamW on one batch. Throws where the loss is not finite; the weights then are as they were. */
  async next(): Promise<Metrics> {
    const { size: S, channels: C } = this.#data
    const { batch: N, lr: top, warmUpSteps } = this.settings
    const { images } = await this.#batches.at(this.step)
    const draw = this.#random.fork('step').fork(this.step)
    const lr = warmUp(warmUpSteps, constant(top))(this.step + 1)
    const report = scope(() => {
      const x0 = tensor(images, { shape: [N, C, S, S] })
      const t = draw.integersArray(0, this.diffusion.steps, N)
      const { full, masked } = drawPasses(this.model, x0, null, draw)
      const terms = [full, masked].flatMap(pass => {
        const { loss, mse, vb } = scope(() => {
          const terms = passLoss(this.model, this.diffusion, x0, t, pass)
          return { loss: mean(terms.loss), mse: mean(terms.mse).detach(), vb: mean(terms.vb!).detach() }
        })
        backward(loss)
        return [mse, vb]
      })
      const { norm, finite } = this.#optimizer.step({ lr })
      this.ema.update(finite)
      this.#optimizer.zeroGrad()
      return stack([...terms, norm], 0)
    })
    const [mse, vb, maskedMse, maskedVb, gradNorm] = await report.data()
    report.dispose()
    const [full, masked] = [mse + vb, maskedMse + maskedVb]
    const loss = mse + vb + maskedMse + maskedVb
    if (!Number.isFinite(loss + gradNorm))
      throw new Error(`step ${this.step + 1}: the loss is ${loss}; nothing was changed`)
    this.step++
    const metrics = { step: this.step, loss, full, mse, vb, masked, maskedMse, maskedVb, gradNorm, lr }
    this.metrics.push(metrics)
    return metrics
  }

  /** A run's folder as a ZIP: its checkpoint, and its log. Unpacked, `train-mdt-s.ts --resume` goes on with it. */
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
