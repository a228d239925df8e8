/**
 * Pieces of a run: training up to a point of its curve, and measuring samples there. Both are commands of `demask`. Needs
 * Node.
 */

import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../../io/user-error.ts'
import { commonFlags, type EvidenceRun, pointSamples } from './experiments.ts'
import type { Point } from './records.ts'
import { demask } from './trees.ts'

/** Where a run trains. */
export interface Place {
  /** Worktree of its commit. */
  readonly tree: string
  /** Folder of the run. */
  readonly folder: string
}

/** Command line of a run, without folder and length. `from` is the folder of the run that it starts from. */
export function commandOf({ family, flags, seed }: EvidenceRun, from?: string): string[] {
  const start = from === undefined ? [] : ['--from', from]
  return ['train', family, ...flags, ...start, ...commonFlags, '--seed', String(seed)]
}

/** A line of metrics.jsonl. */
type Metrics = Readonly<Record<string, number>> & { readonly step: number }

function metricsOf(folder: string): Metrics[] {
  const path = join(folder, 'metrics.jsonl')
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  return lines.filter(line => line.endsWith('}')).map(line => JSON.parse(line))
}

/** Number of steps that a run has made. */
export function stepsOf(folder: string): number {
  return metricsOf(folder).at(-1)?.step ?? 0
}

/** Trains up to `step`, or for `minutes`. Returns true if it got there. Rejects with UserError if training fails. */
export async function trainTo(
  { tree, folder }: Place,
  command: readonly string[],
  step: number,
  minutes: number,
): Promise<boolean> {
  if (stepsOf(folder) >= step) return true
  const resume = stepsOf(folder) > 0 ? ['--resume'] : []
  const length = ['--steps', String(step), '--minutes', minutes.toFixed(1), '--sample-every', String(10 ** 6)]
  const { code } = await demask(tree, [...command, ...length, '--out', folder, ...resume])
  if (code !== 0) throw new UserError(`evidence: training in ${folder} ended with exit code ${code}`)
  return stepsOf(folder) >= step
}

/**
 * Draws `count` samples of a run at its last step and measures them against the whole set. `previous` is the step of the
 * point before. Rejects with UserError.
 */
export async function measure({ tree, folder }: Place, previous: number, count: number): Promise<Point> {
  const samples = join(folder, 'evidence.npz')
  mkdirSync(folder, { recursive: true })
  rmSync(samples, { force: true })
  const draw = ['--count', String(count), '--sampler', 'ddim', '--steps', String(pointSamples.steps), '--out', samples]
  const drawn = await demask(tree, ['sample', '--from', folder, ...draw])
  if (drawn.code !== 0) throw new UserError(`evidence: sampling of ${folder} ended with exit code ${drawn.code}`)
  const measured = await demask(tree, ['evaluate', samples, 'emoji', '--size', '16', '--json'])
  if (measured.code !== 0)
    throw new UserError(`evidence: evaluation of ${folder} ended with exit code ${measured.code}`)
  const { metrics } = JSON.parse(measured.output) as { metrics: Readonly<Record<string, number>> }
  const rows = metricsOf(folder)
  const since = rows.filter(({ step }) => step > previous)
  const loss = since.reduce((sum, row) => sum + row.loss, 0) / since.length
  const heldOut = rows.findLast(row => row.heldOut !== undefined)?.heldOut
  if (heldOut === undefined) throw new UserError(`evidence: expected held-out losses in ${folder}, got none`)
  const metric = (pattern: RegExp) => {
    const found = Object.entries(metrics).find(([name]) => pattern.test(name))
    if (found === undefined) throw new UserError(`evidence: expected ${pattern} in ${Object.keys(metrics).join(', ')}`)
    return found[1]
  }
  return {
    step: rows.at(-1)!.step,
    loss,
    heldOut,
    samples: count,
    distance: metric(/^(?!.*spatial).*distance/i),
    precision: metric(/precision/i),
    recall: metric(/recall/i),
  }
}
