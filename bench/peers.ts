/**
 * `npm run bench:peers`: the same works by other frameworks, each in a process of its own, in one run. Every peer first
 * shows that it computes what demask does; then they take turns, round after round, so that a machine that slows down
 * slows all. A slow one gets fewer runs. What a peer cannot do, or a peer that cannot be installed or run, is listed
 * with the reason. Needs Node; PyTorch where Python has it (DEMASK_PYTHON, else python3).
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { UserError } from '../io/user-error.ts'
import { PeerProcess } from './peer-process.ts'
import { type WorkName, works, writeProblem } from './peers/problem.ts'
import { cell, keep, machineNow, warnOfLoad } from './record.ts'
import { median, table } from './table.ts'

interface PeerOptions {
  readonly id: string
  readonly threads: number
  /** Script in peers/, and what it is given after the folder. */
  readonly script: string
  readonly args?: readonly string[]
}

const peers: readonly PeerOptions[] = [
  { id: 'demask', threads: 1, script: 'demask.ts', args: ['1'] },
  { id: 'demask', threads: 2, script: 'demask.ts', args: ['2'] },
  { id: 'torch', threads: 1, script: 'torch_peer.py', args: ['1'] },
  { id: 'torch', threads: 2, script: 'torch_peer.py', args: ['2'] },
  { id: 'jax-js', threads: 1, script: 'jax.ts' },
  { id: 'tfjs-tuned', threads: 1, script: 'tfjs.ts', args: ['tuned'] },
  { id: 'tfjs', threads: 1, script: 'tfjs.ts' },
  { id: 'js-pytorch', threads: 1, script: 'js-pytorch.ts' },
  { id: 'gpu.js', threads: 1, script: 'gpu.ts' },
  { id: 'onnxruntime', threads: 1, script: 'onnx.ts', args: ['1'] },
  { id: 'onnxruntime', threads: 2, script: 'onnx.ts', args: ['2'] },
]

export interface PeerTiming {
  readonly min: number
  readonly median: number
  readonly runs: number
}

export interface PeerRow {
  readonly name: string
  readonly threads: number
  readonly timings: Partial<Record<WorkName, PeerTiming>>
  /** Most bytes that the process had in memory after a work. */
  readonly resident?: number
}

/** Results of `npm run bench:peers` in a recorded run. */
export interface PeerResults {
  readonly works: readonly { readonly id: WorkName; readonly name: string }[]
  readonly peers: readonly PeerRow[]
  /** Works that were not timed, with the reason. */
  readonly absent: readonly { readonly name: string; readonly reason: string }[]
}

/** How far results may lie apart, of the largest value compared. */
const tolerance = 2e-3
/** Milliseconds of one work after which a peer gets no more rounds. */
const enough = 20_000
const rounds = 5

interface Runner {
  readonly options: PeerOptions
  readonly process: PeerProcess
  readonly timings: Partial<Record<WorkName, PeerTiming>>
  name: string
  resident: number
}

const label = ({ id, threads }: PeerOptions) => `${id} × ${threads}`

/** Installs what peers/package.json asks for; a line that says what went wrong, if something did. */
function install(): string | undefined {
  const folder = fileURLToPath(new URL('peers/', import.meta.url))
  if (existsSync(join(folder, 'node_modules/.package-lock.json'))) return undefined
  console.log('installing the peers (800 MB, once)')
  // Scripts would build what js-pytorch draws with, and fetch onnxruntime's CUDA libraries: neither is used.
  const { status, stderr, error } = spawnSync(
    'npm',
    ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    },
  )
  if (status === 0) return undefined
  return error?.message ?? stderr.trim().split('\n').at(-1) ?? `npm ci ended with ${status}`
}

/** The worst distance of two lists of values, of the largest one; Infinity where they cannot be compared. */
function apart(values: readonly number[], wanted: readonly number[]): number {
  if (values.length !== wanted.length) return Infinity
  const scale = Math.max(...wanted.map(Math.abs))
  const worst = Math.max(...values.map((value, i) => Math.abs(value - wanted[i]))) / scale
  return Number.isNaN(worst) ? Infinity : worst
}

/** Starts every peer that can be started. */
async function start(
  options: readonly PeerOptions[],
  folder: string,
  absent: (name: string, reason: string) => void,
): Promise<Runner[]> {
  const runners: Runner[] = []
  for (const each of options) {
    const process = new PeerProcess(each.script, [folder, ...(each.args ?? [])])
    const hello = await process.hello()
    if (typeof hello === 'string') {
      absent(label(each), hello)
      continue
    }
    for (const [work, reason] of Object.entries(hello.without))
      absent(`${label(each)}, ${works[work as WorkName].name}`, reason)
    runners.push({ options: each, process, timings: {}, name: hello.version, resident: 0 })
  }
  return runners
}

/** Checks one work against demask's values, then times those who agree, in turns. */
async function timeWork(
  work: WorkName,
  runners: readonly Runner[],
  seconds: number,
  absent: (name: string, reason: string) => void,
): Promise<void> {
  let wanted: readonly number[] | undefined
  const agreeing: { readonly runner: Runner; readonly times: number[]; readonly losses: number[] }[] = []
  for (const runner of runners.filter(({ process }) => process.does(work))) {
    const problem = (reason: string) => absent(`${label(runner.options)}, ${works[work].name}`, reason)
    const values = await runner.process.check(work)
    if (typeof values === 'string') problem(values)
    else {
      wanted ??= values
      const distance = apart(values, wanted)
      if (distance <= tolerance) agreeing.push({ runner, times: [], losses: [] })
      else problem(`its result is another one: ${distance.toExponential(1)} of the largest value apart`)
    }
  }
  for (let round = 0; round < rounds; round++)
    for (const { runner, times, losses } of agreeing) {
      if (times.reduce((a, b) => a + b, 0) > enough || !runner.process.does(work)) continue
      const answer = await runner.process.time(work, seconds)
      if (typeof answer === 'string') {
        absent(`${label(runner.options)}, ${works[work].name}`, answer)
        continue
      }
      times.push(...answer.times)
      losses.push(...answer.losses)
      runner.resident = Math.max(runner.resident, answer.resident)
    }
  const reference = agreeing[0]?.losses ?? []
  for (const { runner, times, losses } of agreeing) {
    // A training step changes the weights: the second loss tells whether the optimizers agree too.
    if (losses.length > 0 && apart(losses.slice(0, 1), reference.slice(0, 1)) > tolerance)
      absent(
        `${label(runner.options)}, ${works[work].name}`,
        `its loss after a step is ${losses[0]}, ours ${reference[0]}`,
      )
    else if (times.length > 0)
      runner.timings[work] = { min: Math.min(...times), median: median(times), runs: times.length }
  }
}

/** Runs everything; prints the table, and how the first row (demask) compares. */
async function compare(chosen: readonly PeerOptions[], seconds: number): Promise<PeerResults> {
  const folder = mkdtempSync(join(tmpdir(), 'demask-peers-'))
  const missing: { name: string; reason: string }[] = []
  const absent = (name: string, reason: string) => {
    console.log(`  ${name}: ${reason}`)
    missing.push({ name, reason })
  }
  try {
    writeProblem(folder)
    const runners = await start(chosen, folder, absent)
    try {
      for (const work of Object.keys(works) as WorkName[]) {
        console.log(works[work].name)
        await timeWork(work, runners, seconds, absent)
      }
    } finally {
      for (const { process } of runners) process.end()
    }
    return {
      works: (Object.keys(works) as WorkName[]).map(id => ({ id, name: works[id].name })),
      peers: runners.map(({ options, name, timings, resident }) => ({
        name,
        threads: options.threads,
        timings,
        ...(resident === 0 ? {} : { resident }),
      })),
      absent: missing,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function print({ peers, works: all }: PeerResults): void {
  for (const { id, name } of all) {
    const rows = peers.flatMap(({ name, threads, timings }) => {
      const timing = timings[id]
      if (timing === undefined) return []
      const ours = peers.find(peer => peer.name.startsWith('demask') && peer.threads === threads)?.timings[id]
      const { flops, bytes } = works[id]
      const rate =
        flops === undefined
          ? `${(bytes! / timing.min / 1e6).toFixed(1)} GB/s   `
          : `${(flops / timing.min / 1e6).toFixed(1)} GFLOP/s`
      const ratio = ours === undefined ? '' : (timing.min / ours.min).toFixed(2)
      return [[name, String(threads), cell(timing), rate, ratio, String(timing.runs)]]
    })
    if (rows.length > 0)
      console.log(`\n${table([[name, 'threads', 'min / median ms', 'at best', 'of our time', 'runs'], ...rows])}`)
  }
}

await main(async () => {
  const ids = [...new Set(peers.map(({ id }) => id))]
  const { record, only, seconds } = readFlags({
    command: 'npm run bench:peers --',
    about: 'The same works by demask and by other frameworks, in turns.',
    flags: {
      record: { type: 'switch', about: 'keep the figures in bench/README.md and bench/history' },
      only: { type: 'list', choices: ids, about: 'these beside demask' },
      seconds: { type: 'number', min: 0, default: 0.4, about: 'how long a work is repeated in one of its turns' },
    },
    examples: [
      ['', 'all of them, a quarter of an hour'],
      ['--only torch,jax-js', 'two of them'],
    ],
  })
  if (record && only.length < ids.length)
    throw new UserError(`bench:peers: --record: expected with all peers, got ${only}`)
  const machine = machineNow()
  warnOfLoad(machine)
  const problem = install()
  if (problem !== undefined) console.log(`npm could not install the peers: ${problem}`)
  const chosen = peers.filter(({ id }) => id === 'demask' || only.includes(id))
  const results = await compare(chosen, seconds)
  print(results)
  if (record) keep('peers', { machine, results })
})
