/** Checks of the arguments that functions here share: runs, programs, steps and rows of a log. Plain JavaScript may pass anything. */

import {
  aBackend,
  aBoolean,
  aCount,
  aFunction,
  aMap,
  aNumber,
  anInteger,
  anObject,
  arrayOf,
  aSize,
  aString,
  check,
  checkOptions,
  checkTensor,
  instanceOf,
  type Kind,
  listOf,
  numbers,
  objectWith,
  oneOf,
  optional,
  orNull,
  strings,
  tensors,
} from '../core/arguments.ts'
import type { Tensor } from '../core/index.ts'
import { aStream } from '../core/random.ts'
import { aWorld } from '../data/arguments.ts'
import type { Setting, SettingsTable } from '../models/family.ts'
import { Ema, Optimizer } from '../nn/index.ts'
import { aModule } from '../nn/module.ts'
import type { TrainingState } from './resume.ts'
import type { RunOptions } from './run.ts'
import type { ComputePart, StepInputs, Update } from './step.ts'

type KindsOf<T> = { readonly [K in keyof T]-?: Kind }

/** A line of a log. */
export const aRow = objectWith('a row with its step', { step: anInteger })
export const rows = arrayOf('rows with their steps', aRow)
/** A checkpoint by its folder. */
export const aCheckpoint = objectWith('a checkpoint with its path', { path: aString })
/** Sets of tensors of a checkpoint. */
export const savedTensors = objectWith('the tensors of model, ema and optimizer, a Map each', {
  model: aMap,
  ema: aMap,
  optimizer: aMap,
})

const trainedKinds: KindsOf<Omit<TrainingState, 'guard'>> = {
  model: aModule,
  ema: instanceOf('an Ema', Ema),
  optimizer: instanceOf('an optimizer', Optimizer),
}

/** Throws TypeError unless `trained` has a model, its average and its optimizer. */
export function checkTrained(op: string, trained: Omit<TrainingState, 'guard'>): void {
  check(op, 'trained', trained, anObject)
  for (const name of ['model', 'ema', 'optimizer'] as const) check(op, name, trained[name], trainedKinds[name])
}

const runSettings = objectWith('settings with batch, parts, maxNorm and skipNonfinite', {
  batch: aCount,
  parts: aCount,
  maxNorm: orNull(aNumber),
  skipNonfinite: aSize,
  saveEvery: optional(aCount),
  sampleEvery: optional(aCount),
})

/** Kinds of `RunOptions`. */
export const runKinds: KindsOf<RunOptions> = {
  world: aWorld,
  shardOptimizer: aBoolean,
  folder: aString,
  release: aFunction,
  steps: aSize,
  minutes: aNumber,
  settings: runSettings,
  rng: aStream,
  backend: aBackend,
  data: objectWith('pictures with their channels and size', { channels: aCount, size: aCount }),
  labelled: aBoolean,
  heldOut: orNull(aFunction),
  from: aCheckpoint,
  start: aCheckpoint,
  previous: anObject,
  described: objectWith('a description with settings', { settings: anObject }),
  readme: objectWith('a title and two commands', { title: aString, command: aString, resume: aString }),
  notes: arrayOf('a list of strings or null', orNull(aString)),
  columns: aFunction,
  curves: strings,
  speed: aFunction,
  advice: aFunction,
  show: aFunction,
}

const aTrainable = objectWith('the record of a family', {
  name: aString,
  command: aString,
  presets: strings,
  defaultPreset: aFunction,
  options: aFunction,
  make: aFunction,
  training: objectWith('', { defaults: aFunction, optimizer: aFunction, passes: aFunction, settings: anObject }),
})

/** Throws TypeError unless `family` is a record of a family, or of the autoencoder. */
export function checkTrainable(op: string, family: unknown): void {
  check(op, 'family', family, aTrainable)
}

const aProgram = objectWith('a training program', {
  family: aTrainable,
  about: aString,
  folder: aFunction,
  title: aFunction,
  show: aFunction,
})
const aCommand = objectWith('the command line of a run', {
  given: anObject,
  flags: anObject,
  line: aString,
  resume: aFunction,
})

/** Throws TypeError unless these are a training program and its command line. */
export function checkProgram(op: string, program: unknown, command: unknown): void {
  check(op, 'program', program, aProgram)
  check(op, 'command', command, aCommand)
}

/** Throws TypeError on a setting that is in no table, or of another kind than its table says; null is none. */
export function checkGiven(op: string, given: object, tables: readonly SettingsTable[]): void {
  const all: Record<string, Setting> = Object.assign({}, ...tables)
  const kinds = Object.fromEntries(Object.entries(all).map(([name, setting]) => [name, kindOf(setting)]))
  check(op, 'given', given, anObject)
  const some = Object.entries(given).filter(([, value]) => value !== null)
  checkOptions<Readonly<Record<string, unknown>>>(op, Object.fromEntries(some), kinds)
}

function kindOf(setting: Setting): Kind {
  if (setting.type === 'switch') return aBoolean
  if (setting.type !== 'text') return aNumber
  if (setting.many === true) return strings
  return setting.choices === undefined ? aString : oneOf(setting.choices)
}

const stepKinds: KindsOf<StepInputs> = {
  step: aSize,
  progress: aNumber,
  images: numbers,
  shape: listOf(4),
  labels: orNull(numbers),
  parts: aCount,
  own: optional(listOf(2)),
  allSum: optional(aFunction),
  rng: aStream,
}

/** Throws TypeError unless these are the inputs of a step, the parameters of a model, and the two halves of the step. */
export function checkStep(
  op: string,
  inputs: StepInputs,
  parameters: readonly Tensor[],
  compute: ComputePart,
  update: Update,
): void {
  check(op, 'inputs', inputs, anObject)
  for (const name in stepKinds)
    check(op, `inputs.${name}`, inputs[name as keyof StepInputs], stepKinds[name as keyof StepInputs])
  check(op, 'parameters', parameters, tensors)
  for (const parameter of parameters) checkTensor(op, 'parameters', parameter)
  check(op, 'compute', compute, aFunction)
  check(op, 'update', update, aFunction)
}
