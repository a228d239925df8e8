/**
 * Runs that version 0.1.0 saved after four steps can be sampled from and resumed, with the results that 0.1.0 had itself.
 * tests/fixtures/runs-0.1 holds everything that says how such a run is stored, but not its weights: of a tensor file it
 * has the header, and the values are filled in here from a fixed seed.
 *
 * `npx tsx tests/programs/earlier-runs.test.ts --record` records the results anew. Do so only when a change is meant to
 * alter the arithmetic of a program, and give the reason in the commit message. The runs themselves are never replaced.
 */

import { createHash } from 'node:crypto'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { buildOf, columns, hashTensors, lastCheckpoint, readColumns, runChains, runProgram } from './programs.ts'

interface Run {
  readonly name: string
  /** Resumes the run; `RUNS` stands for the folder of all runs. */
  readonly resume: string
  readonly columns: readonly string[]
  /** Draws pictures with the run, or encodes some. */
  readonly use?: string
  /** Files that `use` writes. */
  readonly made?: string
}

const sample = 'cli/index.ts sample --count 2 --steps 2 --from'

const runs: readonly Run[] = [
  {
    name: 'vae',
    resume: 'examples/train-vae.ts',
    columns: columns.vae,
    use: 'cli/index.ts encode-latents emoji:smileys --vae RUNS/vae --out RUNS/encoded',
    made: 'encoded/latents-00000000.safetensors',
  },
  {
    name: 'mdt',
    resume: 'examples/train-mdt-s.ts',
    columns: columns.mdt,
    use: `${sample} RUNS/mdt --out RUNS/mdt.npz`,
    made: 'mdt.npz',
  },
  {
    name: 'mdt-latents',
    resume: 'examples/train-mdt-s.ts --latents RUNS/latents',
    columns: columns.mdt,
    use: `${sample} RUNS/mdt-latents --vae RUNS/latents/vae.safetensors --out RUNS/mdt-latents.npz`,
    made: 'mdt-latents.npz',
  },
  {
    name: 'maskdit',
    resume: 'examples/train-maskdit.ts',
    columns: columns.maskdit,
    use: `${sample} RUNS/maskdit --out RUNS/maskdit.npz`,
    made: 'maskdit.npz',
  },
  {
    name: 'maskdm',
    resume: 'examples/train-maskdm.ts pretrain',
    columns: columns.maskdm,
    use: `${sample} RUNS/maskdm --out RUNS/maskdm.npz`,
    made: 'maskdm.npz',
  },
  { name: 'features', resume: 'bench/evidence/train-features.ts', columns: columns.features },
]

/** Results of a run and of the command that uses it. */
interface Outcome {
  readonly rows: readonly string[]
  /** SHA-256 by file. */
  readonly tensors: Readonly<Record<string, string>>
  /** SHA-256 of the file that `use` makes. */
  readonly made?: string
}

interface Recorded {
  readonly build: string
  /** By name. */
  readonly runs: Readonly<Record<string, Outcome>>
}

const fixtures = fileURLToPath(new URL('../fixtures/runs-0.1', import.meta.url))
const recordPath = join(fixtures, 'results.json')
const record = process.argv.includes('--record')

const folder = mkdtempSync(join(tmpdir(), 'demask-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** Uniform numbers in [0, 1), by Marsaglia's xorshift. */
function uniform(seed: number): () => number {
  let x = seed
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (x >>> 0) / 2 ** 32
  }
}

/**
 * Writes a tensor file with the header in `path`.json: weights in [-0.05, 0.05), the optimizer's state in [0.01, 0.05),
 * whose squares and corrections are positive. Integers are those in integers.json.
 */
function fillTensors(path: string): void {
  const header = readFileSync(`${path}.json`, 'utf8')
  const { __metadata__, ...entries } = JSON.parse(header)
  const length = 8 * Math.ceil(Buffer.byteLength(header) / 8)
  const ends = Object.values<{ data_offsets: number[] }>(entries).map(({ data_offsets: [, end] }) => end)
  const bytes = Buffer.alloc(8 + length + Math.max(...ends), ' ')
  bytes.writeBigUInt64LE(BigInt(length))
  bytes.write(header, 8)
  const next = uniform(7)
  const least = path.endsWith('optimizer.safetensors') ? 0.01 : -0.05
  const integersPath = join(dirname(path), 'integers.json')
  const integers: Record<string, number[]> = existsSync(integersPath)
    ? JSON.parse(readFileSync(integersPath, 'utf8'))
    : {}
  for (const [name, entry] of Object.entries<{ dtype: string; data_offsets: number[] }>(entries)) {
    const [begin, end] = entry.data_offsets.map(offset => 8 + length + offset)
    if (entry.dtype === 'I32')
      for (const [i, value] of integers[name].entries()) bytes.writeInt32LE(value, begin + 4 * i)
    else for (let at = begin; at < end; at += 4) bytes.writeFloatLE(least + (0.05 - least) * next(), at)
  }
  writeFileSync(path, bytes)
}

cpSync(fixtures, folder, { recursive: true })
for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
  if (name.endsWith('.safetensors.json')) fillTensors(join(folder, name.slice(0, -'.json'.length)))
copyFileSync(join(folder, 'vae/vae.safetensors'), join(folder, 'latents/vae.safetensors'))

/** Uses a run as 0.1.0 left it, then resumes it for two steps. */
async function outcomeOf({ name, resume, columns, use, made }: Run): Promise<Outcome> {
  const run = join(folder, name)
  const start = (words: string) => runProgram([...words.replaceAll('RUNS', folder).split(' '), '--threads', '1'])
  if (use !== undefined) await start(use)
  await start(`${resume} --out RUNS/${name} --resume --steps 6`)
  const outcome = { rows: readColumns(run, columns), tensors: hashTensors(lastCheckpoint(run)) }
  if (made === undefined) return outcome
  const bytes = readFileSync(join(folder, made))
  return { ...outcome, made: createHash('sha256').update(bytes).digest('hex') }
}

const outcomes = new Map<string, Outcome | Error>()
await runChains(
  runs.map(run => async () => {
    outcomes.set(run.name, await outcomeOf(run).catch((error: Error) => error))
  }),
)
for (const outcome of outcomes.values()) if (record && outcome instanceof Error) throw outcome

const build = buildOf(lastCheckpoint(join(folder, 'mdt')))
if (record) writeFileSync(recordPath, `${JSON.stringify({ build, runs: Object.fromEntries(outcomes) }, null, 1)}\n`)
const recorded: Recorded = JSON.parse(readFileSync(recordPath, 'utf8'))
const comparable = build === recorded.build
if (!comparable)
  console.log(`SKIPPED the results of earlier runs: recorded on ${recorded.build}, these are on ${build}`)

for (const { name } of runs)
  test(`${name}, saved by 0.1.0, is used and resumed`, () => {
    const outcome = outcomes.get(name)!
    if (outcome instanceof Error) throw outcome
    assert.is(outcome.rows.length, 6)
    if (comparable) assert.equal(outcome, recorded.runs[name])
  })

test.run()
