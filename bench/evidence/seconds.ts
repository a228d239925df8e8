/**
 * `npx tsx bench/evidence/seconds.ts NAME`: processor seconds of a training step of every setting of an experiment, on one
 * thread, at the commit of its runs. They go to docs/evidence/data/seconds.jsonl. Measured on a quiet machine: a process
 * beside it takes caches and half of a core. Needs Node, git and bash.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { replaceFile } from '../../io/replace.ts'
import { UserError } from '../../io/user-error.ts'
import { readSeconds, type StepSeconds, secondsPath, settingOf } from './costs.ts'
import { experiments } from './experiments.ts'
import { commandOf, withData } from './pieces.ts'
import { dataFolder, readRecord } from './records.ts'
import { treeOf } from './trees.ts'

/** Steps of the two runs whose difference is measured: start, held-out loss, samples and compilation are the same in both. */
const steps = [8, 48] as const

/** Processor seconds of a command of `demask` and all its processes, in a tree. Throws UserError if it fails. */
function processorSeconds(tree: string, words: readonly string[]): number {
  const command = [process.execPath, '--import', 'tsx', 'cli/index.ts', ...words]
  const { status, stderr } = spawnSync('bash', ['-c', 'TIMEFORMAT="cpu %U %S"; time "$@"', 'bash', ...command], {
    cwd: tree,
    encoding: 'utf8',
    env: { ...process.env, DEMASK_THREADS: '1' },
  })
  const found = /^cpu (\S+) (\S+)$/m.exec(stderr)
  if (status !== 0 || found === null) throw new UserError(`evidence: ${words.slice(0, 2).join(' ')}: ${stderr.trim()}`)
  return Number(found[1]) + Number(found[2])
}

await main(async () => {
  const { name, out } = readFlags({
    command: 'npx tsx bench/evidence/seconds.ts',
    about: 'Measures processor seconds of a training step of every setting of an experiment.',
    operands: { name: { about: 'the experiment', choices: Object.keys(experiments) } },
    flags: { out: { type: 'text', value: 'DIR', default: 'runs/evidence', about: 'the folder of training' } },
    examples: [['mdt', 'after its runs, on a quiet machine']],
  })
  for (const run of experiments[name].runs.filter(({ seed }) => seed === 0)) {
    const record = readRecord(dataFolder, name, run.name)
    if (record === undefined) {
      console.log(`${run.name}: no record yet`)
      continue
    }
    const { commit } = record.head
    const from = run.from === undefined ? undefined : resolve(out, name, run.from)
    const command = commandOf(await withData(run, resolve(out, 'data')), from)
    const folder = mkdtempSync(join(tmpdir(), 'demask-seconds-'))
    const [few, many] = steps.map((count, i) => {
      const length = ['--steps', String(count), '--sample-every', '1000000', '--out', join(folder, String(i))]
      return processorSeconds(treeOf(commit, resolve(out, 'trees')), [...command, ...length])
    })
    rmSync(folder, { recursive: true })
    const seconds = Number(((many - few) / (steps[1] - steps[0])).toPrecision(3))
    const row: StepSeconds = { setting: settingOf(record.head.command), seconds, commit, processor: cpus()[0].model }
    console.log(`${run.name}: ${seconds} s a step`)
    const rows = [...readSeconds().filter(({ setting }) => setting !== row.setting), row]
    replaceFile(secondsPath, `${rows.map(each => JSON.stringify(each)).join('\n')}\n`)
  }
})
