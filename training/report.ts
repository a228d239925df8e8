/**
 * A run as one page: pictures, curves, settings, checkpoints, how to go on. Needs Node. The page is `report.html` in the run's
 * folder; it asks for nothing but the pictures beside it, and is written anew with every checkpoint, or by `demask report`.
 * What is on it is read from the folder, so that a run of any age has one.
 */

import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { replaceFile } from '../io/replace.ts'
import { UserError } from '../io/user-error.ts'
import { curveSvg } from './charts.ts'
import { checkpoints, readState } from './checkpoint.ts'
import { type Row, readRows } from './metrics.ts'
import { samplesOf } from './pictures.ts'
import { duration } from './progress.ts'
import { type RunFile, readRunFile } from './readme.ts'

/** Pictures of samples that are shown at most: the last, and others evenly spread over the run. */
const mostPictures = 13

const names: Readonly<Record<string, string>> = {
  lr: 'learning rate',
  gradNorm: 'norm of the gradient',
  seconds: 'seconds a step',
  waited: 'seconds a step waited for data',
}

/** Where the page of a run is. */
export function reportPath(run: string): string {
  return join(run, 'report.html')
}

/** Writes `run`/report.html and returns its path. Throws UserError on a folder that is no run, and where the disk refuses. */
export async function writeReport(run: string, rows = readRows(join(run, 'metrics.jsonl'))): Promise<string> {
  if (rows.length === 0 && !existsSync(join(run, 'metrics.jsonl')))
    throw new UserError(`${run}: wanted the folder of a run, with a metrics.jsonl, got none`)
  const timing = readRows(join(run, 'timing.jsonl'))
  const step = rows.at(-1)?.step ?? 0
  const kept = checkpoints(run)
  const state = kept.length > 0 ? readState<State>(kept[kept.length - 1].path) : undefined
  const described = readRunFile(run)
  const title = described?.title ?? basename(run)
  const curves = [...(await curvesOf(rows)), ...(await curvesOf(timing.map(({ time: _, ...row }) => row)))]
  const path = reportPath(run)
  const sections = [
    `<h1>${text(title)}</h1>\n<p class="facts">${factsOf(rows, timing, state).map(text).join(' · ')}</p>`,
    pictures(run, step),
    section('Curves', `<div class="curves">${curves.join('\n')}</div>`),
    section('Go on', goOn(described)),
    section(
      'Checkpoints',
      table(kept.map(({ path, step }) => [`${basename(path)}/`, `step ${grouped(step)}, ${sizeOf(path)}`])),
    ),
    section('Settings', table(entriesOf(state?.settings))),
    section('Model', table(entriesOf(state?.model))),
    section('Made with', table([...entriesOf(described?.versions), ...entriesOf({ backend: state?.backend })])),
  ]
  replaceFile(
    path,
    page(
      title,
      sections.filter(part => part !== ''),
    ),
  )
  return path
}

/** What checkpoints of all programs say, in one way or another. */
interface State {
  readonly step: number
  readonly backend?: string
  readonly settings?: Readonly<Record<string, unknown>>
  readonly model?: Readonly<Record<string, unknown>>
}

function factsOf(rows: readonly Row[], timing: readonly Row[], state: State | undefined): string[] {
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

/** A chart of every column that has numbers, the loss first. */
async function curvesOf(rows: readonly Row[]): Promise<string[]> {
  const columns = new Set(rows.flatMap(row => Object.keys(row)))
  columns.delete('step')
  const ordered = [...columns].sort((a, b) => Number(b === 'loss') - Number(a === 'loss'))
  const out: string[] = []
  for (const column of ordered) {
    if (rows.filter(row => Number.isFinite(row[column])).length < 2) continue
    const now = `<b>${figure(meanOfLast(rows, column))}</b>`
    out.push(
      `<figure><figcaption>${text(names[column] ?? column)} ${now}</figcaption>${await curveSvg(rows, column)}</figure>`,
    )
  }
  return out
}

/** Over the last 20 steps that have a number there. */
function meanOfLast(rows: readonly Row[], column: string): number {
  const some: number[] = []
  for (let i = rows.length - 1; i >= 0 && some.length < 20; i--)
    if (Number.isFinite(rows[i][column])) some.push(rows[i][column])
  return some.reduce((sum, value) => sum + value, 0) / some.length
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

function table(rows: readonly (readonly [string, string])[]): string {
  if (rows.length === 0) return ''
  return `<table>${rows.map(([name, value]) => `<tr><th>${text(name)}</th><td>${text(value)}</td></tr>`).join('\n')}</table>`
}

function section(title: string, content: string): string {
  return content === '' ? '' : `<section>\n<h2>${title}</h2>\n${content}\n</section>`
}

function sizeOf(folder: string): string {
  const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

function figure(value: number): string {
  return String(Number(value.toPrecision(3)))
}

function grouped(value: number): string {
  return value.toLocaleString('en')
}

function text(raw: string): string {
  return raw.replace(/[&<>"]/g, sign => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!)
}

function page(title: string, parts: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text(title)}</title>
<style>
body { margin: 0 auto; max-width: 1280px; padding: 24px 20px 48px; background: #f6f6f4; color: #222; font: 15px/1.5 system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif; }
h1 { margin: 0; font-size: 22px; line-height: 1.3; overflow-wrap: anywhere; }
h2 { margin: 36px 0 10px; font-size: 16px; }
.facts { margin: 6px 0 0; color: #555; }
figure { margin: 0; padding: 10px; background: white; border: 1px solid #e2e2de; border-radius: 6px; }
figcaption { color: #555; font-size: 13px; }
figcaption b { color: #222; }
img, svg { display: block; width: 100%; height: auto; }
.last figure { width: fit-content; max-width: 100%; box-sizing: border-box; }
.last img { width: auto; max-width: 100%; }
.earlier, .curves { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(360px, 100%), 1fr)); }
.earlier { margin-top: 12px; grid-template-columns: repeat(auto-fill, minmax(min(240px, 45%), 1fr)); }
pre { margin: 0; padding: 10px 12px; background: white; border: 1px solid #e2e2de; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
p { margin: 10px 0 4px; }
table { width: 100%; max-width: 760px; border-collapse: collapse; }
th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid #e2e2de; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { width: 11em; font-weight: normal; color: #555; }
</style>
${parts.join('\n')}
</html>
`
}
