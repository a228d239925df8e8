/**
 * `npx tsx bench/evidence/pages.ts`: writes tables and figures into docs/evidence from the records. A page has the marks
 * `<!-- table NAME -->` and `<!-- figure NAME MEASURE -->` of an experiment; what follows up to `<!-- end -->` is written
 * here. Needs Node.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { figureOf, type MeasureName, measures, tableOf } from './figures.ts'
import { recordsOf } from './records.ts'

/** Folder of the pages. */
export const pagesFolder = fileURLToPath(new URL('../../docs/evidence', import.meta.url))

/** Files of the pages and figures as the records have them: content by path below docs/evidence. */
export function evidenceFiles(): Map<string, string> {
  const files = new Map<string, string>()
  for (const page of readdirSync(pagesFolder).filter(name => name.endsWith('.md'))) {
    const text = readFileSync(join(pagesFolder, page), 'utf8')
    const block = /<!-- (table|figure) (\S+?)(?: (\S+))? -->\n[\s\S]*?<!-- end -->/g
    files.set(
      page,
      text.replace(block, (_, kind: string, experiment: string, measure?: string) => {
        const records = recordsOf(experiment)
        const mark = `<!-- ${[kind, experiment, measure].filter(Boolean).join(' ')} -->`
        if (records.length === 0) return `${mark}\n\nNot measured yet.\n\n<!-- end -->`
        if (kind === 'table') return `${mark}\n\n${tableOf(records)}\n\n<!-- end -->`
        const name = measure as MeasureName
        const figure = `figures/${experiment}-${name.toLowerCase()}.svg`
        files.set(figure, figureOf(records, name))
        return `${mark}\n\n![${measures[name]} of ${experiment} over steps](${figure})\n\n<!-- end -->`
      }),
    )
  }
  return files
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  mkdirSync(join(pagesFolder, 'figures'), { recursive: true })
  for (const [path, content] of evidenceFiles()) writeFileSync(join(pagesFolder, path), content)
}
