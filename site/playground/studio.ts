/**
 * The playground's worker (host.ts): it owns the backend, the small trained model and the training, so
 * that the page itself never computes. Components call its methods through Comlink.
 */

import { transfer } from 'comlink'
import { type Measured, measure, ways } from '../../bench/product.ts'
import { type Backend, ready, stats } from '../../core/index.ts'
import type { ImageDataset } from '../../data/dataset.ts'
import { decodeSafetensors } from '../../io/safetensors.ts'
import { type MDT, mdt } from '../../models/index.ts'
import type { BlockRun } from './block-graph.ts'
import {
  type Glance,
  generate,
  generateAll,
  glance,
  insideBlock,
  type Look,
  look,
  type PictureRequest,
} from './looking.ts'
import { fetched, openSmileys } from './smileys.ts'
import { type Metrics, Trainer } from './trainer.ts'

/** Backend of the worker, as shown on a page. */
export interface Machine {
  readonly backend: string
  /** Null where a GPU computes. */
  readonly threads: number | null
  /** Fallbacks with their reasons; empty if there are none. */
  readonly notes: readonly string[]
}

export interface Progress extends Metrics {
  /** Since the last report. */
  readonly imagesPerSecond: number
  readonly bytes: number
}

/** A training so far, for a page that is opened again. */
export interface Run {
  readonly batch: number
  /** Of the full pass, step by step. */
  readonly losses: readonly number[]
  readonly last: Progress
}

/** Receives samples (16, 16, 4) of a training and the step after which they were generated. */
export type Deliver = (step: number, pictures: Uint8ClampedArray[]) => void | Promise<void>

/** Pictures that a running training generates each time. */
const liveSamples = 6

export class Studio {
  #base = '/'
  #backend: Backend | null = null
  #machine: Machine | null = null
  #data: Promise<ImageDataset> | null = null
  #model: Promise<MDT> | null = null
  #trainer: Trainer | null = null
  #last: Progress | null = null
  #opening: Promise<unknown> = Promise.resolve()
  /** The running training; null if there is none. */
  #training: AbortController | null = null
  /** Resolves when the last step of a training that was paused is over. */
  #stopped: Promise<void> = Promise.resolve()

  /**
   * Opens a backend: 'wasm', or 'gpu' where the page has WebGPU. Called again with another name, it starts over; with none,
   * it keeps what is open. Calls wait for each other.
   */
  open(base: string, wanted?: 'wasm' | 'gpu'): Promise<Machine> {
    const machine = this.#opening.then(() => this.#open(base, wanted))
    this.#opening = machine.catch(() => {})
    return machine
  }

  async #open(base: string, wanted?: 'wasm' | 'gpu'): Promise<Machine> {
    if (this.#machine?.backend.startsWith(wanted ?? '')) return this.#machine
    await this.close()
    this.#base = base
    const notes: string[] = []
    if (!crossOriginIsolated)
      notes.push('One thread: the server of this page does not send the headers that let threads share memory.')
    try {
      this.#backend = await ready({ backend: wanted === 'gpu' ? 'gpu:webgpu' : 'wasm' })
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

  /** Frees all of it, after the step and the loading that it is in: they would fail, or leave tensors behind. */
  async close(): Promise<void> {
    this.pause()
    await Promise.allSettled([this.#stopped, this.#model])
    this.#free()
  }

  #free(): void {
    this.pause()
    this.#trainer?.dispose()
    this.#backend?.dispose()
    this.#trainer = null
    this.#last = null
    this.#backend = null
    this.#machine = null
    this.#data = null
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
    return glance(await this.#trained(), await this.#smileys(), { picture, t, seed })
  }

  /** Attention maps and gates of the trained model on a noised picture. */
  async look(picture: number, t: number, seed: number): Promise<Look> {
    return look(await this.#trained(), await this.#smileys(), { picture, t, seed })
  }

  /** All values of a block of the trained model on a noised picture, with the gradients of the loss by them. */
  async block(picture: number, t: number, seed: number, index: number): Promise<BlockRun> {
    return insideBlock(await this.#trained(), await this.#smileys(), { picture, t, seed }, index)
  }

  /** Measures one matrix product in a way of bench/product.ts, for half a second. Throws, in one line, if that is not possible here. */
  async product(name: string): Promise<Measured> {
    const way = ways.find(each => each.name === name)
    if (way === undefined) throw new Error(`product: expected a way of bench/product.ts, got '${name}'`)
    return measure(way, 500)
  }

  async generate(request: PictureRequest): Promise<Uint8ClampedArray> {
    return generate(await this.#trained(), request)
  }

  /**
   * Starts a training with that batch, or continues the existing one, until `pause`. Resolves when it has stopped. `onSamples`
   * receives samples every `sampleEvery` steps. Errors are mostly a lost device or full memory, so an error closes
   * everything: `open` starts over.
   */
  async train(
    onStep: (progress: Progress) => void,
    { batch, sampleEvery = 50 }: { batch?: number; sampleEvery?: number } = {},
    onSamples?: Deliver,
  ): Promise<void> {
    if (batch !== undefined && !(Number.isInteger(batch) && batch >= 1))
      throw new Error(`batch: expected a whole number from 1, got '${batch}'`)
    if (this.#training !== null) return
    this.#training = new AbortController()
    const { signal } = this.#training
    const training = this.#stopped.then(() => this.#steps(signal, onStep, { batch, sampleEvery, onSamples }))
    this.#stopped = training.catch(() => {})
    await training
  }

  async #steps(
    signal: AbortSignal,
    onStep: (progress: Progress) => void,
    { batch, sampleEvery, onSamples }: { batch?: number; sampleEvery: number; onSamples?: Deliver },
  ): Promise<void> {
    try {
      const data = await this.#smileys()
      if (signal.aborted) return
      this.#trainer ??= new Trainer(data, { batch })
      const trainer = this.#trainer
      let since = performance.now()
      while (!signal.aborted) {
        const metrics = await trainer.next()
        const now = performance.now()
        const imagesPerSecond = (1000 * trainer.settings.batch) / (now - since)
        since = now
        this.#last = { ...metrics, imagesPerSecond, bytes: stats(this.#backend!).bytes }
        onStep(this.#last)
        if (onSamples !== undefined && metrics.step % sampleEvery === 0) {
          await onSamples(metrics.step, await this.samples(liveSamples))
          since = performance.now()
        }
        await new Promise(resolve => setTimeout(resolve, 0)) // calls from the page are heard between steps
      }
    } catch (error) {
      this.#free()
      throw error
    } finally {
      if (this.#training?.signal === signal) this.#training = null
    }
  }

  /** After the step that it is in. */
  pause(): void {
    this.#training?.abort()
    this.#training = null
  }

  /** The training so far, once it has stopped; null where there is none. */
  async run(): Promise<Run | null> {
    await this.#stopped
    if (this.#trainer === null || this.#last === null) return null
    const { settings, metrics } = this.#trainer
    return { batch: settings.batch, losses: metrics.map(({ full }) => full), last: this.#last }
  }

  /** Generates pictures of seeds 0, 1, … with the averaged weights of the training, by 10 steps of DDIM. */
  async samples(count: number): Promise<Uint8ClampedArray[]> {
    if (this.#trainer === null) return []
    const seeds = Array.from({ length: count }, (_, seed) => seed)
    const request = { seeds, labels: null, sampler: 'ddim', steps: 10, clip: true } as const
    return generateAll(this.#trainer.ema.average, request)
  }

  /** Discards the training, after the step that it is in. */
  async reset(): Promise<void> {
    this.pause()
    await this.#stopped
    this.#trainer?.dispose()
    this.#trainer = null
    this.#last = null
  }

  /** The run as a ZIP, from which Node can resume. */
  async export(): Promise<Uint8Array> {
    const zip = await this.#trainer!.export(this.#machine!.backend.replace(/[()]/g, ''))
    return transfer(zip, [zip.buffer])
  }

  #smileys(): Promise<ImageDataset> {
    this.#data ??= openSmileys(this.#base).catch(error => {
      this.#data = null // to be fetched again
      throw error
    })
    return this.#data
  }

  #trained(): Promise<MDT> {
    this.#model ??= this.#load().catch(error => {
      this.#model = null
      throw error
    })
    return this.#model
  }

  async #load(): Promise<MDT> {
    const { classes } = await this.#smileys()
    const bytes = new Uint8Array(await (await fetched(`${this.#base}playground/mdt-tiny.safetensors`)).arrayBuffer())
    const { tensors } = decodeSafetensors(bytes, 'mdt-tiny.safetensors')
    const pictures = { inputSize: 16, inChannels: 3, numClasses: classes.length }
    const model = mdt.make(mdt.options('tiny', pictures), { rng: null })
    model.loadStateDict(tensors)
    return model
  }
}
