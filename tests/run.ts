/**
 * `npm test [-- NAME…]`: runs every tests/**\/*.test.ts (or those whose path contains a NAME) in a process of its own,
 * two at a time, and adds up what uvu says. A file that crashes, hangs, or runs no test counts as a failure.
 * Needs Node. The last line is `N passed, N failed`, with `, N skipped` where there are such, and the exit code 1 if a test
 * failed or none was found.
 */

import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'

const minutesPerFile = 10
const directory = import.meta.dirname
const names = process.argv.slice(2)

interface Outcome {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** Output of the file, and its problems beyond failed tests. */
  readonly output: string
}

function run(file: string): Promise<Outcome> {
  return new Promise(resolve => {
    // The loader that runs this file runs the tests too.
    const child = spawn(process.execPath, [...process.execArgv, file], { env: { ...process.env, NO_COLOR: '1' } })
    let output = ''
    child.stdout.on('data', chunk => (output += chunk))
    child.stderr.on('data', chunk => (output += chunk))
    const timer = setTimeout(() => child.kill('SIGKILL'), minutesPerFile * 60_000)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve(judge(output, code, signal))
    })
  })
}

function judge(output: string, code: number | null, signal: string | null): Outcome {
  // uvu's total leaves skipped tests out.
  const summary = /^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)$/m.exec(output)
  const [total, passed, skipped] = summary === null ? [0, 0, 0] : summary.slice(1).map(Number)
  const failed = total - passed
  if (signal !== null) return { passed, failed: failed + 1, skipped, output: `${output}\nended by ${signal}` }
  if (total + skipped === 0) return { passed, failed: 1, skipped, output: `${output}\nexit code ${code}, ran no test` }
  if (code !== 0 && failed === 0) return { passed, failed: 1, skipped, output: `${output}\nexit code ${code}` }
  return { passed, failed, skipped, output }
}

/** Files of webgpu/ and surroundings/ run only when named: a software adapter and installations take minutes. */
function isWanted(name: string): boolean {
  return names.length === 0 ? !/^(webgpu|surroundings)/.test(name) : names.some(part => name.includes(part))
}

// The longest first, so that the second process fills the gaps: those that run whole programs, then by their size.
const weight = (file: string) =>
  /\/(example|programs)\.ts'/.test(readFileSync(file, 'utf8')) ? 1e9 : statSync(file).size
const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.test.ts') && isWanted(name))
  .map(name => join(directory, name))
  .sort((a, b) => weight(b) - weight(a))

let [passed, failed, skipped] = [0, 0, 0]

async function drain(): Promise<void> {
  for (let file = files.shift(); file !== undefined; file = files.shift()) {
    const start = performance.now()
    const outcome = await run(file)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    const verdict = outcome.failed === 0 ? 'ok  ' : 'FAIL'
    console.log(
      `${verdict} ${relative(directory, file).padEnd(32)} ${String(outcome.passed).padStart(4)} tests ${seconds.padStart(6)} s`,
    )
    if (outcome.failed > 0) console.log(outcome.output)
    else for (const line of outcome.output.split('\n')) if (line.startsWith('SKIPPED')) console.log(line)
    passed += outcome.passed
    failed += outcome.failed
    skipped += outcome.skipped
  }
}

const processes = Math.min(2, availableParallelism())
await Promise.all(Array.from({ length: processes }, drain))
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
if (failed > 0 || passed + skipped === 0) process.exitCode = 1
