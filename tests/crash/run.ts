/**
 * `npm run crash`: training that is killed at random moments, stopped by Ctrl-C at random moments, and left on a disk
 * that fills up at a random write, and resumed each time, ends with the bytes of an unbroken run:
 * weights, averages, moments, random streams and metrics.jsonl. Every life takes one or two threads by chance. One line
 * per life, a table at the end, exit code 1 where anything differs. Needs Node; several minutes for each program. Next:
 * life.ts.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { type Rng, rng } from '../../core/index.ts'
import { latestCheckpoint } from '../../training/index-node.ts'
import {
  anyFate,
  checkLast,
  checkTidy,
  decided,
  type Life,
  type LifeOptions,
  live,
  type Trainee,
  trainees,
} from './life.ts'

/** Steps of a run: checkpoints after 50, 100 and the last. */
const steps = 120
const root = mkdtempSync(join(tmpdir(), 'demask-crash-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

/** The first call of a mount that works tells whether this process may. */
function mount(size: string, folder: string, ...options: string[]): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', [...options, `size=${size}`].join(), 'tmpfs', folder], {
      stdio: 'pipe',
    })
    return true
  } catch {
    return false
  }
}

interface Tally {
  readonly what: string
  /** Lives that were cut short, and how many of them while a checkpoint was written. */
  cut: number
  whileSaving: number
  /** Runs that came to their end, each compared with the unbroken one. */
  runs: number
}

class Trial {
  readonly #name: string
  readonly #trainee: Trainee
  readonly #random: Rng
  #wanted: Record<string, string> = {}
  #lifeMs = 0

  constructor(name: string, random: Rng) {
    this.#name = name
    this.#trainee = trainees[name]
    this.#random = random
  }

  /** The run that nothing happens to. */
  async unbroken(): Promise<void> {
    const out = join(root, `${this.#name}-unbroken`)
    const began = performance.now()
    const life = await this.#live({ out, steps })
    assert.equal([life.code, life.stderr], [0, ''])
    checkTidy(out)
    this.#wanted = decided(out, steps)
    this.#lifeMs = performance.now() - began
    console.log(`${this.#name}: unbroken, ${steps} steps in ${(this.#lifeMs / 1000).toFixed(1)} s`)
    rmSync(out, { recursive: true })
  }

  /** Signals until `count` of them have cut a life short; runs that end are compared and begun anew. */
  async signals(signal: 'SIGKILL' | 'SIGINT', count: number): Promise<Tally> {
    const tally: Tally = { what: `${this.#name}: ${signal}`, cut: 0, whileSaving: 0, runs: 0 }
    while (tally.cut < count || tally.runs === 0) {
      const out = join(root, `${this.#name}-${signal}-${tally.runs}`)
      for (;;) {
        const fate = tally.cut < count ? anyFate(this.#random, signal, 0.6 * this.#lifeMs) : undefined
        const life = await this.#live({ out, steps, fate })
        checkLast(out, life)
        if (life.code === 0 && latestCheckpoint(out)?.step === steps) break
        if (signal === 'SIGKILL') assert.is(life.code, null, life.stderr)
        // Before the first step a signal ends the program at once, as it does any other.
        else assert.ok(life.code === 0 || life.code === 130 || life.code === null, life.stderr)
        assert.is(life.stderr, '')
        tally.cut++
        if (life.whileSaving) tally.whileSaving++
        const at = latestCheckpoint(out)?.step ?? 'none'
        const moment = `${fate!.after.toFixed(0)} ms after its ${fate!.from}`
        console.log(`  ${tally.cut} ${signal} ${moment}${life.whileSaving ? ', while saving' : ''}; checkpoint: ${at}`)
      }
      this.#compare(out)
      tally.runs++
    }
    return tally
  }

  /** Runs whose disk is full from a random write on, and has room again later. */
  async fills(count: number): Promise<Tally> {
    const probe = join(root, 'probe')
    mkdirSync(probe, { recursive: true })
    const mounts = mount('64k', probe)
    if (mounts) execFileSync('umount', [probe])
    const how = mounts ? 'a full tmpfs' : 'a full disk, injected'
    const tally: Tally = { what: `${this.#name}: ${how}`, cut: 0, whileSaving: 0, runs: 0 }
    while (tally.cut < count) {
      const disk = join(root, `${this.#name}-disk-${tally.runs}`)
      mkdirSync(disk)
      const out = join(disk, 'run')
      const [chance] = this.#random.uniformArray(1)
      const megabytes = 1 + Math.floor(chance * 100)
      if (mounts) assert.ok(mount(`${megabytes}m`, disk))
      try {
        const life = await this.#live({ out, steps, fullAtWrite: mounts ? undefined : 1 + Math.floor(chance * 1500) })
        checkLast(out, life)
        const at = latestCheckpoint(out)
        if (life.code !== 0) {
          assert.is(life.code, 1)
          assert.match(life.stderr, /^error: [^\n]*no space left on the disk[^\n]*\n$/)
          if (at !== undefined) assert.ok(life.stderr.includes(at.path), life.stderr)
          tally.cut++
          console.log(`  ${tally.cut} ${mounts ? `${megabytes} MB: ` : ''}${life.stderr.trim()}`)
          if (mounts) assert.ok(mount('1g', disk, 'remount'))
          const after = await this.#live({ out, steps })
          assert.equal([after.code, after.stderr], [0, ''])
        }
        this.#compare(out)
        tally.runs++
      } finally {
        if (mounts) execFileSync('umount', [disk])
      }
    }
    return tally
  }

  #live(options: LifeOptions): Promise<Life> {
    const [threads] = this.#random.integersArray(1, 3, 1)
    return live(this.#trainee, { ...options, threads })
  }

  #compare(out: string): void {
    checkTidy(out)
    assert.equal(decided(out, steps), this.#wanted)
    console.log(`  ${this.#name}: the same bytes as the unbroken run`)
    rmSync(out, { recursive: true })
  }
}

await main(async () => {
  const { kills, stops, fills, programs, seed } = readFlags({
    command: 'npm run crash --',
    about:
      'Training that is killed, stopped and out of disk space at random moments ends with the bytes of an unbroken run.',
    flags: {
      kills: { type: 'integer', min: 0, default: 50, about: 'SIGKILLs of each program' },
      stops: { type: 'integer', min: 0, default: 50, about: 'Ctrl-Cs of each program' },
      fills: { type: 'integer', min: 0, default: 10, about: 'full disks of each program' },
      programs: { type: 'list', choices: Object.keys(trainees), about: 'which ones' },
      seed: { type: 'integer', min: 0, default: 0, about: 'of the moments' },
    },
    examples: [
      ['', 'all of it, half an hour'],
      ['--programs mdt --kills 5 --stops 0 --fills 0', 'a first look'],
    ],
  })
  const began = performance.now()
  const tallies: Tally[] = []
  for (const name of programs) {
    const trial = new Trial(name, rng(seed).fork(name))
    await trial.unbroken()
    tallies.push(await trial.signals('SIGKILL', kills))
    tallies.push(await trial.signals('SIGINT', stops))
    tallies.push(await trial.fills(fills))
  }
  console.table(
    tallies.map(({ what, cut, whileSaving, runs }) => ({
      what,
      'cut short': cut,
      'while saving': whileSaving,
      'runs compared, all equal': runs,
    })),
  )
  console.log(`seed ${seed}, ${((performance.now() - began) / 60_000).toFixed(1)} minutes`)
})
