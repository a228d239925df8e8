/**
 * `npm run test:nodes [-- VERSION… [-- NAME…]]`: the whole of `npm test` under Node 20, 22 and 24, or these versions,
 * one after the other; names after a second -- choose test files. The binaries are those that npm's node-<system> packages
 * hold; they stay in the temporary folder for the next time. Exit code 1 where a test fails in any. Needs Node and npm.
 */

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('..', import.meta.url))
const given = process.argv.slice(2)
const split = given.includes('--') ? given.indexOf('--') : given.length
const versions = split === 0 ? ['20', '22', '24'] : given.slice(0, split)
const names = given.slice(split + 1)

/** The path of a Node of this major version, fetched where it is not there yet. */
function fetched(version: string): string {
  const system = process.platform === 'win32' ? 'win' : process.platform
  const name = `node-${system}-${process.arch}`
  const folder = join(tmpdir(), 'demask-nodes', version)
  const program = join(folder, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true })
    execFileSync('npm', ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', `${name}@${version}`], {
      stdio: ['ignore', 'ignore', 'inherit'],
      cwd: folder,
    })
  }
  return program
}

/** Runs the tests; their last line, and whether all passed. */
function test(program: string): Promise<{ passed: boolean; summary: string }> {
  return new Promise(resolve => {
    const child = spawn(program, ['--import', 'tsx', join('tests', 'run.ts'), ...names], {
      cwd: repository,
      env: { ...process.env, PATH: `${dirname(program)}${delimiter}${process.env.PATH}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', chunk => {
      process.stdout.write(chunk)
      output += chunk
    })
    child.on('close', code => resolve({ passed: code === 0, summary: output.trimEnd().split('\n').at(-1) ?? '' }))
  })
}

const rows: string[] = []
for (const version of versions) {
  const program = fetched(version)
  const exact = execFileSync(program, ['--version'], { encoding: 'utf8' }).trim()
  console.log(`--- Node ${exact}`)
  const { passed, summary } = await test(program)
  rows.push(`Node ${exact}: ${summary}`)
  if (!passed) process.exitCode = 1
}
console.log(`---\n${rows.join('\n')}`)
