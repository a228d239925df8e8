/**
 * A run that only looks: it counts memory and disk, measures two steps, and writes nothing. Needs Node. It takes the place of
 * run.ts in the loop of train.ts, so what is measured is the step that a run computes.
 */

import { existsSync, statfsSync } from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, resolve } from 'node:path'
import type { Backend, Tensor } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import type { SettingsTable } from '../models/family.ts'
import type { Module } from '../nn/index.ts'
import { type Advised, inGiB, memoryAdvice } from './advice.ts'
import { countTraining, type Needs } from './memory.ts'
import { duration } from './progress.ts'
import type { TrainingState } from './resume.ts'
import type { BatchSource, RunOptions, TrainingRun } from './run.ts'
import { type ComputePart, runStep, type Update } from './step.ts'
import { scalarsEvent } from './tensorboard.ts'

/** Bytes that a run can use: those that wasm addresses, but for packed panels and holes, in the memory that there is. */
export function usableBytes(backend: Backend): number {
  const machine = Math.min(totalmem(), process.constrainedMemory() || Infinity)
  if (backend.name === 'wasm') return Math.min(0.95 * 2 ** 32, machine)
  return backend.name === 'cpu' ? machine : Infinity
}

/** What the run needs, and lines of advice where it does not fit into `usable` bytes. */
export function memoryOf<Model extends Module, Options, Own extends SettingsTable>(
  advised: Advised<Model, Options, Own>,
  samples: number,
  usable: number,
): { readonly needs: Needs; readonly advice: readonly string[] } {
  const needs = countTraining(advised.run, { samples })
  return { needs, advice: needs.step <= usable ? [] : memoryAdvice(advised, needs.step, usable) }
}

/** Prints what a run needs of memory. Throws UserError if it does not fit. */
export function printMemory({ needs, advice }: ReturnType<typeof memoryOf>, usable: number): void {
  const drawing = needs.drawing === null ? '' : `, ${inGiB(needs.drawing)} while samples are drawn`
  const most = usable === Infinity ? '' : `; ${inGiB(usable)} can be used`
  console.log(`memory: ${inGiB(needs.step)} at the peak of a step${drawing}${most}`)
  for (const line of advice) console.log(line)
  if (needs.step > usable)
    throw new UserError(`memory: expected a step of at most ${inGiB(usable)}, got one of ${inGiB(needs.step)}`)
}

/** Two steps of a run, measured. */
export class DryRun implements TrainingRun {
  readonly #options: RunOptions
  readonly #parameters: readonly Tensor[]
  readonly #checkpoint: number
  #step: number
  #seconds = 0
  /** Bytes that the last step would have added to the logs. */
  #logged = 0

  /** `checkpoint` is the number of bytes of one. */
  constructor(options: RunOptions, { model }: Omit<TrainingState, 'guard'>, checkpoint: number) {
    this.#options = options
    this.#parameters = model.parameters()
    this.#checkpoint = checkpoint
    this.#step = options.from?.step ?? 0
  }

  /** Yields two steps, and then prints what they cost. */
  async *steps(): AsyncGenerator<number, void> {
    for (let i = 0; i < 2; i++) yield this.#step
    const { steps, folder, advice } = this.#options
    const left = Math.max(steps - this.#step + 2, 0)
    const each = this.#seconds
    console.log(
      `time: ${each.toFixed(2)} s for the second step; ${left} steps in ${duration(left * each)}, samples not counted`,
    )
    const checkpoints = 3 * this.#checkpoint
    console.log(
      `disk: ${inMB(checkpoints + steps * this.#logged)}: 3 checkpoints of ${inMB(this.#checkpoint)}, one of them while it is written, and logs; ${inMB(freeBytes(folder))} are free`,
    )
    for (const line of advice?.(each) ?? []) console.log(line)
    console.log('nothing was written')
  }

  async commit(step: number, batches: BatchSource, compute: ComputePart, update: Update): Promise<void> {
    const { settings, data, labelled, rng, steps, columns } = this.#options
    const { batch, parts } = settings
    const began = performance.now()
    const { images, labels } = await batches.at(step, [0, batch])
    const shape = [batch, data.channels, data.size, data.size] as const
    const progress = step / steps
    const inputs = { step, progress, images, shape, labels: labelled ? labels : null, parts, rng }
    const { terms, gradNorm, lr } = await runStep(inputs, this.#parameters, compute, update)
    this.#step = step + 1
    this.#seconds = (performance.now() - began) / 1000
    const row = { ...columns(terms, progress), gradNorm, lr }
    const timing = { step: this.#step, seconds: this.#seconds, waited: batches.waited, time: Date.now() / 1000 }
    this.#logged =
      JSON.stringify({ step: this.#step, ...row }).length +
      JSON.stringify(timing).length +
      scalarsEvent({ step: this.#step, time: timing.time }, row).length
  }
}

/** Bytes that are free where `folder` is, or will be. */
function freeBytes(folder: string): number {
  let place = resolve(folder)
  while (!existsSync(place)) place = dirname(place)
  const { bavail, bsize } = statfsSync(place)
  return bavail * bsize
}

function inMB(bytes: number): string {
  const [unit, size] = bytes < 1e9 ? ['MB', 1e6] : ['GB', 1e9]
  return `${Number((bytes / Number(size)).toPrecision(3))} ${unit}`
}
