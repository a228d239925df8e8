/**
 * Runs an example as a person does: in a process of its own, with the loader that runs the tests. Needs Node.
 */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** Sends SIGINT once this has been printed. */
  readonly interruptAt?: RegExp
}

/**
 * Runs examples/`name`.ts, or cli/index.ts as `demask`, to its end. This process takes the place of the one that waits
 * (cli/run-in-child.ts, which has a test of its own): that saves the start of a process.
 */
export function run(name: string, args: readonly string[], { interruptAt }: RunOptions = {}): Promise<Ended> {
  const path = name === 'demask' ? 'cli/index.ts' : `examples/${name}.ts`
  const file = fileURLToPath(new URL(`../../${path}`, import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, file, ...args], {
    env: { ...process.env, DEMASK_DEBUG: '', DEMASK_STARTED_BY: String(process.pid) },
    stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
  })
  let [stdout, stderr, interrupted] = ['', '', false]
  child.stdout!.on('data', chunk => {
    stdout += chunk
    if (interruptAt?.test(stdout) && !interrupted) interrupted = child.kill('SIGINT')
  })
  child.stderr!.on('data', chunk => {
    stderr += chunk
  })
  return new Promise(resolve => child.on('close', code => resolve({ code, stdout, stderr })))
}

/** The same, for a run that must succeed without a word on stderr, or be saved by Ctrl-C; what it printed. */
export async function succeed(name: string, args: readonly string[], options?: RunOptions): Promise<string> {
  const { code, stdout, stderr } = await run(name, args, options)
  assert.is(stderr, '', `${name} ${args.join(' ')}`)
  assert.is(code, options?.interruptAt === undefined ? 0 : 130, `${name} ${args.join(' ')}`)
  return stdout
}

/**
 * The same, for a run that must fail with one line on stderr that matches `wanted`, and no stack. The exit code is 2 for a
 * message about a flag.
 */
export async function fail(name: string, args: readonly string[], wanted: RegExp): Promise<void> {
  const { code, stderr } = await run(name, args)
  const right = stderr.startsWith('error: --') ? code === 2 : code === 1 || code === 2
  if (!wanted.test(stderr) || !/^error: [^\n]*\n$/.test(stderr) || !right)
    assert.unreachable(
      `${name} ${args.join(' ')}: expected one line that matches ${wanted}, got exit code ${code} and: ${stderr}`,
    )
}

/** Runs `use` with a folder that is removed afterwards. */
export async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'demask-'))
  try {
    return await use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Every file under a folder with a hash of its bytes. */
export function bytesOf(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
  return Object.fromEntries(
    files
      .filter(file => statSync(join(folder, file)).isFile())
      .map(file => [
        file,
        createHash('sha256')
          .update(readFileSync(join(folder, file)))
          .digest('hex'),
      ]),
  )
}
