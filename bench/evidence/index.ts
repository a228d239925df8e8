/**
 * `npm run evidence -- NAME [--budget 90m]`: the runs of an experiment, point by point, at the lowest priority, until all
 * points are measured or the time is over. Started again, it continues. Records are in docs/evidence/data, training in
 * runs/evidence. Needs Node and git.
 */

import { cpus } from 'node:os'
import { resolve } from 'node:path'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { UserError } from '../../io/user-error.ts'
import { type EvidenceRun, experiments, pointSamples } from './experiments.ts'
import { commandOf, measure, type Place, trainTo } from './pieces.ts'
import { dataFolder, type RunHead, type RunRecord, readRecord, writeRecord } from './records.ts'
import { currentCommit, root, treeOf } from './trees.ts'

/** Longest piece: minutes. */
const longest = 150

/** Minutes of '90m', '1.5h' or '45'. Throws UserError. */
function minutesOf(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(m|h)?$/.exec(text)
  if (found === null || Number(found[1]) === 0)
    throw new UserError(`--budget: expected a time such as 90m or 1.5h, got '${text}'`)
  return Number(found[1]) * (found[2] === 'h' ? 60 : 1)
}

/** A run, its record and its place. */
interface Open {
  readonly run: EvidenceRun
  readonly record: RunRecord
  readonly place: Place
}

/** Points and samples of a trial. */
const trialPoints = [2, 4]
const trialSamples = 8

/** Opens a run whose record is in `records` and that trains in `folder`; in a trial, in this checkout as it is. */
function open(experiment: string, run: EvidenceRun, records: string, folder: string, trial: boolean): Open {
  const stored = readRecord(records, experiment, run.name)
  const from = run.from === undefined ? undefined : resolve(folder, experiment, run.from)
  const { name, family, seed } = run
  const head: RunHead = stored?.head ?? {
    experiment,
    name,
    family,
    seed,
    command: commandOf(run, run.from),
    commit: trial ? 'trial' : currentCommit(),
    processor: cpus()[0]?.model ?? 'unknown',
  }
  const tree = trial ? root : treeOf(head.commit, resolve(folder, 'trees'))
  const place = { tree, folder: resolve(folder, experiment, name) }
  const points = trial ? trialPoints : run.points
  return { run: { ...run, from, points }, record: stored ?? { head, points: [] }, place }
}

await main(async () => {
  const { name, budget, out, trial } = readFlags({
    command: 'npm run evidence --',
    about: 'Trains and measures the runs of an experiment of docs/evidence, and records the results.',
    operands: { name: { about: 'the experiment', choices: Object.keys(experiments) } },
    flags: {
      budget: { type: 'text', value: 'TIME', default: '150m', about: 'stop after this time: 90m, 1.5h' },
      out: { type: 'text', value: 'DIR', default: 'runs/evidence', about: 'the folder of training' },
      trial: { type: 'switch', about: 'a few steps of every run, recorded in DIR, to see that all is well' },
    },
    examples: [
      ['quick', 'the cheapest figure, half an hour'],
      ['mdt --budget 90m', 'a part of a longer one; the same line continues it'],
    ],
  })
  const end = performance.now() + 60_000 * minutesOf(budget)
  const left = () => Math.min(longest, (end - performance.now()) / 60_000)
  const { claim, runs } = experiments[name]
  console.log(claim)
  const records = trial ? resolve(out, 'records') : dataFolder
  const opened = runs.map(run => open(name, run, records, out, trial))
  const most = Math.max(...opened.map(({ run }) => run.points.length))
  // Point by point, so that an early end leaves curves that can be compared.
  for (let k = 0; k < most; k++)
    for (const each of opened) {
      const { run, place } = each
      const step = run.points[k]
      const { head, points } = readRecord(records, name, run.name) ?? each.record
      if (step === undefined || points.some(point => point.step === step)) continue
      if (left() < 0.1) return console.log(`the time is over; continue with: npm run evidence -- ${name}`)
      console.log(`${run.name}: training to step ${step}`)
      const finished = await trainTo(place, commandOf(run, run.from), step, left())
      if (!finished) return console.log(`the time is over; continue with: npm run evidence -- ${name}`)
      const point = await measure(place, points.at(-1)?.step ?? 0, trial ? trialSamples : pointSamples.count)
      writeRecord(records, { head, points: [...points, point] })
      console.log(
        `${run.name}: step ${step}, held-out loss ${point.heldOut.toFixed(4)}, distance ${point.distance.toFixed(2)}`,
      )
    }
  console.log(`${name}: all points are measured`)
})
