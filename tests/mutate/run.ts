/**
 * `npm run mutate`: changes the source in N places (default 300), one at a time, each in a copy of the tree, and runs
 * tests until one notices. What none notices is a survivor: it asks for a test, or for a line in equivalent.json that
 * says why no test can notice. Two at a time. Outcomes are kept in runs/mutate and not computed again, after Ctrl-C
 * either; --again tries survivors again, after tests were added. Prints the score with Wilson's interval at 95 %. Exit
 * code 1 where there are survivors. Needs Node.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { replaceFile } from '../../io/replace.ts'
import { UserError } from '../../io/user-error.ts'
import { duration } from '../../training/progress.ts'
import { read, root } from '../repo/markdown.ts'
import { changeOf, type Mutant, mutated } from './mutants.ts'
import { isEquivalent, population, sample, testsOf, wilson } from './plan.ts'

/** Time limit of a test: `times` its time on unchanged code, plus `seconds`. */
const patience = { seconds: 30, times: 5 }
const kept = join(root, 'runs/mutate')

interface Outcome {
  /** The test that noticed; null for a survivor. */
  readonly by: string | null
  readonly how: 'failed' | 'too long' | 'ended' | 'survived'
  readonly seconds: number
}

const running = new Set<ChildProcess>()

/** Runs a test file in a tree until its end, its first failure, or for `seconds`. */
function runTest(tree: string, test: string, seconds: number): Promise<Exclude<Outcome['how'], 'survived'> | 'passed'> {
  return new Promise(resolve => {
    const args = [...process.execArgv, '--max-old-space-size=2048', `tests/${test}.test.ts`]
    const env = { ...process.env, NO_COLOR: '1', DEMASK_THREADS: '1' }
    const child = spawn(process.execPath, args, { cwd: tree, env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
    running.add(child)
    let how: 'failed' | 'too long' | 'ended' = 'ended'
    let said = ''
    const end = (why: typeof how) => {
      how = why
      killGroup(child)
    }
    const timer = setTimeout(end, 1000 * seconds, 'too long')
    child.stdout.setEncoding('utf8').on('data', chunk => {
      said += chunk
      if (said.includes('✘')) end('failed')
    })
    child.on('close', code => {
      clearTimeout(timer)
      running.delete(child)
      resolve(code === 0 && /^ {2}Total: +[1-9]/m.test(said) ? 'passed' : how)
    })
  })
}

/** The process and those it started. */
function killGroup(child: ChildProcess): void {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

/** A copy of what tests need of the tree. */
function copyTree(place: string, name: string): string {
  const tree = join(place, name)
  for (const part of [
    'core',
    'nn',
    'diffusion',
    'models',
    'examples',
    'cli',
    'tests',
    'assets',
    'package.json',
    'tsconfig.json',
  ])
    cpSync(join(root, part), join(tree, part), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'))
  return tree
}

/** Limits of time by test, from a run of each where nothing is changed; asked for when they are needed. */
class Limits {
  readonly #tree: string
  readonly #seconds = new Map<string, Promise<number>>()

  constructor(tree: string) {
    this.#tree = tree
  }

  of(test: string): Promise<number> {
    if (!this.#seconds.has(test)) this.#seconds.set(test, this.#measure(test))
    return this.#seconds.get(test)!
  }

  async #measure(test: string): Promise<number> {
    const start = performance.now()
    const how = await runTest(this.#tree, test, 600)
    if (how !== 'passed')
      throw new Error(`mutate: tests/${test}.test.ts: expected it to pass before anything is changed, got '${how}'`)
    return patience.seconds + (patience.times * (performance.now() - start)) / 1000
  }
}

/** Applies a mutant to a tree, runs tests until one notices, and takes it back. */
async function attempt(tree: string, mutant: Mutant, limits: Limits): Promise<Outcome> {
  const path = join(tree, mutant.file)
  const source = readFileSync(path, 'utf8')
  const start = performance.now()
  writeFileSync(path, mutated(source, mutant))
  try {
    for (const test of testsOf(mutant)) {
      const how = await runTest(tree, test, await limits.of(test))
      if (how !== 'passed') return { by: test, how, seconds: (performance.now() - start) / 1000 }
    }
    return { by: null, how: 'survived', seconds: (performance.now() - start) / 1000 }
  } finally {
    writeFileSync(path, source)
  }
}

/** Names of mutants in the file of outcomes, independent of line numbers: the line's text, and a count of equal ones. */
function named(mutants: readonly Mutant[]): Map<string, Mutant> {
  const names = new Map<string, Mutant>()
  for (const mutant of mutants) {
    const base = `${mutant.file} | ${mutant.text} | ${changeOf(mutant)}`
    let name = base
    for (let n = 2; names.has(name); n++) name = `${base} #${n}`
    names.set(name, mutant)
  }
  return names
}

/** Two workers take mutants until none is left. */
async function tryAll(todo: [string, Mutant][], outcomes: Record<string, Outcome>, keptAt: string): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'demask-mutate-'))
  const clean = () => {
    for (const child of running) killGroup(child)
    rmSync(place, { recursive: true, force: true })
  }
  process.on('exit', clean)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
  const limits = new Limits(copyTree(place, 'unchanged'))
  const queue = [...todo]
  const begun = performance.now()
  let done = 0
  const work = async (tree: string) => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [name, mutant] = next
      const outcome = await attempt(tree, mutant, limits)
      outcomes[name] = outcome
      replaceFile(keptAt, `${JSON.stringify(outcomes, null, 2)}\n`)
      done++
      const left = ((performance.now() - begun) / 1000 / done) * (todo.length - done)
      const verdict = outcome.by === null ? 'SURVIVED' : `${outcome.how} ${outcome.by}`.padEnd(8)
      console.log(
        `${done}/${todo.length} ${mutant.file}:${mutant.line} ${changeOf(mutant).slice(0, 60)}: ${verdict}, ` +
          `${outcome.seconds.toFixed(0)} s; ${duration(left)} left`,
      )
    }
  }
  await Promise.all(['one', 'two'].map(name => work(copyTree(place, name))))
}

await main(async () => {
  const {
    mutants: count,
    seed,
    only,
    again,
  } = readFlags({
    command: 'npm run mutate --',
    about: 'Changes the source in some places, one at a time, and tells whether the tests notice.',
    flags: {
      mutants: { type: 'integer', min: 1, default: 300, about: 'how many changes' },
      seed: { type: 'integer', min: 0, default: 0, about: 'which ones' },
      only: { type: 'text', value: 'PART', default: '', about: 'of files whose path contains this' },
      again: { type: 'switch', about: 'try survivors again, after tests were added' },
    },
    examples: [
      ['', 'all, some hours; stopped, it goes on where it was'],
      ['--mutants 20 --only nn/', 'a first look'],
    ],
  })
  const statePath = join(kept, `outcomes-${seed}.json`)
  const mutants = population()
  const wanted = mutants.filter(({ file }) => file.includes(only))
  if (wanted.length === 0)
    throw new UserError(`--only: expected a part of a file's path, such as nn/adan, got '${only}'`)
  const taken = sample(wanted, Math.min(count, wanted.length), seed)
  const chosen = new Set(taken.filter(mutant => !isEquivalent(mutant)))
  const all = [...named(mutants)].filter(([, mutant]) => chosen.has(mutant))
  mkdirSync(kept, { recursive: true })
  const outcomes: Record<string, Outcome> = existsSync(statePath) ? JSON.parse(readFileSync(statePath, 'utf8')) : {}
  const isDone = (name: string) => name in outcomes && !(again && outcomes[name].by === null)
  // In the order of the sample, so that a run that is stopped has seen all folders.
  const order = [...chosen]
  const todo = all.filter(([name]) => !isDone(name)).sort((a, b) => order.indexOf(a[1]) - order.indexOf(b[1]))
  console.log(
    `${taken.length} of ${wanted.length} mutants, ${taken.length - all.length} of them known to be equivalent; ${todo.length} to try`,
  )
  if (todo.length > 0) await tryAll(todo, outcomes, statePath)

  const survivors = all.filter(([name]) => outcomes[name].by === null)
  const killed = all.length - survivors.length
  const [low, high] = wilson(killed, all.length)
  for (const [, mutant] of survivors) {
    const source = read(mutant.file)
    const line = (text: string) => text.split('\n')[mutant.line - 1].trim()
    console.log(`survivor ${mutant.file}:${mutant.line} ${changeOf(mutant)}\n  - ${line(source)}`)
    console.log(`  + ${line(mutated(source, mutant))}`)
  }
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  console.log(
    `${killed} of ${all.length} killed: ${percent(killed / all.length)}, 95 % between ${percent(low)} and ${percent(high)}`,
  )
  if (survivors.length > 0) process.exitCode = 1
})
