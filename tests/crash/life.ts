/**
 * One life of a training program, from its start to its end by itself or by a signal, and what it must leave. Needs
 * Node. The program runs in a process group of its own with the process that waits for it, as in a terminal: a signal to
 * the group is what a key press or a power cut is. Used by run.ts and crash.test.ts.
 */

import { spawn } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import type { Rng } from '../../core/index.ts'
import { latestCheckpoint, loadCheckpoint } from '../../training/index-node.ts'
import { bytesOf } from '../programs/example.ts'

/** A training program and the flags of its smallest run, all but --out, --steps, --threads and --resume. */
export interface Trainee {
  /** An example, or demask. */
  readonly program: string
  readonly args: readonly string[]
}

const small = ['--size', '8', '--batch', '1']

/** The smallest runs that the programs can do: steps of some milliseconds. */
export const trainees: Readonly<Record<string, Trainee>> = {
  dit: { program: 'demask', args: ['train', 'dit', '--optimizer', 'adan', '--held-out', '0.1', ...small] },
  mdt: { program: 'train-mdt-s', args: ['--preset', 'tiny', ...small] },
  mdtv2: { program: 'demask', args: ['train', 'mdtv2', '--optimizer', 'sgd', '--checkpoint-blocks', ...small] },
  maskdit: { program: 'train-maskdit', args: small },
  maskdm: { program: 'train-maskdm', args: ['pretrain', ...small] },
  vae: { program: 'train-vae', args: small },
}

export interface Life {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** True if a checkpoint was being written when it ended. */
  readonly whileSaving: boolean
  /** The step of the last checkpoint that was seen finished before or while it lived, 0 for none. */
  readonly finished: number
}

export interface Fate {
  readonly signal: 'SIGKILL' | 'SIGINT'
  /** Milliseconds after the start, or after a checkpoint began to be written. */
  readonly after: number
  readonly from: 'start' | 'save'
}

export interface LifeOptions {
  readonly out: string
  readonly steps: number
  readonly threads?: number
  readonly fate?: Fate
  /** Ctrl-C when this is done. */
  readonly until?: Promise<unknown>
  /** The disk is full from this write on. */
  readonly fullAtWrite?: number
}

const fullDisk = new URL('./full-disk.ts', import.meta.url).href
const hooks = [...process.execArgv]
const groups = new Set<number>()
process.on('exit', () => {
  for (const group of groups) end(group, 'SIGKILL')
})

/** Runs a program until it ends; resumes the run in `out` if there is one. */
export async function live({ program, args }: Trainee, options: LifeOptions): Promise<Life> {
  const { out, steps, threads = 1, fate, until, fullAtWrite } = options
  const path = program === 'demask' ? 'cli/index.ts' : `examples/${program}.ts`
  const file = fileURLToPath(new URL(`../../${path}`, import.meta.url))
  const preload = fullAtWrite === undefined ? [] : ['--import', fullDisk]
  const run = [
    '--out',
    out,
    '--steps',
    String(steps),
    '--threads',
    String(threads),
    ...(begun(out) ? ['--resume'] : []),
  ]
  const child = spawn(process.execPath, [...hooks, ...preload, file, ...args, ...run], {
    detached: true,
    env: { ...process.env, DEMASK_DEBUG: '', FULL_AT_WRITE: String(fullAtWrite ?? '') },
  })
  const began = Date.now()
  const group = child.pid!
  groups.add(group)
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', chunk => (stdout += chunk))
  child.stderr.on('data', chunk => (stderr += chunk))
  const timer = fate && strike(fate, out, () => end(group, fate.signal))
  let finished = stepOf(out)
  const watch = setInterval(() => {
    finished = Math.max(finished, stepOf(out))
  }, 5)
  void until?.then(() => end(group, 'SIGINT'))
  const code = await new Promise<number | null>(resolve => child.on('close', resolve))
  timer?.()
  clearInterval(watch)
  groups.delete(group)
  return { code, stdout, stderr, whileSaving: savingSince(out, began), finished }
}

const stepOf = (out: string) => latestCheckpoint(out)?.step ?? 0

/** Calls `hit` at the moment that fate has chosen, unless the function returned is called before. */
function strike({ from, after }: Fate, out: string, hit: () => void): () => void {
  if (from === 'start') {
    const timer = setTimeout(hit, after)
    return () => clearTimeout(timer)
  }
  let seenAt: number | null = null
  const start = Date.now()
  const before = latestCheckpoint(out)?.step
  const timer = setInterval(() => {
    if (seenAt === null && (savingSince(out, start) || latestCheckpoint(out)?.step !== before))
      seenAt = performance.now()
    if (seenAt === null || performance.now() < seenAt + after) return
    clearInterval(timer)
    hit()
  }, 1)
  return () => clearInterval(timer)
}

function end(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal)
  } catch {
    // All of it has ended already.
  }
}

/** True if `out` holds a run that can be resumed. */
export function begun(out: string): boolean {
  return existsSync(join(out, 'metrics.jsonl')) || latestCheckpoint(out) !== undefined
}

/** True if there is an unfinished checkpoint from `moment` or later: earlier lives may have left others. */
function savingSince(out: string, moment: number): boolean {
  if (!existsSync(out)) return false
  return readdirSync(out).some(
    name =>
      name.startsWith('.tmp-checkpoint-') &&
      (statSync(join(out, name), { throwIfNoEntry: false })?.ctimeMs ?? 0) >= moment,
  )
}

/** Files of a run at `step` that the seed determines: its log, and its checkpoint with weights, averages, moments, RNG. */
export function decided(out: string, step: number): Record<string, string> {
  const checkpoint = `checkpoint-${String(step).padStart(8, '0')}`
  const files = Object.entries(bytesOf(out)).filter(
    ([name]) => name === 'metrics.jsonl' || name.startsWith(`${checkpoint}/`),
  )
  assert.is(
    files.length,
    5,
    `${out}: expected the log and 4 files of ${checkpoint}, got ${files.map(([name]) => name)}`,
  )
  return Object.fromEntries(files)
}

/**
 * Whatever became of a run, its last checkpoint is whole, and not older than one that was finished. Throws
 * SafetensorsError, UserError.
 */
export function checkLast(out: string, { finished }: Life): void {
  const last = latestCheckpoint(out)
  if (last !== undefined) loadCheckpoint(last.path)
  assert.ok(stepOf(out) >= finished, `${out}: expected the checkpoint of step ${finished}, got ${stepOf(out)}`)
}

/** A run that ended by itself leaves no lock and nothing unfinished. */
export function checkTidy(out: string): void {
  const left = readdirSync(out).filter(name => name.startsWith('.') || name.endsWith('.tmp'))
  assert.equal(left, [], `${out}: left behind`)
}

/** A moment for a signal: half of them at any time of a life, half within or just after the writing of a checkpoint. */
export function anyFate(random: Rng, signal: Fate['signal'], lifeMs: number): Fate {
  const [which, when] = random.uniformArray(2)
  return which < 0.5 ? { signal, from: 'start', after: lifeMs * when } : { signal, from: 'save', after: 120 * when }
}
