/**
 * Where measurements with `--record` are kept: bench/results.json has the last ones of each command, with the machine they were
 * made on. The tables in README.md are made anew from it, and a line is added to history/. Needs Node.
 */

import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { OwnResults } from './full.ts'
import type { PeerResults } from './peers.ts'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly node: string
  readonly date: string
  /** Processes that wanted a core when the run began, on average of a minute: near 0 on a quiet machine. */
  readonly load: number
}

interface Recorded<R> {
  readonly machine: Machine
  readonly results: R
}

interface Results {
  own?: Recorded<OwnResults>
  peers?: Recorded<PeerResults>
}

const place = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** This machine, now: to be asked before anything runs. */
export function machineNow(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    date: new Date().toISOString().slice(0, 16),
    load: Math.round(100 * loadavg()[0]) / 100,
  }
}

/** Says so where others are using the machine. */
export function warnOfLoad({ load }: Machine): void {
  if (load > 0.5) console.log(`others are using this machine (load ${load}): figures will be lower than it can do`)
}

/** Writes results.json, the README's tables and a line of history. */
export function keep<K extends 'own' | 'peers'>(kind: K, recorded: NonNullable<Results[K]>): void {
  const path = place('results.json')
  const before: Results = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
  const after: Results = { ...before, [kind]: recorded }
  writeFileSync(path, `${JSON.stringify(after, rounded, 2)}\n`)
  mkdirSync(place('history'), { recursive: true })
  appendFileSync(place('history/runs.jsonl'), `${JSON.stringify({ kind, ...recorded }, rounded)}\n`)
  const readme = readFileSync(place('README.md'), 'utf8')
  const parts = /^(.*<!-- results -->\n).*(<!-- end of results -->.*)$/s.exec(readme)
  if (parts === null) throw new Error('bench/README.md: the markers of the results are missing')
  writeFileSync(place('README.md'), `${parts[1]}${markdownOf(after)}${parts[2]}`)
}

/** Four digits are more than a measurement is good for. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value
}

/** Both tables, as they stand between the markers of README.md. */
export function markdownOf({ own, peers }: Results): string {
  const lines: string[] = ['']
  if (own !== undefined) {
    const { ceilings, figures, gain, build, fallbacks } = own.results
    lines.push(`**Against the machine.** ${describe(own.machine)}, ${build} build.`, '')
    for (const { threads, gflops, gbs } of ceilings)
      lines.push(
        `- ${threads} thread${threads > 1 ? 's' : ''}: multiply-adds ${gflops.toFixed(1)} GFLOP/s, memory ${gbs.toFixed(1)} GB/s`,
      )
    if (gain !== undefined)
      lines.push(
        `- from one thread to two: DiT block ${gain.block.toFixed(2)} ×, multiply-adds ${gain.multiplyAdds.toFixed(2)} ×`,
      )
    lines.push(`- kernels that ran as plain loops: ${fallbacks}`, '')
    const rows = figures.map(({ name, threads, min, median, rate, unit, fraction }) => [
      name,
      String(threads),
      digits(min),
      digits(median),
      `${rate.toFixed(1)} ${unit}`,
      `${(100 * fraction).toFixed(0)} %`,
    ])
    lines.push(...grid([['', 'threads', 'min ms', 'median ms', 'at best', 'of the ceiling'], ...rows]), '')
  }
  if (peers !== undefined) {
    const { peers: all, works, absent } = peers.results
    lines.push(`**Beside others.** ${describe(peers.machine)}. Milliseconds, minimum / median.`, '')
    const rows = all.map(({ name, threads, timings, resident }) => [
      name,
      String(threads),
      ...works.map(({ id }) => cell(timings[id])),
      resident === undefined ? '' : `${(resident / 1e6).toFixed(0)} MB`,
    ])
    lines.push(...grid([['', 'threads', ...works.map(({ name }) => name), 'resident'], ...rows]), '')
    for (const { name, reason } of absent) lines.push(`- ${name}: ${reason}`)
    lines.push('')
  }
  return lines.join('\n')
}

function describe({ cpu, cores, memoryGiB, node, date, load }: Machine): string {
  return `${cpu}, ${cores} cores, ${memoryGiB} GiB, Node ${node}, ${date} UTC, load at the start ${load}`
}

/** Minimum and median. */
export function cell(timing: { readonly min: number; readonly median: number } | undefined): string {
  return timing === undefined ? '–' : `${digits(timing.min)} / ${digits(timing.median)}`
}

const digits = (ms: number) => (ms >= 100 ? ms.toFixed(0) : ms.toFixed(ms >= 10 ? 1 : 2))

function grid(rows: readonly (readonly string[])[]): string[] {
  const line = (row: readonly string[]) => `| ${row.join(' | ')} |`
  return [line(rows[0]), `|---|${'---:|'.repeat(rows[0].length - 1)}`, ...rows.slice(1).map(line)]
}
