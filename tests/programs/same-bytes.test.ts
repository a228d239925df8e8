/**
 * Twelve steps of every training program leave the bytes that were recorded: the tensors of the last checkpoint, and the
 * losses and gradient norms of every step. The recorded runs are unbroken and on one thread. Here one run of each
 * family stops after six steps on two threads, and `demask train` resumes it on one.
 *
 * `npx tsx tests/programs/same-bytes.test.ts --record` records anew. Do so only when a change is meant to alter the
 * arithmetic of a program, and give the reason in the commit message. The bytes are those of the relaxed build of the
 * wasm backend; on another build the programs only have to end.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { buildOf, columns, hashTensors, lastCheckpoint, readColumns, runChains, runProgram } from './programs.ts'

interface Run {
  readonly name: string
  /** Without --out, --steps and --threads; `RUNS` stands for the folder of all runs. */
  readonly command: string
  /** Columns of the log to compare. */
  readonly columns: readonly string[]
  /** The words that resume the run, where it is stopped halfway. */
  readonly resume?: string
}

/** The command that makes the latents of the runs on latents, of the autoencoder that was trained before. */
const encode = 'cli/index.ts encode-latents emoji:smileys --vae RUNS/vae'

/** A run of a chain may need those before it. The longest chains first. */
const chains: readonly (readonly Run[])[] = [
  [
    {
      name: 'vae',
      command: 'examples/train-vae.ts --size 16 --batch 2 --seed 7',
      columns: columns.vae,
      resume: 'cli/index.ts train vae',
    },
    { name: 'latents', command: encode, columns: [] },
    {
      name: 'mdt-latents',
      command: 'examples/train-mdt-s.ts --preset tiny --batch 2 --seed 7 --latents RUNS/latents',
      columns: columns.mdt,
    },
    {
      name: 'maskdit-latents',
      command: 'examples/train-maskdit.ts --batch 2 --seed 7 --latents RUNS/latents',
      columns: columns.maskdit,
    },
  ],
  [
    {
      name: 'maskdit',
      command: 'examples/train-maskdit.ts --size 8 --batch 2 --seed 7',
      columns: columns.maskdit,
      resume: 'cli/index.ts train maskdit',
    },
    {
      name: 'maskdit-cosine',
      command: 'examples/train-maskdit.ts --tune cosine --from RUNS/maskdit',
      columns: columns.maskdit,
    },
  ],
  [
    {
      name: 'maskdm-pretrain',
      command: 'examples/train-maskdm.ts pretrain --size 8 --batch 2 --seed 7',
      columns: columns.maskdm,
    },
    {
      name: 'maskdm-finetune',
      command: 'examples/train-maskdm.ts finetune --from RUNS/maskdm-pretrain --size 8 --batch 2 --seed 7',
      columns: columns.maskdm,
      resume: 'cli/index.ts train maskdm finetune',
    },
  ],
  [
    {
      name: 'mdt',
      command: 'examples/train-mdt-s.ts --preset tiny --size 8 --batch 2 --seed 7 --labels yes',
      columns: columns.mdt,
      resume: 'cli/index.ts train mdt',
    },
  ],
  [
    {
      name: 'dit',
      command: 'cli/index.ts train dit --size 8 --batch 2 --seed 7 --labels yes --held-out 0.05 --save-every 4',
      columns: columns.dit,
      resume: 'cli/index.ts train dit',
    },
    {
      name: 'mdtv2',
      command:
        'cli/index.ts train mdtv2 --size 8 --batch 2 --parts 2 --seed 7 --optimizer adan --clip 1 --weight-decay 0.01 --ema 0.9 --checkpoint-blocks',
      columns: columns.mdt,
      resume: 'cli/index.ts train mdtv2',
    },
  ],
  [
    {
      name: 'features',
      command: 'bench/evidence/train-features.ts --batch 2 --seed 7',
      columns: ['step', 'loss', 'gradNorm'],
    },
  ],
]

/** Results of a run. */
interface Outcome {
  readonly rows: readonly string[]
  /** SHA-256 by file. */
  readonly tensors: Readonly<Record<string, string>>
}

interface Recorded {
  readonly build: string
  /** By command. */
  readonly runs: Readonly<Record<string, Outcome>>
}

const recordPath = fileURLToPath(new URL('../fixtures/same-bytes.json', import.meta.url))
const record = process.argv.includes('--record')

const folder = mkdtempSync(join(tmpdir(), 'demask-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** Runs a program and returns what it left. */
async function outcomeOf({ name, command, columns, resume }: Run): Promise<Outcome> {
  const out = join(folder, name)
  const words = [...command.replaceAll('RUNS', folder).split(' '), '--out', out]
  if (command === encode) {
    await runProgram([...words, '--threads', '2'])
    return { rows: [], tensors: hashTensors(out, /^latents/) }
  }
  if (record || resume === undefined) await runProgram([...words, '--steps', '12', '--threads', '1'])
  else {
    await runProgram([...words, '--steps', '6', '--threads', '2'])
    await runProgram([...resume.split(' '), '--out', out, '--resume', '--steps', '12', '--threads', '1'])
  }
  return { rows: readColumns(out, columns), tensors: hashTensors(lastCheckpoint(out)) }
}

const outcomes = new Map<Run, Outcome | Error>()
await runChains(
  chains.map(chain => async () => {
    for (const run of chain) outcomes.set(run, await outcomeOf(run).catch((error: Error) => error))
  }),
)
for (const outcome of outcomes.values()) if (record && outcome instanceof Error) throw outcome

const first = join(folder, chains[0][0].name)
const build = outcomes.get(chains[0][0]) instanceof Error ? null : buildOf(lastCheckpoint(first))
if (record) {
  const runs = Object.fromEntries(chains.flat().map(run => [run.command, outcomes.get(run)]))
  writeFileSync(recordPath, `${JSON.stringify({ build, runs }, null, 1)}\n`)
}

const recorded: Recorded = JSON.parse(readFileSync(recordPath, 'utf8'))
const comparable = build === null || build === recorded.build
if (!comparable)
  console.log(`SKIPPED the comparison of bytes: recorded on ${recorded.build}, these runs are on ${build}`)

for (const [run, outcome] of outcomes)
  test(run.command, () => {
    if (outcome instanceof Error) throw outcome
    const { rows, tensors } = recorded.runs[run.command]
    assert.is(outcome.rows.length, rows.length)
    if (!comparable) return
    assert.equal(outcome.rows, rows)
    assert.equal(outcome.tensors, tensors)
  })

test.run()
