/**
 * Runs of a model of one's own: the checkpoints, logs, progress, pictures and Ctrl-C of `demask train` without a family's
 * record. Needs Node. examples/train-your-own.ts is a whole program. The loop's `steps` and `commit` are run.ts.
 */

import { aBoolean, aCount, aString, checkOptions, objectWith } from '../core/arguments.ts'
import type { Rng } from '../core/index.ts'
import type { Ema, Module, Optimizer } from '../nn/index.ts'
import { checkTrained, runKinds } from './arguments.ts'
import { checkSameData, holdsRun, previousRun, type RunDescribed, resumePoint } from './resume.ts'
import { Run, type RunOptions } from './run.ts'
import { changeOf, type RunSettings } from './settings.ts'

/** Settings of a run of one's own: the batch, those of `RunSettings` that are not the default, and any others as JSON. */
export type OwnRunSettings = Partial<RunSettings> &
  Pick<RunSettings, 'batch'> & { readonly data?: unknown; readonly [name: string]: unknown }

/** A run of a model of one's own. */
export interface OwnRun
  extends Pick<RunOptions, 'folder' | 'steps' | 'minutes' | 'rng' | 'notes' | 'heldOut'>,
    Partial<Pick<RunOptions, 'labelled' | 'curves'>> {
  /** Model and data, in a line. */
  readonly title: string
  /** All that decides what the run computes. A run that is resumed with others is refused. */
  readonly settings: OwnRunSettings
  /** The pictures that batches are made of; batches have their channels and size. */
  readonly data: RunOptions['data'] & { readonly length?: number; readonly classes?: readonly string[] }
  readonly rng: Rng
  /** Columns of metrics.jsonl from the reported terms; `loss` is one of them. Default: the terms. */
  readonly columns?: RunOptions['columns']
  /** Writes a picture of the model's progress to a path. Default: no pictures. */
  readonly show?: RunOptions['show']
  /** True to resume a run, false to start one. By default a run that is there is resumed. */
  readonly resume?: boolean
}

/** A model with its average and its optimizer. */
export interface OwnTrained {
  readonly model: Module
  readonly ema: Ema<Module>
  readonly optimizer: Optimizer
}

const { folder, steps, minutes, rng, notes, heldOut, labelled, curves, data, columns, show } = runKinds
const ownKinds = {
  ...{ folder, steps, minutes, rng, notes, heldOut, labelled, curves, data, columns, show },
  title: aString,
  settings: objectWith('settings with a batch', { batch: aCount }),
  resume: aBoolean,
}

/**
 * Starts a run in a folder, or resumes the one that is there: the weights, the average and the optimizer's state are then
 * those of its last checkpoint. Locks the folder until `run.steps()` has ended. By default the columns of the log are the
 * reported terms, of which `loss` must be one, and there are no pictures. Throws UserError if another process works in the
 * folder, and on a run of other settings, classes or model.
 */
export function startRun(own: OwnRun, trained: OwnTrained): Run {
  checkOptions('startRun', own, ownKinds, ['folder', 'steps', 'rng', 'title', 'settings', 'data'])
  checkTrained('startRun', trained)
  const { folder, title, settings, data, labelled = false, resume = holdsRun(folder), notes = [], ...rest } = own
  const { from, release } = resumePoint(folder, resume)
  try {
    const described = { program: title, settings, pictures: data.length, classes: data.classes }
    const previous = previousRun<RunDescribed & { readonly settings: OwnRunSettings }>(folder, from, {
      resume,
      program: title,
    })
    checkSettings(folder, previous, settings)
    const changed = checkSameData(folder, previous, described, labelled)
    const command = process.argv.slice(1).join(' ')
    return new Run(
      {
        columns: terms => terms,
        curves: ['loss'],
        show: async () => {},
        ...rest,
        folder,
        release,
        settings: { parts: 1, maxNorm: null, skipNonfinite: 0, ...settings },
        backend: [...trained.model.stateDict().values()][0].backend,
        data,
        labelled,
        from,
        previous,
        described,
        readme: { title, command, resume: command },
        notes: [changed, ...notes],
      },
      trained,
    )
  } catch (error) {
    release()
    throw error
  }
}

/** Throws UserError on a setting that the run did not start with. */
function checkSettings(
  folder: string,
  previous: { readonly settings: OwnRunSettings } | undefined,
  settings: OwnRunSettings,
): void {
  if (previous === undefined) return
  const before: Readonly<Record<string, unknown>> = previous.settings
  const json = (value: unknown) => JSON.stringify(value) ?? 'none'
  for (const name of new Set([...Object.keys(before), ...Object.keys(settings)])) {
    const [had, got] = [json(before[name]), json(settings[name])]
    if (had !== got) throw changeOf(name, had, got, folder, 'Choose another folder')
  }
}
