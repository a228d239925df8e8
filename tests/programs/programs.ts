/**
 * Starts programs by their path and hashes the tensors that they leave. Imports nothing of the library: the tests here
 * compare one version of it with another. Needs Node.
 */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Columns of the programs' logs that hold what a step computed. */
export const columns = {
  dit: ['step', 'mse', 'vb', 'gradNorm'],
  mdt: ['step', 'mse', 'vb', 'maskedMse', 'maskedVb', 'gradNorm'],
  maskdit: ['step', 'loss', 'dsm', 'ratio', 'gradNorm'],
  maskdm: ['step', 'loss', 'gradNorm'],
  vae: ['step', 'loss', 'error', 'kl', 'gradNorm'],
  features: ['step', 'loss', 'gradNorm'],
} as const

const repository = fileURLToPath(new URL('../..', import.meta.url))

/** Runs `words`, a TypeScript file of the repository and its arguments, to its end. Rejects with its output if it fails. */
export function runProgram(words: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [...process.execArgv, ...words], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', chunk => (output += chunk))
  child.stderr.on('data', chunk => (output += chunk))
  return new Promise((resolve, reject) =>
    child.on('close', code => {
      if (code === 0) resolve()
      else reject(new Error(`${words.join(' ')}: expected exit code 0, got ${code} and: ${output}`))
    }),
  )
}

/** Runs two chains of jobs at a time, each job of a chain after the one before it. */
export async function runChains(chains: readonly (() => Promise<void>)[]): Promise<void> {
  const left = [...chains]
  const worker = async () => {
    for (let chain = left.shift(); chain !== undefined; chain = left.shift()) await chain()
  }
  await Promise.all([worker(), worker()])
}

/** SHA-256 of every .safetensors file in a folder that `wanted` names: of name, dtype, shape and bytes of its tensors, by name. */
export function hashTensors(folder: string, wanted = /./): Record<string, string> {
  const files = readdirSync(folder).filter(file => file.endsWith('.safetensors') && wanted.test(file))
  return Object.fromEntries(files.sort().map(file => [file, hashFile(join(folder, file))]))
}

interface Entry {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data_offsets: readonly [begin: number, end: number]
}

function hashFile(path: string): string {
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE())
  const { __metadata__, ...entries } = JSON.parse(bytes.toString('utf8', 8, start))
  const hash = createHash('sha256')
  for (const name of Object.keys(entries).sort()) {
    const { dtype, shape, data_offsets } = entries[name] as Entry
    hash.update(`${JSON.stringify([name, dtype, shape])}\n`)
    hash.update(bytes.subarray(start + data_offsets[0], start + data_offsets[1]))
  }
  return hash.digest('hex')
}

/** The last checkpoint of a run. */
export function lastCheckpoint(run: string): string {
  const names = readdirSync(run).filter(name => name.startsWith('checkpoint-'))
  return join(run, names.sort().at(-1)!)
}

/** The backend and build that a checkpoint was computed by, such as `wasm relaxed`. */
export function buildOf(checkpoint: string): string {
  return JSON.parse(readFileSync(join(checkpoint, 'state.json'), 'utf8')).backend
}

/** These columns of a run's log, a line for each row. Throws where a row lacks one. */
export function readColumns(run: string, columns: readonly string[]): string[] {
  const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trim().split('\n')
  return lines.map(line => {
    const row = JSON.parse(line)
    return columns
      .map(column => {
        if (!(column in row)) throw new Error(`metrics.jsonl: expected a column ${column}, got ${Object.keys(row)}`)
        return String(row[column])
      })
      .join(' ')
  })
}
