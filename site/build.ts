/**
 * Builds the site into site/dist: what the playground needs, the reference from the docstrings, the pages. Fails on a dead
 * link, a piece of source that is not there, a formula that does not render, an export without a docstring. Run: npm run
 * site:build (from the root). Needs Node, and `npm ci` in site/.
 */

import { execFileSync } from 'node:child_process'

const here = import.meta.dirname
const run = (program: string, ...args: string[]) =>
  execFileSync(process.execPath, [program, ...args], { cwd: here, stdio: 'inherit' })

execFileSync(process.execPath, [...process.execArgv, 'playground/assets.ts'], { cwd: here, stdio: 'inherit' })
run('node_modules/typedoc/bin/typedoc')
run('node_modules/vitepress/bin/vitepress.js', 'build')
