/**
 * `npx tsx bench/evidence/pages.ts`: writes tables and figures into docs/evidence from the records. What follows a mark on a
 * page, up to `<!-- end -->`, is written here. Marks: `<!-- table EXPERIMENT -->`, `<!-- ends EXPERIMENT -->`,
 * `<!-- figure EXPERIMENT MEASURE COST -->`, `<!-- losses EXPERIMENT -->`, `<!-- samples EXPERIMENT -->`,
 * `<!-- yardstick AXIS,AXIS -->` and `<!-- floor -->`. Needs Node.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { experiments } from './experiments.ts'
import {
  type CostName,
  costs,
  endTableOf,
  figureOf,
  floorTableOf,
  lossFigureOf,
  type MeasureName,
  measures,
  tableOf,
  yardstickFigureOf,
} from './figures.ts'
import { type RunRecord, recordsOf } from './records.ts'
import { type AxisName, axes, readYardstick } from './yardstick.ts'

/** Folder of the pages. */
export const pagesFolder = fileURLToPath(new URL('../../docs/evidence', import.meta.url))

const notMeasured = 'Not measured yet.'

/** Returns the Markdown of a mark with these words; figures are added to `files`. */
type Content = (words: readonly string[], files: Map<string, string>) => string

/** Markdown made of the records of an experiment, once there are enough. */
const ofRecords =
  (content: (records: readonly RunRecord[], words: readonly string[], files: Map<string, string>) => string): Content =>
  ([experiment, ...words], files) => {
    const records = recordsOf(experiment)
    const least = Math.min(2, experiments[experiment].runs.length) // one curve of several compares with nothing
    return records.length < least ? notMeasured : content(records, words, files)
  }

/** Adds a figure with a title, which is read aloud in place of it, and returns its Markdown. */
function figure(files: Map<string, string>, name: string, alt: string, svg: string): string {
  const path = `figures/${name.toLowerCase()}.svg`
  files.set(path, svg.replace('>', ` role="img">\n<title>${alt}</title>`))
  return `![${alt}](${path})`
}

const contents: Readonly<Record<string, Content>> = {
  table: ofRecords(records => tableOf(records)),
  ends: ofRecords(records => endTableOf(records) ?? notMeasured),
  figure: ofRecords((records, [measure, cost], files) => {
    const { experiment } = records[0].head
    const alt = `${measures[measure as MeasureName]} of ${experiment} over ${costs[cost as CostName].title}`
    const svg = figureOf(records, measure as MeasureName, cost as CostName)
    return svg === null ? notMeasured : figure(files, `${experiment}-${measure}-${cost}`, alt, svg)
  }),
  losses: ofRecords((records, _, files) => {
    const { experiment } = records[0].head
    return figure(files, `${experiment}-losses`, `losses of ${experiment} over steps`, lossFigureOf(records))
  }),
  samples: ofRecords(records => {
    const { experiment } = records[0].head
    const runs = experiments[experiment].runs.map(({ name }) => name)
    const drawn = runs.filter(name => existsSync(join(pagesFolder, 'samples', `${experiment}-${name}.png`)))
    if (drawn.length === 0) return notMeasured
    const cells = drawn.map(name => `![samples of ${name}](samples/${experiment}-${name}.png)`)
    return [drawn, drawn.map(() => '---'), cells].map(row => `| ${row.join(' | ')} |`).join('\n')
  }),
  yardstick: ([kinds], files) => {
    const yardstick = readYardstick()
    if (yardstick === null) return notMeasured
    const names = kinds.split(',') as AxisName[]
    const alt = `distance of real pictures over ${names.map(name => axes[name].title).join(', ')}`
    return figure(files, `yardstick-${names.join('-')}`, alt, yardstickFigureOf(yardstick.points, names))
  },
  floor: () => {
    const yardstick = readYardstick()
    return yardstick === null ? notMeasured : floorTableOf(yardstick.points)
  },
}

/** Files of the pages and figures as the records have them: content by path below docs/evidence. */
export function evidenceFiles(): Map<string, string> {
  const files = new Map<string, string>()
  for (const page of readdirSync(pagesFolder).filter(name => name.endsWith('.md'))) {
    const text = readFileSync(join(pagesFolder, page), 'utf8')
    const block = new RegExp(`<!-- (${Object.keys(contents).join('|')})(?: ([^>]+))? -->\\n[\\s\\S]*?<!-- end -->`, 'g')
    const written = text.replace(block, (_, kind: string, words?: string) => {
      const mark = `<!-- ${[kind, words].filter(Boolean).join(' ')} -->`
      return `${mark}\n\n${contents[kind](words?.split(' ') ?? [], files)}\n\n<!-- end -->`
    })
    files.set(page, written)
  }
  return files
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  mkdirSync(join(pagesFolder, 'figures'), { recursive: true })
  for (const [path, content] of evidenceFiles()) writeFileSync(join(pagesFolder, path), content)
}
