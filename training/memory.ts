/**
 * Counts what a run needs of memory and disk. Nothing is computed: its steps run on a backend that only counts bytes
 * (core/backends/shapes.ts), so the largest models are counted in a moment. Tests compare the counts with wasm's own. Runs in
 * a browser, too.
 */

import {
  aBackend,
  aBoolean,
  aCount,
  anObject,
  aSize,
  check,
  checkOptions,
  numbers,
  objectWith,
  oneOf,
  orNull,
} from '../core/arguments.ts'
import {
  type Backend,
  backward,
  createShapes,
  defaultBackend,
  rng,
  setDefaultBackend,
  type Tensor,
} from '../core/index.ts'
import { checkSizesOf } from '../models/arguments.ts'
import {
  type Family,
  type GenerationRequest,
  type SettingsTable,
  samplerNames,
  type Trainable,
} from '../models/family.ts'
import type { TransformerOptions } from '../models/index.ts'
import { checkpointBlocks, Ema, type Init, type Module } from '../nn/index.ts'
import { checkTrainable } from './arguments.ts'
import type { Settings } from './settings.ts'
import { dispatchStep, type StepInputs } from './step.ts'

/** A model and how it is trained. */
export interface ModelInTraining<Model extends Module, Options, Own extends SettingsTable> {
  readonly family: Trainable<Model, Options, Own>
  readonly options: Options
  readonly settings: Settings<Own>
  /** Sizes of an image of the batch, of pixels or of a latent. */
  readonly images: { readonly channels: number; readonly size: number }
  /** True if the model is conditioned on labels. */
  readonly labelled: boolean
}

/** Needs of a run, in bytes. */
export interface Needs {
  /** Number of parameters. */
  readonly parameters: number
  /** At the peak of a step, the second one: the first makes the optimizer's state. */
  readonly step: number
  /** At the peak of the grid of samples, beside weights and optimizer; null for a model that generates nothing. */
  readonly drawing: number | null
  /** A checkpoint on the disk. */
  readonly checkpoint: number
}

const init: Init = { rng: null }
const bytesOf = (tensors: Iterable<Tensor>) => [...tensors].reduce((sum, { size }) => sum + 4 * size, 0)

/** Runs `use` with `backend` as the default. */
function on<T>(backend: Backend, use: () => T): T {
  const before = defaultBackend()
  setDefaultBackend(backend)
  try {
    return use()
  } finally {
    setDefaultBackend(before)
  }
}

const aModelInTraining = objectWith('a model and how it is trained', {
  options: anObject,
  settings: objectWith('', { batch: aCount, parts: aCount }),
  images: objectWith('', { channels: aCount, size: aCount }),
  labelled: aBoolean,
})
const aRequest = objectWith('a request for pictures', {
  seeds: numbers,
  labels: orNull(numbers),
  sampler: oneOf(samplerNames),
  steps: aCount,
  clip: aBoolean,
})

/** Counts what training needs, with a grid of `samples` pictures. `backend` is given to compare with another one's count. */
export function countTraining<Model extends Module, Options, Own extends SettingsTable>(
  trained: ModelInTraining<Model, Options, Own>,
  counted: { samples?: number; backend?: Backend } = {},
): Needs {
  check('countTraining', 'trained', trained, aModelInTraining)
  checkOptions('countTraining', counted, { samples: aSize, backend: aBackend })
  const { family, options, settings, images, labelled } = trained
  checkTrainable('countTraining', family)
  const { channels: C, size: S } = images
  const { samples = 0, backend = createShapes({ fused: true }) } = counted
  return on(backend, () => {
    const { training } = family
    const { batch: N, parts } = settings
    const before = backend.stats().bytes
    const [model, average] = [family.make(options, init), family.make(options, init)]
    if (settings.checkpointBlocks) checkpointBlocks(model)
    const ema = new Ema(model, average, { decay: training.decay(settings), skipFrozen: training.skipFrozen })
    const optimizer = training.optimizer(model.namedParameters(), settings)
    const inputs: StepInputs = {
      step: 0,
      progress: 0,
      images: new Float32Array(N * C * S * S),
      shape: [N, C, S, S],
      labels: labelled ? new Int32Array(N) : null,
      parts,
      rng: rng(0),
    }
    for (let i = 0; i < 2; i++) {
      backend.resetPeak()
      const { values } = dispatchStep(
        inputs,
        model.parameters(),
        part => {
          for (const pass of training.passes(model, part, settings)) {
            const { loss, terms } = pass()
            backward(loss)
            part.report(terms)
          }
        },
        losses => {
          const update = optimizer.step({ maxNorm: settings.maxNorm ?? undefined, losses })
          ema.update(update.finite)
          optimizer.zeroGrad()
          return update
        },
      )
      values.dispose()
    }
    const step = backend.stats().peakBytes - before
    const drawing =
      samples > 0 && isFamily(family)
        ? drawingBytes(family, settings.preset, options, average, samples, labelled)
        : null
    const saved = [model.stateDict(), average.stateDict(), optimizer.stateDict()]
    const needs = {
      parameters: model.countParameters().total,
      step,
      drawing: drawing === null ? null : drawing - before,
      checkpoint: saved.reduce((sum, tensors) => sum + bytesOf(tensors.values()), 0),
    }
    optimizer.dispose()
    for (const module of [model, average]) module.dispose()
    return needs
  })
}

/** Bytes of the default backend at the peak of a grid of `samples` pictures. */
function drawingBytes(
  family: Family,
  preset: string,
  options: unknown,
  model: Module,
  samples: number,
  labelled: boolean,
): number {
  const backend = defaultBackend()
  const { numClasses } = options as TransformerOptions
  const seeds = Array.from({ length: samples }, (_, i) => i)
  const labels = labelled ? seeds.map(i => i % numClasses) : null
  backend.resetPeak()
  const request = {
    seeds,
    labels,
    ...family.generation.defaults,
    ...family.training.grid?.(preset, labelled),
    steps: 2,
    clip: true,
  }
  for (const _ of family.generation.generate(model, request));
  return backend.stats().peakBytes
}

/** Counts the bytes at the peak while a trained model generates what is requested, and its parameters. */
export function countGeneration(
  family: Family,
  options: TransformerOptions,
  request: GenerationRequest,
): { readonly bytes: number; readonly parameters: number } {
  checkTrainable('countGeneration', family)
  checkSizesOf('countGeneration', options)
  check('countGeneration', 'request', request, aRequest)
  const backend = createShapes({ fused: true })
  return on(backend, () => {
    const model = family.make(options, init)
    backend.resetPeak()
    for (const _ of family.generation.generate(model, request));
    return { bytes: backend.stats().peakBytes, parameters: model.countParameters().total }
  })
}

/** True for the record of a family, false for that of the autoencoder. */
export function isFamily(record: object): record is Family {
  return 'generation' in record
}
