/**
 * Results of runs in docs/evidence/data: one JSONL file a run. The first line is the run, every further one a point of its
 * curve. Needs Node.
 */

import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { replaceFile } from '../../io/replace.ts'
import type { EvidenceRun } from './experiments.ts'

/** First line of a record. */
export interface RunHead extends Pick<EvidenceRun, 'name' | 'family' | 'seed' | 'reference'> {
  readonly experiment: string
  /** Command line of `demask train`, without folder and length. */
  readonly command: readonly string[]
  /** Commit of the code that trains and measures. */
  readonly commit: string
  readonly processor: string
}

/** Measures of samples. */
export interface Measures {
  /** Number of samples. */
  readonly samples: number
  /** Fréchet distance on emoji features, precision and recall of the samples against the reference. */
  readonly distance: number
  readonly precision: number
  readonly recall: number
}

/** Step, mean training loss since the row before, and loss on held-out pictures, with the same noise each time. */
export type LossRow = readonly [step: number, loss: number, heldOut: number]

/** A point of a run. */
export interface Point extends Measures {
  readonly step: number
  /** Loss on held-out pictures at this step. */
  readonly heldOut: number
  /** The same model by more samples and more steps of the sampler. */
  readonly end?: Measures
  /** The same model with classifier-free guidance. */
  readonly guided?: Measures & { readonly scale: number }
  /** Losses since the point before. */
  readonly losses: readonly LossRow[]
}

export interface RunRecord {
  readonly head: RunHead
  readonly points: readonly Point[]
}

/** Folder of the published records. */
export const dataFolder = fileURLToPath(new URL('../../docs/evidence/data', import.meta.url))

function pathOf(folder: string, experiment: string, run: string): string {
  return join(folder, experiment, `${run}.jsonl`)
}

/** Returns the values of a JSONL file, a line each; undefined if there is no file. */
export function readLines(path: string): unknown[] | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
}

/** Returns the record of a run; undefined if there is none. */
export function readRecord(folder: string, experiment: string, run: string): RunRecord | undefined {
  const lines = readLines(pathOf(folder, experiment, run)) as [RunHead, ...Point[]] | undefined
  if (lines === undefined) return undefined
  const [head, ...points] = lines
  return { head, points }
}

/** Writes a record in place of the one before. */
export function writeRecord(folder: string, { head, points }: RunRecord): void {
  const path = pathOf(folder, head.experiment, head.name)
  mkdirSync(dirname(path), { recursive: true })
  replaceFile(path, `${[head, ...points].map(line => JSON.stringify(line)).join('\n')}\n`)
}

/** All records of an experiment, by name of the run. */
export function recordsOf(experiment: string, folder = dataFolder): RunRecord[] {
  let files: string[]
  try {
    files = readdirSync(join(folder, experiment))
  } catch {
    return []
  }
  return files
    .filter(file => file.endsWith('.jsonl'))
    .sort()
    .map(file => readRecord(folder, experiment, file.slice(0, -'.jsonl'.length))!)
}
