/**
 * `npm run evidence -- NAME [--budget 90m]`: the runs of an experiment, point by point, at the lowest priority, until all
 * points are measured or the time is over. Started again, it continues. Records are in docs/evidence/data, training in
 * runs/evidence. Needs Node and git.
 */

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { replaceFile } from '../../io/replace.ts'
import { UserError } from '../../io/user-error.ts'
import { type EvidenceRun, experiments, samples, saveEvery } from './experiments.ts'
import { pagesFolder } from './pages.ts'
import { commandOf, drawGrid, lossesOf, measure, type Place, pointOf, trainTo, withData } from './pieces.ts'
import {
  dataFolder,
  type LossRow,
  type Point,
  type RunHead,
  type RunRecord,
  readRecord,
  writeRecord,
} from './records.ts'
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

/** Points, samples and losses of a trial. */
const trialSamples = { count: 8, passes: 3 }
const trial = {
  points: [2],
  samples: { curve: trialSamples, end: trialSamples, grid: 2 },
  saveEvery: 2,
  reference: 'emoji:smileys',
  flags: ['--batch', '4'],
} as const

/** Returns the head of a run that has no record yet; the file keeps its commit until there is one. */
function headOf(experiment: string, run: EvidenceRun, path: string, commit: () => string): RunHead {
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8'))
  const { name, family, seed, reference } = run
  const command = commandOf(run, run.from)
  const processor = cpus()[0]?.model ?? 'unknown'
  const head = { experiment, name, family, seed, reference, command, commit: commit(), processor }
  mkdirSync(dirname(path), { recursive: true })
  replaceFile(path, JSON.stringify(head))
  return head
}

/** Opens a run whose record is in `records` and that trains in `folder`; in a trial, in this checkout as it is. */
async function open(
  experiment: string,
  run: EvidenceRun,
  records: string,
  folder: string,
  isTrial: boolean,
): Promise<Open> {
  const stored = readRecord(records, experiment, run.name)
  const place = resolve(folder, experiment, run.name)
  const head = stored?.head ?? headOf(experiment, run, `${place}.json`, () => (isTrial ? 'trial' : currentCommit()))
  const tree = isTrial ? root : treeOf(head.commit, resolve(folder, 'trees'))
  const located = {
    ...(await withData(run, resolve(folder, 'data'))),
    from: run.from === undefined ? undefined : resolve(folder, experiment, run.from),
    points: isTrial ? trial.points.slice(-run.points.length) : run.points,
    reference: isTrial ? trial.reference : run.reference,
  }
  return { run: located, record: stored ?? { head, points: [] }, place: { tree, folder: place } }
}

/** Measures the last step of a run, draws a grid of its samples to `path` if it is its end, and returns the point. */
async function nextPoint(
  { run, place }: Open,
  losses: readonly LossRow[],
  isTrial: boolean,
  path: string,
): Promise<Point> {
  const { curve, end: more, grid } = isTrial ? trial.samples : samples
  const { guidance: scale } = run
  const measures = await measure(place, run, curve)
  if (losses.at(-1)![0] < run.points.at(-1)!) return pointOf(losses, measures)
  const end = run.end ? await measure(place, run, more) : undefined
  const guided = scale === undefined ? undefined : await measure(place, run, { ...curve, guidance: scale })
  if (run.seed === 0) await drawGrid(place, run, path, grid)
  return pointOf(losses, measures, { ...(end && { end }), ...(guided && { guided: { scale: scale!, ...guided } }) })
}

await main(async () => {
  const {
    name,
    budget,
    out,
    trial: isTrial,
  } = readFlags({
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
  const until = performance.now() + 60_000 * minutesOf(budget)
  const left = () => Math.min(longest, (until - performance.now()) / 60_000)
  const { claim, runs } = experiments[name]
  console.log(claim)
  const records = isTrial ? resolve(out, 'records') : dataFolder
  const every = isTrial ? trial.saveEvery : saveEvery
  const over = `the time is over; continue with: npm run evidence -- ${name} --out ${out}`
  const opened: Open[] = []
  for (const run of runs) opened.push(await open(name, run, records, out, isTrial))
  const longestCurve = Math.max(...runs.map(({ points }) => points.length))
  // Seed by seed and point by point, so that an early end leaves curves that can be compared; in a seed, runs that start
  // from others come last.
  const seeds = [...new Set(runs.map(({ seed }) => seed))].sort((a, b) => a - b)
  const groups = seeds.flatMap(seed =>
    [false, true].map(follows => opened.filter(({ run }) => run.seed === seed && (run.from !== undefined) === follows)),
  )
  const turns = groups.flatMap(group =>
    Array.from({ length: longestCurve }, (_, k) => group.map(each => [each, k] as const)).flat(),
  )
  for (const [each, k] of turns) {
    const { run, place, record } = each
    const step = run.points[k]
    const { head, points } = readRecord(records, name, run.name) ?? record
    if (step === undefined || points.some(point => point.step === step)) continue
    if (left() < 0.1) return console.log(over)
    console.log(`${run.name}: training to step ${step}`)
    const command = [...commandOf(run, run.from), ...(isTrial ? trial.flags : [])]
    const finished = await trainTo(place, command, { step, minutes: left(), saveEvery: every })
    if (!finished) return console.log(over)
    const losses = lossesOf(place.folder, points.at(-1)?.step ?? 0, step, every)
    const path = join(isTrial ? records : pagesFolder, 'samples', `${name}-${run.name}.png`)
    const point = await nextPoint(each, losses, isTrial, path)
    writeRecord(records, { head, points: [...points, point] })
    const { heldOut, distance } = point
    console.log(`${run.name}: step ${step}, held-out loss ${heldOut.toFixed(4)}, distance ${distance.toFixed(2)}`)
  }
  console.log(`${name}: all points are measured`)
})
