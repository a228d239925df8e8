/**
 * The run around a training loop. `run.steps()` counts the steps: it saves checkpoints, shows progress and ends at the last
 * step, at a time limit or by Ctrl-C. `run.commit()` runs one step (step.ts), guards against values that are not finite and
 * writes the log. Needs Node. How a run starts and resumes is resume.ts.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { aFunction, aSize, aString, check, checkOptions, objectWith } from '../core/arguments.ts'
import type { Backend, Rng, Tensor } from '../core/index.ts'
import type { Batch, BatchRange } from '../data/index.ts'
import { alone, type World } from '../distributed/world.ts'
import { UserError } from '../io/user-error.ts'
import { checkTrained, runKinds } from './arguments.ts'
import { writeLossCurve } from './charts.ts'
import { type Checkpoint, type SavedTensors, saveCheckpoint } from './checkpoint.ts'
import { Interrupt } from './interrupt.ts'
import { MetricsLog, readRows } from './metrics.ts'
import { OptimizerShards } from './optimizer-shards.ts'
import { samplesPath } from './pictures.ts'
import { Progress } from './progress.ts'
import { type RunDescription, updateRunSteps, writeRunReadme } from './readme.ts'
import { writeReport } from './report.ts'
import {
  arithmetic,
  backendWarning,
  isSaved,
  type RunDescribed,
  type RunState,
  restore,
  type TrainingState,
} from './resume.ts'
import type { RunSettings } from './settings.ts'
import { type ComputePart, type PartRange, replayParts, runStep, type StepInputs, type Update } from './step.ts'
import { StepGuard } from './step-guard.ts'

/** Where a run lies, how long it lasts and what it leaves. */
export interface RunOptions {
  /** Ranks that share the parts of every batch. Default: this process alone. Rank 0 writes and prints. */
  readonly world?: World
  /** Shares out the optimizer's moments and the moving average over the ranks. */
  readonly shardOptimizer?: boolean
  /** Folder of the run, locked by `resumePoint`. */
  readonly folder: string
  /** Unlocks the folder once the run has ended. */
  readonly release?: () => void
  /** Number of the last step. */
  readonly steps: number
  /** Ends the run earlier, after this many minutes. */
  readonly minutes?: number
  readonly settings: RunSettings
  /** Stream of the run: all random numbers of its steps follow from it. */
  readonly rng: Rng
  readonly backend: Backend
  /** Sizes of the images in a batch. */
  readonly data: { readonly channels: number; readonly size: number }
  /** True if the model is conditioned on labels. */
  readonly labelled: boolean
  /** Measures the loss on held-out pictures, for a column of metrics.jsonl; null if there are none. */
  readonly heldOut?: (() => Promise<number>) | null
  /** Checkpoint to resume; undefined for a new run. */
  readonly from: Checkpoint | undefined
  /** Checkpoint of another run, whose weights, averages and moments a new run starts from. */
  readonly start?: Pick<Checkpoint, 'path'> | undefined
  /** Description of the run that is resumed; undefined for a new run. */
  readonly previous: { readonly backend?: string } | undefined
  /** Description of this run. */
  readonly described: RunDescribed
  /** Lines of README.md. */
  readonly readme: Omit<RunDescription, 'described' | 'steps'>
  /** Lines to print below the title. */
  readonly notes?: readonly (string | null)[]
  /** Columns of metrics.jsonl from the reported terms; `loss` is one of them. */
  columns(terms: Readonly<Record<string, number>>, progress: number): Readonly<Record<string, number>>
  /** The columns that loss.png shows. */
  readonly curves: readonly string[]
  /** The first line about speed, after the second step. Default: seconds a step. */
  readonly speed?: (step: number, seconds: number) => string
  /** Lines about a run whose second step took `seconds`: flags that make it faster. */
  readonly advice?: (seconds: number) => readonly string[]
  /** Writes a picture of the model's progress to `path`, or nothing if `run.isDrawingOver()` becomes true meanwhile. */
  show(path: string, run: Run): Promise<void>
}

/** Interface of a run to its training loop. */
export type TrainingRun = Pick<Run, 'steps' | 'commit'>

/** Source of batches, and the time spent on them. */
export interface BatchSource {
  /** Returns pictures of the batch of a step, counted from 0. */
  at(step: number, range: BatchRange): Promise<Batch>
  /** Seconds spent waiting in `at`. */
  readonly waited: number
  /** Describes the share of `seconds` that went into data. */
  shareOf(seconds: number): string
}

const aBatchSource = objectWith('a source of batches', { at: aFunction, shareOf: aFunction })
const requiredOptions = [
  'folder',
  'steps',
  'settings',
  'rng',
  'backend',
  'data',
  'labelled',
  'described',
  'readme',
  'columns',
  'curves',
  'show',
] as const

/** Seconds that the picture of the last save may take once the run was asked to end. */
const drawingSeconds = 20

/** A run from its first step, or the first after a checkpoint, to its last. */
export class Run {
  readonly #options: RunOptions
  readonly #world: World
  /** Parts of a batch that this process computes. */
  readonly #own: PartRange
  readonly #state: TrainingState
  readonly #parameters: readonly Tensor[]
  /** Null where every rank keeps the whole optimizer. */
  readonly #shards: OptimizerShards | null
  /** Null on ranks other than 0. */
  readonly #log: MetricsLog | null
  readonly #progress: Progress
  readonly #interrupt: Interrupt
  /** Seconds in `commit`. */
  #computing = 0
  /** When the picture of this save was begun, and when drawing last asked whether it is over. */
  readonly #drawing = { began: 0, last: 0 }
  #step: number
  #batches: BatchSource | null = null
  #checkpoint: string | undefined
  /** Tells the ranks that wait for a save that this one is at work. */
  #alive = () => {}

  /**
   * Loads the checkpoint, if there is one, prints what is trained and opens the log. Throws UserError or SafetensorsError on
   * a checkpoint that is damaged or of another model.
   */
  constructor(options: RunOptions, trained: Omit<TrainingState, 'guard'>) {
    checkOptions('Run', options, runKinds, requiredOptions)
    checkTrained('Run', trained)
    const { folder, steps, minutes, settings, from, start = from, previous, described, readme, notes = [] } = options
    const { world = alone } = options
    this.#options = options
    this.#world = world
    this.#own = [0, 1].map(i => ((world.rank + i) * settings.parts) / world.size) as [number, number]
    this.#state = { ...trained, guard: new StepGuard(folder, trained.model, settings) }
    this.#parameters = trained.model.parameters()
    this.#shards = options.shardOptimizer && world.size > 1 ? new OptimizerShards(world, trained) : null
    if (start !== undefined) restore(start, this.#state)
    this.#step = from?.step ?? 0
    this.#checkpoint = from?.path
    const size = `${(trained.model.countParameters().total / 1e6).toFixed(1)} M parameters`
    const { batch, parts } = settings
    const split = parts === 1 ? '' : ` in ${parts} parts`
    console.log(`${readme.title}: ${size}, batch ${batch}${split}, ${arithmetic(options.backend)}; see ${folder}`)
    for (const note of [backendWarning(previous, options.backend), ...notes]) if (note !== null) console.log(note)
    if (world.first) {
      if (previous === undefined) writeRunReadme(folder, { ...readme, described, steps })
      else updateRunSteps(folder, steps)
    }
    this.#log = world.first ? new MetricsLog(folder, this.#step) : null
    this.#progress = new Progress({ total: steps, done: this.#step, minutes })
    this.#interrupt = new Interrupt(() => this.print('saving after this step; Ctrl-C again stops without'))
  }

  /** Number of steps done. */
  get step(): number {
    return this.#step
  }

  /** Prints a line above the progress. */
  print(line: string): void {
    check('Run.print', 'line', line, aString)
    this.#progress.log(line)
  }

  /** True if Ctrl-C or SIGTERM asked the run to end. */
  asked(): Promise<boolean> {
    this.#alive()
    return this.#interrupt.asked()
  }

  /**
   * True if drawing must be given up: the run was asked to end, and 20 s have passed since then, or since drawing began. The
   * time of another step like the last one counts too. Under a launcher of several ranks there are no such 20 s.
   */
  async isDrawingOver(): Promise<boolean> {
    const asked = await this.asked()
    if (this.#world.size > 1) return asked // a launcher waits less for ranks that it has told to end
    const [now, { began, last }] = [performance.now(), this.#drawing]
    this.#drawing.last = now
    return asked && Math.min(this.#interrupt.elapsed!, now - began) + now - last > 1000 * drawingSeconds
  }

  /**
   * Yields the number of steps done before each step; every one must be committed. Saves a checkpoint now and then and
   * after the last step. Leaving the loop by `break` or an error saves nothing.
   */
  async *steps(): AsyncGenerator<number, void> {
    const { folder, steps, minutes = Infinity, readme } = this.#options
    const first = this.#step
    const end = performance.now() + 60_000 * minutes
    try {
      try {
        while (this.#step < steps && !this.#world.any(performance.now() >= end || (await this.asked()))) {
          const step = this.#step
          yield step
          if (this.#step !== step + 1) throw new Error(`run.steps: expected a commit of step ${step}, got none`)
          if (this.#step >= steps) continue
          if (this.#savesAt(this.#step)) await this.#save(this.#samplesAt(this.#step))
          else if (this.#samplesAt(this.#step)) await this.#onFirst(log => this.#report(log, true))
        }
      } finally {
        this.#progress.close()
      }
      if (this.#batches !== null) console.log(this.#batches.shareOf(this.#computing))
      if (this.#step > first || !this.#world.agreed(isSaved(folder, this.#step))) await this.#save(true)
    } finally {
      this.#interrupt.close()
      this.#log?.close()
      this.#options.release?.()
    }
    const more = this.#step < steps ? `; go on with: ${readme.resume}` : ''
    console.log(`${this.#checkpoint ?? folder} after step ${this.#step}${more}`)
    this.#world.end()
  }

  /**
   * Runs a step on batch number `step`: `compute` on each part, then `update`. Logs the row. Throws UserError if the loss or
   * a gradient is not finite and the run does not skip such steps: the message names the op that produced the value.
   */
  async commit(step: number, batches: BatchSource, compute: ComputePart, update: Update): Promise<void> {
    check('Run.commit', 'step', step, aSize)
    check('Run.commit', 'batches', batches, aBatchSource)
    check('Run.commit', 'compute', compute, aFunction)
    check('Run.commit', 'update', update, aFunction)
    const { settings, data, labelled, rng, steps, columns, speed = inSeconds, advice } = this.#options
    const { batch, parts } = settings
    this.#batches = batches
    const [began, waited] = [performance.now(), batches.waited]
    const [from, to] = this.#own.map(part => (part * batch) / parts)
    const { images, labels } = await batches.at(step, [from, to])
    const world = this.#world
    const inputs: StepInputs = {
      step,
      progress: step / steps,
      images,
      shape: [to - from, data.channels, data.size, data.size],
      labels: labelled ? labels : null,
      parts,
      own: this.#own,
      allSum: world.size > 1 ? tensors => world.allSum(tensors) : undefined,
      rng,
    }
    const { terms, gradNorm, lr, finite } = await runStep(inputs, this.#parameters, compute, losses => {
      const info = update(losses)
      this.#shards?.sendParameters()
      return info
    })
    const replay = () => replayParts(inputs, compute)
    const outcome = { step: step + 1, gradNorm, finite, replay, agree: firstFound(world) }
    const acted = await this.#state.guard.judge(outcome, this.#progress)

    this.#step = step + 1
    const seconds = (performance.now() - began) / 1000
    this.#computing += seconds
    const shown = columns(terms, inputs.progress)
    this.#progress.update(this.#step, shown.loss, batch)
    const heldOut = await this.#heldOutLoss()
    this.#log?.write(
      { step: this.#step, ...shown, gradNorm, lr, ...acted, ...(heldOut !== undefined && { heldOut }) },
      { step: this.#step, seconds, waited: batches.waited - waited, time: Date.now() / 1000 },
    )
    if (this.#step === (this.#options.from?.step ?? 0) + 2)
      this.print([speed(this.#step, seconds), ...(advice?.(seconds) ?? [])].join('\n'))
  }

  /** The loss on held-out pictures, measured on rank 0 at the steps that are saved; undefined elsewhere. */
  async #heldOutLoss(): Promise<number | undefined> {
    const { heldOut } = this.#options
    if (heldOut == null || !this.#savesAt(this.#step)) return undefined
    let loss: number | undefined
    await this.#onFirst(async () => {
      loss = await heldOut()
    })
    return loss
  }

  /** True if a checkpoint is due; does not depend on the length of the run. */
  #savesAt(step: number): boolean {
    const { saveEvery = step < 500 ? 50 : 250 } = this.#options.settings
    return step % saveEvery === 0
  }

  /** True if a grid of samples is due: often at first, when a model changes fast. */
  #samplesAt(step: number): boolean {
    const { sampleEvery = step <= 100 ? 50 : 250 } = this.#options.settings
    return step % sampleEvery === 0
  }

  /** Saves on rank 0, for which the others wait. */
  #save(withSamples: boolean): Promise<void> {
    const optimizer = this.#shards?.gatherState() ?? this.#state.optimizer.stateDict()
    return this.#onFirst(async log => {
      await this.#write(log, optimizer)
      await this.#report(log, withSamples)
    })
  }

  /** Runs `work` on rank 0, which has all averages meanwhile; the others wait. Its time belongs to no step. */
  async #onFirst(work: (log: MetricsLog) => Promise<void>): Promise<void> {
    this.#shards?.gatherAverages()
    await this.#world.onFirst(async alive => {
      this.#alive = alive
      await work(this.#log!)
    })
    this.#shards?.releaseAverages()
    this.#alive = () => {}
    this.#progress.pause()
  }

  /** Writes the checkpoint. Throws UserError if the disk refuses. */
  async #write(log: MetricsLog, optimizer: SavedTensors): Promise<void> {
    const { folder, described, backend } = this.#options
    const { model, ema, guard } = this.#state
    log.sync()
    const state: RunState<RunDescribed> = {
      step: this.#step,
      backend: arithmetic(backend),
      ...described,
      emaUpdates: ema.updates,
      ...(guard.skipped > 0 && { skipped: guard.skipped }),
    }
    const tensors = { model: model.stateDict(), ema: ema.average.stateDict(), optimizer }
    this.#checkpoint = await saveCheckpoint(folder, tensors, state)
  }

  /** Writes the loss curve, the picture if wanted, and the report. Throws UserError if the disk refuses. */
  async #report(log: MetricsLog, withSamples: boolean): Promise<void> {
    const { folder, curves, show } = this.#options
    try {
      const rows = readRows(join(folder, 'metrics.jsonl'))
      await writeLossCurve(
        join(folder, 'loss.png'),
        rows,
        curves.filter(curve => rows.some(row => curve in row)),
      )
      const samples = samplesPath(folder, this.#step)
      if (withSamples) {
        this.#drawing.began = this.#drawing.last = performance.now()
        await show(samples, this)
        if (existsSync(samples)) log.picture(samples, this.#step)
        else if (await this.asked()) console.log('no samples: they would take too long')
      }
      await writeReport(folder, rows)
    } catch (error) {
      if (!(error instanceof UserError)) throw error
      const last = this.#checkpoint === undefined ? '' : `; the last good checkpoint is ${this.#checkpoint}`
      throw new UserError(`${error.message}${last}`, { cause: error })
    }
  }
}

const inSeconds = (_: number, seconds: number) => `${seconds.toFixed(2)} s a step`

/** Returns what the first rank found that found something; null if none did. */
function firstFound(world: World): (found: string | null) => string | null {
  return found => {
    for (let rank = 0; rank < world.size; rank++) {
      const theirs = world.agreed(found, rank)
      if (theirs !== null) return theirs
    }
    return null
  }
}
