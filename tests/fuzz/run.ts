/**
 * `npm run fuzz`: reads changed files until the time is over, some minutes for every target, and prints its findings. The
 * position is kept in runs/fuzz, and the next run continues from it; files that led to a finding are kept there too. A
 * target that hangs or dies is a finding, and continues with the next case. Exit code 1 if there is one. Needs Node.
 */

import { fork } from 'node:child_process'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { UserError } from '../../io/user-error.ts'
import { type Finding, openCases } from './cases.ts'
import { targets } from './targets.ts'

const names = targets.map(({ name }) => name)
const kept = 'runs/fuzz'
const hang = 30_000
/** A process that starts on a busy machine, under a loader, takes longer to say its first word. */
const start = 300_000

/** Message of the reading process to the watching one. */
type Message = { readonly at: number } | { readonly finding: Finding }

/** In a process of its own: cases of one target from a number on, until it is ended. */
async function readOn(name: string, seed: number, from: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'demask-fuzz-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  process.on('SIGTERM', () => process.exit())
  const run = await openCases(targets.find(target => target.name === name)!, seed, folder)
  for (let number = from; ; number++) {
    process.send!({ at: number } satisfies Message)
    const finding = await run(number)
    if (finding !== null) process.send!({ finding } satisfies Message)
    if (number % 64 === 0) await new Promise(resolve => setImmediate(resolve))
  }
}

/** Runs cases of a target from `from` until `end`. Returns the next case's number, and the findings. */
async function watch(
  name: string,
  seed: number,
  from: number,
  end: number,
): Promise<{ next: number; findings: Finding[] }> {
  const findings: Finding[] = []
  let at = from
  while (performance.now() < end) {
    const child = fork(fileURLToPath(import.meta.url), ['--seed', String(seed), '--only', name, '--from', String(at)], {
      execArgv: [...process.execArgv, '--max-old-space-size=1024'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    let said = ''
    let last = performance.now()
    let patience = start
    let ended = ''
    child.stderr!.on('data', chunk => (said = (said + chunk).slice(-2000)))
    child.on('message', (message: Message) => {
      last = performance.now()
      patience = hang
      if ('at' in message) at = message.at
      else findings.push(message.finding)
    })
    const timer = setInterval(() => {
      if (performance.now() >= end) ended = 'time'
      else if (performance.now() - last > patience) ended = `no answer for ${patience / 1000} s`
      if (ended !== '') child.kill('SIGKILL')
    }, 200)
    const code = await new Promise(resolve => child.on('exit', (code, signal) => resolve(code ?? signal)))
    clearInterval(timer)
    if (ended === 'time') break
    findings.push({ target: name, number: at, file: '?', what: ended || `it ended with ${code}: ${said}` })
    at++
  }
  return { next: at, findings }
}

async function all(chosen: readonly string[], seed: number, minutes: number): Promise<void> {
  const progress = join(kept, `progress-${seed}.json`)
  mkdirSync(kept, { recursive: true })
  const begun: Record<string, number> = existsSync(progress) ? JSON.parse(readFileSync(progress, 'utf8')) : {}
  let found = 0
  for (const name of chosen) {
    const from = begun[name] ?? 0
    const { next, findings } = await watch(name, seed, from, performance.now() + 60_000 * minutes)
    begun[name] = next
    writeFileSync(progress, `${JSON.stringify(begun, null, 2)}\n`)
    found += findings.length
    console.log(
      `${name.padEnd(12)} ${String(next - from).padStart(8)} cases, ${next} in all, ${findings.length} findings`,
    )
    for (const finding of findings) {
      console.log(`  ${name}:${finding.number} (${finding.file}): ${finding.what.split('\n').slice(0, 3).join(' ')}`)
      appendFileSync(join(kept, 'findings.jsonl'), `${JSON.stringify({ seed, ...finding })}\n`)
    }
  }
  console.log(`${found} findings`)
  process.exitCode = found === 0 ? 0 : 1
}

/** One case again, with its stack and a copy of its file. */
async function replay(word: string, seed: number): Promise<void> {
  const [name, number] = word.split(':')
  const target = targets.find(each => each.name === name)
  if (target === undefined)
    throw new UserError(`--replay: expected NAME:NUMBER with one of ${names.join(', ')}, got '${word}'`)
  const folder = mkdtempSync(join(tmpdir(), 'demask-fuzz-'))
  const read = (at: string, file: string) => {
    copyFileSync(file, join(kept, `${name}-${number}`))
    return target.read(at, file)
  }
  const run = await openCases({ ...target, read }, seed, folder)
  mkdirSync(kept, { recursive: true })
  console.log((await run(Number(number)))?.what ?? 'nothing found')
  rmSync(folder, { recursive: true })
}

await main(async () => {
  const flags = readFlags({
    command: 'npm run fuzz --',
    about: 'Reads files that were changed at random: they are read, or refused with one line.',
    flags: {
      minutes: { type: 'number', min: 0, default: 3, about: 'for each reader' },
      only: { type: 'list', choices: names, about: 'these readers' },
      seed: { type: 'integer', min: 0, default: 0, about: 'of the changes' },
      replay: { type: 'text', value: 'NAME:NUMBER', about: 'one file again, with the stack' },
      from: { type: 'integer', min: 0, about: 'for the processes that read: which file to begin with' },
    },
    examples: [
      ['', 'all readers, half an hour; the next run goes on from there'],
      ['--only npz,cifar --minutes 20', 'two of them'],
    ],
  })
  if (flags.from !== undefined) await readOn(flags.only[0], flags.seed, flags.from)
  else if (flags.replay !== undefined) await replay(flags.replay, flags.seed)
  else await all(flags.only, flags.seed, flags.minutes)
})
