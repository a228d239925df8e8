/**
 * The worker behind the playground: it owns the backend, the small trained model and the training, so that the page itself
 * never computes. Components call its methods through Comlink. Next: trainer.ts, looking.ts.
 */

import { expose, proxy, transfer } from 'comlink'
import { type Backend, decodeSafetensors, ready, stats } from '../../core/index.ts'
import type { ImageDataset } from '../../diffusion/data/dataset.ts'
import { gaussianDiffusion, linearBetas } from '../../diffusion/index.ts'
import { MDT, type MDTOptions, mdtPreset } from '../../models/index.ts'
import { type Drawing, draw, type Glance, glance, type Look, look } from './looking.ts'
import { fetched, openSmileys } from './smileys.ts'
import { type Metrics, Trainer } from './trainer.ts'

/** What a page is told of the machine. */
export interface Machine {
  readonly backend: string
  /** Null where a GPU computes. */
  readonly threads: number | null
  /** What it fell back to, and why; empty where it did not. */
  readonly notes: readonly string[]
}

export interface Progress extends Metrics {
  /** Since the last report. */
  readonly imagesPerSecond: number
  readonly bytes: number
}

const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })

class Studio {
  #base = '/'
  #backend: Backend | null = null
  #machine: Machine | null = null
  #data: Promise<ImageDataset> | null = null
  #model: Promise<MDT> | null = null
  #trainer: Trainer | null = null
  #running = false

  /** Opens a backend: 'wasm', or 'gpu' where the page has WebGPU. Called again with another name, it starts over. */
  async open(base: string, wanted: 'wasm' | 'gpu' = 'wasm'): Promise<Machine> {
    if (this.#machine !== null && this.#backend !== null && this.#machine.backend.startsWith(wanted))
      return this.#machine
    this.#base = base
    this.close()
    const notes: string[] = []
    if (!crossOriginIsolated)
      notes.push('One thread: the server of this page does not send the headers that let threads share memory.')
    try {
      this.#backend = await ready({ backend: wanted === 'gpu' ? 'gpu:webgpu' : wanted })
    } catch (error) {
      notes.push(`${(error as Error).message} Going on without it.`)
      this.#backend = await ready()
    }
    const backend = this.#backend
    this.#machine = {
      backend: 'build' in backend ? `${backend.name} (${backend.build})` : backend.name,
      threads: backend.name === 'gpu' ? null : 'threads' in backend ? Number(backend.threads) : 1,
      notes,
    }
    return this.#machine
  }

  /** Frees all of it. */
  close(): void {
    this.#running = false
    this.#trainer?.dispose()
    this.#backend?.dispose()
    this.#trainer = null
    this.#backend = null
    this.#model = null
  }

  /** Names of the classes, and the pictures as bytes (n, 3, 16, 16). */
  async smileys(): Promise<{ classes: readonly string[]; labels: number[]; size: number; pictures: Uint8Array }> {
    const data = await this.#smileys()
    const area = 3 * data.size ** 2
    const pictures = new Uint8Array(data.length * area)
    for (let i = 0; i < data.length; i++) pictures.set(await data.pixels(i), i * area)
    const labels = Array.from({ length: data.length }, (_, i) => data.label(i))
    return { classes: data.classes, labels, size: data.size, pictures }
  }

  /** A picture noised to step t, and what the trained model makes of it. */
  async glance(picture: number, t: number, seed: number): Promise<Glance> {
    return glance(await this.#trained(), diffusion, await this.#smileys(), { picture, t, seed })
  }

  /** Attention maps and gates of the trained model on a noised picture. */
  async look(picture: number, t: number, seed: number): Promise<Look> {
    return look(await this.#trained(), diffusion, await this.#smileys(), { picture, t, seed })
  }

  /** A picture from noise; `onStep` sees it take shape. */
  async draw(drawing: Drawing, onStep?: (picture: Uint8ClampedArray) => void): Promise<Uint8ClampedArray> {
    return draw(await this.#trained(), diffusion, drawing, onStep)
  }

  /**
   * Begins a training, or goes on with it, until `pause`. Resolves when it has stopped. What throws is mostly a device that
   * was lost or memory that is full, so everything is closed then: `open` starts over.
   */
  async train(onStep: (progress: Progress) => void, { batch }: { batch?: number } = {}): Promise<void> {
    if (batch !== undefined && !(Number.isInteger(batch) && batch >= 1))
      throw new Error(`batch: wanted a whole number from 1, got '${batch}'`)
    if (this.#running) return
    this.#running = true
    try {
      this.#trainer ??= new Trainer(await this.#smileys(), { batch })
      const trainer = this.#trainer
      let since = performance.now()
      while (this.#running) {
        const metrics = await trainer.next()
        const now = performance.now()
        const imagesPerSecond = (1000 * trainer.settings.batch) / (now - since)
        since = now
        onStep({ ...metrics, imagesPerSecond, bytes: stats(this.#backend!).bytes })
        await new Promise(resolve => setTimeout(resolve, 0)) // calls from the page are heard between steps
      }
    } catch (error) {
      this.close()
      throw error
    } finally {
      this.#running = false
    }
  }

  /** After the step that it is in. */
  pause(): void {
    this.#running = false
  }

  /** Pictures of seeds 0, 1, …, drawn with the averaged weights of the training. */
  async samples(count: number): Promise<Uint8ClampedArray[]> {
    if (this.#trainer === null) return []
    const model = this.#trainer.ema.average
    const pictures: Uint8ClampedArray[] = []
    for (let seed = 0; seed < count; seed++)
      pictures.push(await draw(model, diffusion, { seed, label: null, steps: 10, scale: 1, sampler: 'ddim' }))
    return pictures
  }

  /** The run as a ZIP that Node goes on with. */
  async export(): Promise<Uint8Array> {
    const zip = await this.#trainer!.export(this.#machine!.backend.replace(/[()]/g, ''))
    return transfer(zip, [zip.buffer])
  }

  #smileys(): Promise<ImageDataset> {
    this.#data ??= openSmileys(this.#base)
    return this.#data
  }

  #trained(): Promise<MDT> {
    this.#model ??= this.#load()
    return this.#model
  }

  async #load(): Promise<MDT> {
    const { classes } = await this.#smileys()
    const bytes = new Uint8Array(await (await fetched(`${this.#base}playground/mdt-tiny.safetensors`)).arrayBuffer())
    const { tensors } = decodeSafetensors(bytes, 'mdt-tiny.safetensors')
    const options: MDTOptions = mdtPreset('tiny', { inputSize: 16, inChannels: 3, numClasses: classes.length })
    const model = new MDT(options, { rng: null })
    model.loadStateDict(tensors)
    return model
  }
}

export type { Studio }

expose(proxy(new Studio()))
