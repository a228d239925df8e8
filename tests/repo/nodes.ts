/**
 * `npm run test:nodes`: the whole of `npm test` under Node 20, 22 and 24, one after the other. The binaries are those that
 * npm's node-<system> packages hold; they stay in the temporary folder for the next time. Exit code 1 where a test fails
 * in any. Needs Node and npm.
 */

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))

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
function test(program: string, names: readonly string[]): Promise<{ passed: boolean; summary: string }> {
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

await main(async () => {
  const { version, only } = readFlags({
    command: 'npm run test:nodes --',
    about: 'All tests under several versions of Node.',
    operands: { version: { about: 'major versions; 20, 22 and 24 where there is none', many: true, optional: true } },
    flags: { only: { type: 'text', value: 'PART', many: true, about: 'test files whose path contains this' } },
    examples: [
      ['', 'under all'],
      ['24 --only resume --only docs', 'two files under one'],
    ],
  })
  const rows: string[] = []
  for (const each of version.length > 0 ? version : ['20', '22', '24']) {
    const program = fetched(each)
    const exact = execFileSync(program, ['--version'], { encoding: 'utf8' }).trim()
    console.log(`--- Node ${exact}`)
    const { passed, summary } = await test(program, only)
    rows.push(`Node ${exact}: ${summary}`)
    if (!passed) process.exitCode = 1
  }
  console.log(`---\n${rows.join('\n')}`)
})
