/**
 * `npx tsx bench/evidence/pages.ts`: writes tables and figures into docs/evidence from the records. What follows a mark on a
 * page, up to `<!-- end -->`, is written here. Marks: `<!-- table EXPERIMENT -->`, `<!-- ends EXPERIMENT -->`,
 * `<!-- figure EXPERIMENT MEASURE COST -->`, `<!-- losses EXPERIMENT -->`, `<!-- samples EXPERIMENT -->`,
 * `<!-- yardstick AXIS,AXIS -->` and `<!-- floor -->`. Needs Node.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { experiments, samples } from './experiments.ts'
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

/** Returns the Markdown of a mark with these words, null before it is measured; figures are added to `files`. */
type Content = (words: readonly string[], files: Map<string, string>) => string | null

/** Markdown made of the records of an experiment, once there are enough. */
const ofRecords =
  (
    content: (records: readonly RunRecord[], words: readonly string[], files: Map<string, string>) => string | null,
  ): Content =>
  ([experiment, ...words], files) => {
    const records = recordsOf(experiment)
    const least = Math.min(2, experiments[experiment].runs.length) // one curve of several compares with nothing
    return records.length < least ? null : content(records, words, files)
  }

/** True if runs of an experiment are measured with guidance too; their grids are drawn with it. */
function isGuided(experiment: string): boolean {
  return experiments[experiment].runs.some(({ guidance }) => guidance !== undefined)
}

/** Adds a figure with a title, which is read aloud in place of it, and returns its Markdown. */
function figure(files: Map<string, string>, name: string, alt: string, svg: string): string {
  const path = `figures/${name.toLowerCase()}.svg`
  files.set(path, svg.replace('>', ` role="img">\n<title>${alt}</title>`))
  return `![${alt}](${path})`
}

const contents: Readonly<Record<string, Content>> = {
  table: ofRecords(records => tableOf(records)),
  ends: ofRecords(records => {
    const table = endTableOf(records)
    const { count, passes } = samples.end
    const measured = `${count.toLocaleString('en')} samples of ${passes} passes each`
    const twice = isGuided(records[0].head.experiment) ? ', and once more with guidance' : ''
    return table && `The ends of the curves by ${measured}${twice}:\n\n${table}`
  }),
  figure: ofRecords((records, [measure, cost], files) => {
    const { experiment } = records[0].head
    const alt = `${measures[measure as MeasureName]} of ${experiment} over ${costs[cost as CostName].title}`
    const svg = figureOf(records, measure as MeasureName, cost as CostName)
    return svg && figure(files, `${experiment}-${measure}-${cost}`, alt, svg)
  }),
  losses: ofRecords((records, _, files) => {
    const { experiment } = records[0].head
    return figure(files, `${experiment}-losses`, `losses of ${experiment} over steps`, lossFigureOf(records))
  }),
  samples: ofRecords(records => {
    const { experiment } = records[0].head
    const runs = experiments[experiment].runs.map(({ name }) => name)
    const drawn = runs.filter(name => existsSync(join(pagesFolder, 'samples', `${experiment}-${name}.png`)))
    if (drawn.length === 0) return null
    const cells = drawn.map(name => `![samples of ${name}](samples/${experiment}-${name}.png)`)
    const table = [drawn, drawn.map(() => '---'), cells].map(row => `| ${row.join(' | ')} |`).join('\n')
    const how = isGuided(experiment) ? ', with guidance' : ''
    return `Samples at the end of each curve${how}, one column for each category:\n\n${table}`
  }),
  yardstick: ([kinds], files) => {
    const yardstick = readYardstick()
    if (yardstick === null) return null
    const names = kinds.split(',') as AxisName[]
    const alt = `distance of real pictures over ${names.map(name => axes[name].title).join(', ')}`
    return figure(files, `yardstick-${names.join('-')}`, alt, yardstickFigureOf(yardstick.points, names))
  },
  floor: () => {
    const yardstick = readYardstick()
    return yardstick && floorTableOf(yardstick.points)
  },
}

/** Files of the pages and figures as the records have them: content by path below docs/evidence. */
export function evidenceFiles(): Map<string, string> {
  const files = new Map<string, string>()
  for (const page of readdirSync(pagesFolder).filter(name => name.endsWith('.md'))) {
    const text = readFileSync(join(pagesFolder, page), 'utf8')
    const block = new RegExp(`<!-- (${Object.keys(contents).join('|')})(?: ([^>]+))? -->\\n[\\s\\S]*?<!-- end -->`, 'g')
    const missing = new Set<string>() // experiments of which the page says that they are not measured
    const written = text.replace(block, (_, kind: string, words?: string) => {
      const mark = `<!-- ${[kind, words].filter(Boolean).join(' ')} -->`
      const [subject = kind, ...others] = words?.split(' ') ?? []
      const content = contents[kind]([subject, ...others], files)
      const shown = content ?? (missing.has(subject) ? '' : 'Not measured yet.')
      if (content === null) missing.add(subject)
      return [mark, shown, '<!-- end -->'].filter(Boolean).join('\n\n')
    })
    files.set(page, written)
  }
  return files
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  mkdirSync(join(pagesFolder, 'figures'), { recursive: true })
  for (const [path, content] of evidenceFiles()) writeFileSync(join(pagesFolder, path), content)
}
