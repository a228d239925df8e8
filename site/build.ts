/**
 * Builds the site into site/dist: what the playground needs, the reference from the docstrings, the pages. Fails on a dead
 * link, a piece of source that is not there, a formula that does not render, an export without a docstring. Run: npm run
 * site:build (from the root). Needs Node, and `npm ci` in site/.
 */

import { execFileSync } from 'node:child_process'
import { main } from '../cli/main.ts'
import { writeSmileys } from './playground/assets.ts'
import { writeReference } from './reference.ts'

await main(async () => {
  await writeSmileys()
  writeReference()
  execFileSync(process.execPath, ['node_modules/vitepress/bin/vitepress.js', 'build'], {
    cwd: import.meta.dirname,
    stdio: 'inherit',
  })
})
