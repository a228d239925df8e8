/**
 * Builds the site into site/dist: the playground's data, the reference from the docstrings, the pages, the source. Fails on a
 * dead link, a piece of source that is missing, a formula that does not render, or an export without a docstring. Prints the
 * seconds and bytes of each part. Run: npm run site:build (from the root). Needs Node, and `npm ci` in site/.
 */

import { execFileSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { main } from '../cli/main.ts'
import { base } from './base.ts'
import { writeSmileys } from './playground/assets.ts'
import { writeReference } from './reference.ts'
import { writeSource } from './source.ts'

const here = import.meta.dirname
const dist = join(here, 'dist')

await main(async () => {
  const started = performance.now()
  await timed('data of the playground', writeSmileys)
  await timed('reference', writeReference)
  await timed('pages', () =>
    execFileSync(process.execPath, ['node_modules/vitepress/bin/vitepress.js', 'build'], {
      cwd: here,
      stdio: 'inherit',
    }),
  )
  await timed('source', () => writeSource(join(dist, 'source'), base))
  const seconds = (performance.now() - started) / 1000
  console.log(`site/dist: ${(bytesBelow(dist) / 1e6).toFixed(1)} MB in ${seconds.toFixed(0)} s`)
})

async function timed(name: string, work: () => unknown): Promise<void> {
  const started = performance.now()
  await work()
  console.log(`${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`)
}

function bytesBelow(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => statSync(join(folder, name)))
    .reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0)
}
