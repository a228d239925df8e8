/**
 * Costs of the runs of docs/evidence: multiply-adds, from their command lines and the cost of their family, and processor
 * seconds, which seconds.ts measured. A run that starts from another one has that one's costs, too. Needs Node.
 */

import { join } from 'node:path'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { families } from '../../models/families.ts'
import type { MDTOptions } from '../../models/mdt.ts'
import { type MDTAblation, type MDTAblationName, mdtAblations } from '../../models/mdt-ablations.ts'
import { type AnyProgram, programs } from '../../training/programs.ts'
import { newSettings } from '../../training/settings.ts'
import { experiments } from './experiments.ts'
import { commandOf } from './pieces.ts'
import { dataFolder, type RunHead, readLines } from './records.ts'

/** Classes of emoji, which change the cost of a MaskDiT by less than a thousandth. */
const numClasses = 9

/** Settings of single families that a cost depends on. */
interface Own {
  readonly maskRatio?: number
  readonly stage?: 'pretrain' | 'finetune'
  readonly tune?: 'zero' | 'cosine'
  readonly ablation?: MDTAblationName
}

/** The mask ratio of a run; that of tuning by a cosine is its mean. */
function meanRatio({ maskRatio, stage, tune }: Own): number | undefined {
  if (stage === 'finetune' || tune === 'zero') return 0
  return tune === 'cosine' ? maskRatio! / 2 : maskRatio
}

/**
 * Multiply-adds of a training step with the command line of a run, `train FAMILY …`: matrix products, forward and backward.
 * An MDT without a side-interpolator is counted as one that has it. Tuning has the labels of the run that it tunes.
 */
export function multiplyAddsOf([, command, ...words]: readonly string[]): number {
  const family = families.find(each => each.command === command)!
  const program: AnyProgram = programs[command as keyof typeof programs]
  const { given } = readTrainingCommand(program, `demask train ${command}`, words)
  const settings = newSettings(program.family, given)
  const own = settings as unknown as Own
  const row: MDTAblation = own.ablation === undefined ? {} : mdtAblations[own.ablation]
  const { preset, size, batch } = settings
  const pictures = { inputSize: size, inChannels: 3, numClasses: given.labels === 'no' ? 0 : numClasses }
  const options = family.options(preset, pictures, settings as never)
  const decodeLayer = row.decoderPosition && { decodeLayer: Number(row.decoderPosition.slice('Last'.length)) }
  const { forward, step } = family.cost({ ...(options as MDTOptions), ...decodeLayer } as never, batch, meanRatio(own))
  return (row.latentType === 'full' ? 3 * forward : step) / 2
}

/** Processor seconds of a training step of a setting, on one thread of a processor. */
export interface StepSeconds {
  /** Command line of its runs, without seeds. */
  readonly setting: string
  readonly seconds: number
  readonly commit: string
  readonly processor: string
}

export const secondsPath = join(dataFolder, 'seconds.jsonl')

/** Command line of a run without its seed and that of the run that it starts from. */
export function settingOf(command: readonly string[]): string {
  return command
    .join(' ')
    .replace(/ --seed \d+/, '')
    .replace(/( --from \S+)-\d+/, '$1')
}

/** Returns the measured processor minutes of a step; null where they are not measured. */
export function minutesOf(command: readonly string[]): number | null {
  const setting = settingOf(command)
  const row = readSeconds().find(row => row.setting === setting)
  return row === undefined ? null : row.seconds / 60
}

/** The measured seconds, a row for each setting. */
export function readSeconds(): readonly StepSeconds[] {
  return (readLines(secondsPath) ?? []) as readonly StepSeconds[]
}

/**
 * Returns what a run cost up to a step, at `each` a step of a command line, with all steps of the run that it starts from;
 * null if a cost is not known.
 */
export function costOf(
  head: RunHead,
  step: number,
  each: (command: readonly string[]) => number | null,
): number | null {
  const { runs } = experiments[head.experiment]
  const run = runs.find(({ name }) => name === head.name)
  const start = runs.find(({ name }) => name === run?.from)
  const own = each(head.command)
  const before = start === undefined ? 0 : each(commandOf(start, start.from))
  return own === null || before === null ? null : step * own + (start?.points.at(-1) ?? 0) * before
}
