/**
 * `npm run release -- --dry-run`: checks that this checkout can be released. Version, changelog, git state, the packed files and the
 * documentation must agree. Without --dry-run it then tags the commit and publishes the package. Needs Node.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { UserError } from '../io/user-error.ts'

const root = resolve(import.meta.dirname, '..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const git = (...words: string[]) => execFileSync('git', words, { cwd: root, encoding: 'utf8' }).trim()

/** Bytes of the unpacked package. */
const largestPackage = 5_000_000
/** Files that a user of the package relies on. */
const needed = [
  'package.json',
  'README.md',
  'LICENSE',
  'dist/cli/index.js',
  'dist/core/index.js',
  'dist/core/index.d.ts',
]

interface Packed {
  readonly version: string
  readonly unpackedSize: number
  readonly files: readonly { readonly path: string }[]
}

/** Returns the heading of the newest version in CHANGELOG.md: its number and its date or state. */
function newestChange(): { version: string; date: string } {
  const found = /^## (\S+) \((.+)\)$/m.exec(read('CHANGELOG.md'))
  if (found === null) throw new UserError('CHANGELOG.md: expected a heading such as "## 0.2.0 (2026-12-01)", got none')
  return { version: found[1], date: found[2] }
}

function checkVersion(version: string, isDryRun: boolean): void {
  const lock = JSON.parse(read('package-lock.json'))
  for (const got of [lock.version, lock.packages[''].version])
    if (got !== version)
      throw new UserError(`package-lock.json: expected version ${version}, got ${got}; run npm install`)
  const { version: newest, date } = newestChange()
  if (newest !== version) throw new UserError(`CHANGELOG.md: expected ${version} on top, got ${newest}`)
  if (!isDryRun && !/^\d{4}-\d{2}-\d{2}$/.test(date))
    throw new UserError(`CHANGELOG.md: expected the date of ${version}, got "${date}"`)
  if (git('tag', '--list', `v${version}`) !== '')
    throw new UserError(`package.json: expected a version without a tag, got ${version}; raise the version`)
}

function checkPack(version: string): string {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 26,
  })
  const [packed]: Packed[] = JSON.parse(output.slice(output.search(/^\[/m)))
  const paths = new Set(packed.files.map(({ path }) => path))
  const missing = needed.filter(path => !paths.has(path))
  if (missing.length > 0) throw new UserError(`npm pack: expected ${missing.join(', ')} in the package, got none`)
  if (packed.version !== version) throw new UserError(`npm pack: expected version ${version}, got ${packed.version}`)
  if (packed.unpackedSize > largestPackage)
    throw new UserError(`npm pack: expected at most ${largestPackage} bytes unpacked, got ${packed.unpackedSize}`)
  return `${paths.size} files, ${(packed.unpackedSize / 1e6).toFixed(1)} MB unpacked`
}

await main(() => {
  const { 'dry-run': isDryRun } = readFlags({
    command: 'npm run release --',
    about: 'Checks version, changelog, package and documentation, then tags the commit and publishes the package.',
    flags: { 'dry-run': { type: 'switch', about: 'only check' } },
    examples: [['--dry-run', 'everything but the tag and the publication']],
  })
  const { version } = JSON.parse(read('package.json'))
  checkVersion(version, isDryRun)
  console.log(`version: ${version} in package.json, package-lock.json and CHANGELOG.md, no tag yet`)
  const changes = git('status', '--porcelain')
  if (!isDryRun && changes !== '') throw new UserError('git: expected a clean checkout, got uncommitted changes')
  console.log(`git: ${git('rev-parse', '--short', 'HEAD')}${changes === '' ? '' : ', with uncommitted changes'}`)
  console.log(`pack: ${checkPack(version)}`)
  const tests = spawnSync(
    process.execPath,
    [...process.execArgv, 'tests/run.ts', 'repo/docs', 'repo/package', 'errors-page'],
    {
      cwd: root,
      stdio: 'inherit',
    },
  )
  if (tests.status !== 0) throw new UserError('tests: expected documentation and package to pass, got a failure')
  if (isDryRun) return console.log(`ready to release ${version}`)
  git('tag', '--annotate', `v${version}`, '--message', `demask ${version}`)
  execFileSync('npm', ['publish'], { cwd: root, stdio: 'inherit' })
  console.log(`published ${version}; push the tag: git push origin v${version}`)
})
