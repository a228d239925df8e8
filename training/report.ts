/**
 * A run as one page: pictures, curves, settings, checkpoints, the command to resume. Needs Node. The page is `report.html` in the run's
 * folder; it asks for nothing but the pictures beside it, and is written anew with every checkpoint, or by `demask report`.
 * Its content is read from the folder, so that a run of any age has one.
 */

import { basename, join } from 'node:path'
import { aString, check, optional } from '../core/arguments.ts'
import { replaceFile } from '../io/replace.ts'
import { rows as someRows } from './arguments.ts'
import { curveSvg } from './charts.ts'
import { inWords } from './column-words.ts'
import type { Row } from './metrics.ts'
import { figure, grouped, page, section, table, text } from './page.ts'
import { samplesOf } from './pictures.ts'
import { duration } from './progress.ts'
import type { RunFile } from './readme.ts'
import { bytesOf, lastOf, meanOfLast, readRun, type SavedState } from './run-summary.ts'

/** Pictures of samples that are shown at most: the last, and others evenly spread over the run. */
const mostPictures = 13

/** Where the page of a run is. */
export function reportPath(run: string): string {
  return join(run, 'report.html')
}

/** Writes `run`/report.html and returns its path. Throws UserError on a folder that is no run, and where the disk refuses. */
export async function writeReport(run: string, known?: readonly Row[]): Promise<string> {
  check('writeReport', 'run', run, aString)
  check('writeReport', 'known', known, optional(someRows))
  const { title, rows, timing, checkpoints, state, file } = readRun(run, known)
  const step = rows.at(-1)?.step ?? 0
  const path = reportPath(run)
  const charts = [...(await chartsOf(rows)), ...(await chartsOf(timing.map(({ time: _, ...row }) => row)))]
  const kept = checkpoints.map(
    ({ path, step }) => [`${basename(path)}/`, `step ${grouped(step)}, ${sizeOf(path)}`] as const,
  )
  const parts = [
    `<h1>${text(title)}</h1>\n<p class="facts">${factsOf(rows, timing, state).map(text).join(' · ')}</p>`,
    pictures(run, step),
    section('Curves', `${await lossChart(rows)}\n<div class="curves">${charts.join('\n')}</div>`),
    section('Go on', goOn(file)),
    section('Checkpoints', table(kept)),
    section('Settings', table(entriesOf(state?.settings))),
    section('Model', table(entriesOf(state?.model))),
    section('Made with', table([...entriesOf(file?.versions), ...entriesOf({ backend: state?.backend })])),
  ]
  replaceFile(path, page(title, parts))
  return path
}

function factsOf(rows: readonly Row[], timing: readonly Row[], state: SavedState | undefined): string[] {
  const last = rows.at(-1)
  if (last === undefined) return ['no step yet']
  const seconds = timing.reduce((sum, row) => sum + (row.seconds ?? 0), 0)
  const recent = timing.slice(-20)
  const each = recent.reduce((sum, row) => sum + (row.seconds ?? 0), 0) / recent.length
  const batch = Number(state?.settings?.batch)
  const facts = [`step ${grouped(last.step)}`]
  if (Number.isFinite(last.loss)) facts.push(`loss ${figure(meanOfLast(rows, 'loss'))}`)
  if (seconds > 0) facts.push(`${duration(seconds)} in steps`, `${figure(each)} s a step`)
  if (seconds > 0 && batch > 0) facts.push(`${figure(batch / each)} img/s`)
  const time = timing.at(-1)?.time
  if (time !== undefined && time > 0)
    facts.push(`last step ${new Date(1000 * time).toISOString().slice(0, 16).replace('T', ' ')} UTC`)
  return facts
}

/** Columns of the first chart. */
const losses = ['loss', 'heldOut'] as const

/** The training loss, of every step and smoothed, and the loss on held-out pictures where it was measured. */
async function lossChart(rows: readonly Row[]): Promise<string> {
  const shown = losses.filter(column => isDrawn(rows, column))
  if (shown.length === 0) return ''
  const named = rows.map(row => ({
    step: row.step,
    ...Object.fromEntries(shown.map(column => [inWords(column), row[column]])),
  }))
  const now = (column: string) => (column === 'heldOut' ? lastOf(rows, column)! : meanOfLast(rows, column))
  const captions = shown.map(column => `${inWords(column)} <b>${figure(now(column))}</b>`)
  const svg = await curveSvg(named, shown.map(inWords), 900)
  return `<figure class="wide"><figcaption>${captions.join(', ')}; faint: each value, line: running mean</figcaption>${svg}</figure>`
}

/** A chart of every other column that has numbers. */
async function chartsOf(rows: readonly Row[]): Promise<string[]> {
  const columns = new Set(rows.flatMap(Object.keys))
  for (const column of ['step', ...losses]) columns.delete(column)
  const charts: string[] = []
  for (const column of columns) {
    if (!isDrawn(rows, column)) continue
    const caption = `${text(inWords(column))} <b>${figure(meanOfLast(rows, column))}</b>`
    charts.push(`<figure><figcaption>${caption}</figcaption>${await curveSvg(rows, [column])}</figure>`)
  }
  return charts
}

/** True if a column has two numbers or more. */
function isDrawn(rows: readonly Row[], column: string): boolean {
  return rows.filter(row => Number.isFinite(row[column])).length >= 2
}

function pictures(run: string, step: number): string {
  const all = samplesOf(run, step)
  const shown = Math.min(all.length, mostPictures)
  const chosen = Array.from({ length: shown }, (_, i) => all[Math.round(((i + 1) * all.length) / shown) - 1]).reverse()
  const figures = chosen.map(({ path, step }) => {
    const src = encodeURIComponent(basename(path))
    return `<figure><a href="${src}"><img src="${src}" alt="samples after step ${step}"></a><figcaption>after step ${grouped(step)}</figcaption></figure>`
  })
  if (figures.length === 0) return ''
  const [last, ...earlier] = figures
  const before = earlier.length === 0 ? '' : `\n<div class="earlier">${earlier.join('\n')}</div>`
  return section('Samples', `<div class="last">${last}</div>${before}`)
}

function goOn(described: RunFile | undefined): string {
  if (described === undefined) return ''
  return `<p>Started with</p><pre>${text(described.command)}</pre><p>Goes on from its last checkpoint with</p><pre>${text(described.resume)}</pre>`
}

function entriesOf(values: Readonly<Record<string, unknown>> | undefined): [string, string][] {
  return Object.entries(values ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)])
}

function sizeOf(folder: string): string {
  return `${(bytesOf(folder) / 2 ** 20).toFixed(1)} MiB`
}
