/**
 * Pieces of a run: training up to a point of its curve, and measuring samples there. Both are commands of `demask`. Needs
 * Node.
 */

import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openDataset, toModelRange } from '../../data/index.ts'
import { writeNpz } from '../../io/npz.ts'
import { UserError } from '../../io/user-error.ts'
import { samplesLayout, writeGrid } from '../../training/pictures.ts'
import { type EvidenceRun, fewSmileys } from './experiments.ts'
import type { LossRow, Measures, Point } from './records.ts'
import { demask } from './trees.ts'

/** Where a run trains. */
export interface Place {
  /** Worktree of its commit. */
  readonly tree: string
  /** Folder of the run. */
  readonly folder: string
}

/** Command line of a run, without folder and length. `from` is the folder of the run that it starts from. */
export function commandOf({ family, flags, data, size, seed }: EvidenceRun, from?: string): string[] {
  const start = from === undefined ? [] : ['--from', from]
  const pictures = ['--data', data, '--size', String(size)]
  return ['train', family, ...flags, ...start, ...pictures, '--seed', String(seed)]
}

/** The run with the path of its data in `folder`, where the data are made if they are missing. */
export async function withData(run: EvidenceRun, folder: string): Promise<EvidenceRun> {
  if (run.data !== fewSmileys.data) return run
  const path = join(folder, run.data.slice('npz:'.length))
  if (!existsSync(path)) {
    const smileys = await openDataset(run.reference, run.size)
    const { count } = fewSmileys
    const area = run.size ** 2
    const rgb = new Uint8Array(count * area * 3)
    for (let n = 0; n < count; n++) {
      const planes = await smileys.pixels(Math.floor((n * smileys.length) / count))
      for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) rgb[3 * (n * area + i) + c] = planes[c * area + i]
    }
    mkdirSync(folder, { recursive: true })
    await writeNpz(path, new Map([['arr_0', { dtype: 'U8', shape: [count, run.size, run.size, 3], data: rgb }]]))
  }
  return { ...run, data: `npz:${path}` }
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

/** How far a piece of training goes. */
export interface Piece {
  readonly step: number
  readonly minutes: number
  /** Steps between checkpoints and measurements of the held-out loss. */
  readonly saveEvery: number
}

/** Trains a piece of a run. Returns true if it got to its step. Rejects with UserError if training fails. */
export async function trainTo(
  { tree, folder }: Place,
  command: readonly string[],
  { step, minutes, saveEvery }: Piece,
): Promise<boolean> {
  if (stepsOf(folder) >= step) return true
  const resume = stepsOf(folder) > 0 ? ['--resume'] : []
  const saves = ['--save-every', String(saveEvery), '--sample-every', String(10 ** 6)]
  const length = ['--steps', String(step), '--minutes', minutes.toFixed(1), ...saves]
  const { code } = await demask(tree, [...command, ...length, '--out', folder, ...resume])
  if (code !== 0) throw new UserError(`evidence: training in ${folder} ended with exit code ${code}`)
  return stepsOf(folder) >= step
}

/** Training losses between two points: means over `every` steps, and the held-out loss at their end. */
export function lossesOf(folder: string, previous: number, step: number, every: number): LossRow[] {
  const rows = metricsOf(folder).filter(row => row.step > previous && row.step <= step)
  return Array.from({ length: Math.floor((step - previous) / every) }, (_, k) => {
    const end = previous + (k + 1) * every
    const some = rows.filter(row => row.step > end - every && row.step <= end)
    const heldOut = some.at(-1)?.heldOut
    if (some.length !== every || heldOut === undefined)
      throw new UserError(`evidence: expected losses of steps ${end - every + 1} to ${end} in ${folder}, got fewer`)
    const loss = some.reduce((sum, row) => sum + row.loss, 0) / every
    return [end, loss, heldOut].map(value => Number(value.toPrecision(6))) as unknown as LossRow
  })
}

/** Flags of `demask sample` for `count` pictures, whose classes have the shares that they have in the data. */
async function samplingFlags({ family, flags, data, size }: EvidenceRun, count: number, passes: number) {
  // Heun takes two passes a step, and one in the last.
  const solver = family === 'maskdit' ? ['heun', (passes + 1) / 2] : ['ddim', passes]
  const common = ['--count', String(count), '--sampler', String(solver[0]), '--steps', String(solver[1])]
  if (flags.includes('no')) return common
  const set = await openDataset(data, size)
  const labels = Array.from({ length: count }, (_, k) => set.label(Math.floor((k * set.length) / count)))
  return [...common, ...labels.flatMap(label => ['--class', `#${label}`])]
}

/** Samples of a measurement. */
export interface Measurement {
  readonly count: number
  /** Forward passes of the model for each picture. */
  readonly passes: number
  readonly guidance?: number
}

/** Draws samples of a run at its last step and measures them against its reference. Rejects with UserError. */
export async function measure(
  { tree, folder }: Place,
  run: EvidenceRun,
  { count, passes, guidance }: Measurement,
): Promise<Measures> {
  const file = join(folder, 'evidence.npz')
  rmSync(file, { force: true })
  const scale = guidance === undefined ? [] : ['--guidance', String(guidance)]
  const flags = await samplingFlags(run, count, passes)
  const drawn = await demask(tree, ['sample', '--from', folder, ...flags, ...scale, '--out', file])
  if (drawn.code !== 0) throw new UserError(`evidence: sampling of ${folder} ended with exit code ${drawn.code}`)
  const measured = await demask(tree, ['evaluate', file, run.reference, '--size', String(run.size), '--json'])
  if (measured.code !== 0)
    throw new UserError(`evidence: evaluation of ${folder} ended with exit code ${measured.code}`)
  const { metrics } = JSON.parse(measured.output) as { metrics: Readonly<Record<string, number>> }
  const metric = (pattern: RegExp) => {
    const found = Object.entries(metrics).find(([name]) => pattern.test(name))
    if (found === undefined) throw new UserError(`evidence: expected ${pattern} in ${Object.keys(metrics).join(', ')}`)
    return Number(found[1].toPrecision(6))
  }
  return {
    samples: count,
    distance: metric(/^(?!.*spatial).*distance/i),
    precision: metric(/precision/i),
    recall: metric(/recall/i),
  }
}

/**
 * Writes a grid of `count` samples of a run at its last step, all classes in turn, a column for each, to `path`. Rejects with
 * UserError.
 */
export async function drawGrid(
  { tree, folder }: Place,
  { guidance, size }: EvidenceRun,
  path: string,
  count: number,
): Promise<void> {
  const file = join(folder, 'grid.npz')
  rmSync(file, { force: true })
  const scale = guidance === undefined ? [] : ['--guidance', String(guidance)]
  const { code } = await demask(tree, ['sample', '--from', folder, '--count', String(count), ...scale, '--out', file])
  if (code !== 0) throw new UserError(`evidence: sampling of ${folder} ended with exit code ${code}`)
  const drawn = await openDataset(`npz:${file}`, size)
  const planes = new Float32Array(3 * size ** 2 * count)
  for (let n = 0; n < count; n++) planes.set(Float32Array.from(await drawn.pixels(n), toModelRange), 3 * size ** 2 * n)
  mkdirSync(dirname(path), { recursive: true })
  const shape = [count, 3, size, size] as const
  await writeGrid(path, planes, shape, samplesLayout(shape, drawn.classes.length))
}

/** A point of a run at its last step. */
export function pointOf(
  losses: readonly LossRow[],
  measures: Measures,
  more: Pick<Point, 'end' | 'guided'> = {},
): Point {
  const [step, , heldOut] = losses.at(-1)!
  return { step, heldOut, ...measures, ...more, losses }
}
