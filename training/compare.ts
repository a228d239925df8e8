/**
 * Runs side by side on one page: losses, the settings that differ, curves over one another, and the last grid of samples of
 * each. Needs Node. The page holds its pictures, so it can be sent.
 */

import { readFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { aString, check, strings } from '../core/arguments.ts'
import { replaceFile } from '../io/replace.ts'
import { UserError } from '../io/user-error.ts'
import { curveSvg } from './charts.ts'
import { inWords } from './column-words.ts'
import type { Row } from './metrics.ts'
import { figure, grid, grouped, page, section, text } from './page.ts'
import { samplesOf } from './pictures.ts'
import { duration } from './progress.ts'
import { lastOf, meanOfLast, type RunSummary, readRun, settingsOf, stepOf } from './run-summary.ts'

/** Columns whose curves lie over one another, if a run has them. */
const compared = ['loss', 'heldOut', 'gradNorm'] as const

/** Writes the comparison of the runs in `folders` to `path`. Throws UserError on a folder that is no run, or on fewer than two. */
export async function writeComparison(path: string, folders: readonly string[]): Promise<void> {
  check('writeComparison', 'path', path, aString)
  check('writeComparison', 'folders', folders, strings)
  if (folders.length < 2) throw new UserError(`compare: expected two runs or more, got ${folders.length}`)
  const runs = folders.map(folder => readRun(folder))
  const names = namesOf(folders)
  const title = names.join(', ')
  const parts = [
    `<h1>${text(title)}</h1>`,
    section(
      'Runs',
      grid(
        ['run', 'trained', 'steps', ...compared.slice(0, 2).map(inWords), 'time in steps'],
        runs.map((run, i) => factsOf(run, names[i])),
      ),
    ),
    section('Settings that differ', differences(runs, names)),
    section('Curves', await curvesOf(runs, names)),
    section('Samples', `<div class="beside">${runs.map((run, i) => samples(run, names[i])).join('\n')}</div>`),
  ]
  replaceFile(path, page(title, parts))
}

/** Names of folders, longer where two have the same. */
function namesOf(folders: readonly string[]): string[] {
  const short = folders.map(folder => basename(resolve(folder)))
  return new Set(short).size === short.length ? short : [...folders]
}

function factsOf({ title, rows, timing, ...rest }: RunSummary, name: string): string[] {
  const seconds = timing.reduce((sum, row) => sum + (row.seconds ?? 0), 0)
  const [loss, heldOut] = [meanOfLast(rows, 'loss'), lastOf(rows, 'heldOut')]
  return [
    name,
    title,
    grouped(stepOf({ title, rows, timing, ...rest })),
    Number.isFinite(loss) ? figure(loss) : '–',
    heldOut === undefined ? '–' : figure(heldOut),
    seconds > 0 ? duration(seconds) : '–',
  ]
}

/** A row for each setting whose value is not the same in all runs. */
function differences(runs: readonly RunSummary[], names: readonly string[]): string {
  const all = runs.map(settingsOf)
  const shown = (value: unknown) =>
    value === undefined ? '–' : typeof value === 'string' ? value : JSON.stringify(value)
  const rows = [...new Set(all.flatMap(Object.keys))]
    .map(name => [name, ...all.map(settings => shown(settings[name]))])
    .filter(([, first, ...rest]) => rest.some(value => value !== first))
  return rows.length === 0 ? '' : grid(['', ...names], rows)
}

async function curvesOf(runs: readonly RunSummary[], names: readonly string[]): Promise<string> {
  const figures: string[] = []
  for (const column of compared) {
    const rows = runs.flatMap(({ rows }, i) => curve(rows, column, names[i]))
    const drawn = names.filter(name => rows.some(row => name in row))
    if (rows.length < 2) continue
    figures.push(
      `<figure class="wide"><figcaption>${text(inWords(column))}</figcaption>${await curveSvg(rows, drawn, 900)}</figure>`,
    )
  }
  return figures.join('\n')
}

/** A column of a run under the run's name. */
function curve(rows: readonly Row[], column: string, name: string): Row[] {
  return rows.filter(row => Number.isFinite(row[column])).map(row => ({ step: row.step, [name]: row[column] }))
}

/** The last grid of a run, within the page. */
function samples(run: RunSummary, name: string): string {
  const last = samplesOf(run.folder, stepOf(run)).at(-1)
  const caption = last === undefined ? 'no samples yet' : `after step ${grouped(last.step)}`
  const image =
    last === undefined
      ? ''
      : `<img src="data:image/png;base64,${readFileSync(last.path).toString('base64')}" alt="samples of ${text(name)}">`
  return `<figure>${image}<figcaption><b>${text(name)}</b> ${caption}</figcaption></figure>`
}
