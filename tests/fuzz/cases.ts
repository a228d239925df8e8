/**
 * One case of fuzzing: a right file of a target, changed by what (target, seed, number) say, and read. Needs Node. run.ts runs
 * many of them, each target in a process of its own; fuzz.test.ts a few.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rng } from '../../core/random.ts'
import { mutated } from './mutate.ts'
import { ours, seeded, type Target } from './targets.ts'

export interface Finding {
  readonly target: string
  readonly number: number
  readonly file: string
  readonly what: string
}

/** How long a file of this size may take to read, and how much memory it may take at its most, beyond what is there. */
const milliseconds = 10_000
const memory = (bytes: number) => 2 ** 28 + 64 * bytes

/** Runs cases of a target. The folder is the target's own. */
export async function openCases(target: Target, seed: number, folder: string) {
  const files = await seeded(target, folder)
  const names = [...files.keys()]
  const others = [...files.values()]

  /** Case `number`: null where it was read or refused as it should be. */
  return async function run(number: number): Promise<Finding | null> {
    const random = rng(seed).fork(target.name).fork(number)
    const file = names[number % names.length]
    const path = join(folder, file)
    const bytes = mutated(files.get(file)!, others, random)
    writeFileSync(path, bytes)
    const before = process.resourceUsage().maxRSS
    const start = performance.now()
    const what = (await complaint(() => target.read(folder, path))) ?? overuse(bytes.length, before, start)
    writeFileSync(path, files.get(file)!)
    return what === null ? null : { target: target.name, number, file, what }
  }
}

/** Returns a complaint if `read` ended with an unexpected error, else null. */
async function complaint(read: () => Promise<void>): Promise<string | null> {
  try {
    await read()
    return null
  } catch (error) {
    if (!ours.some(kind => error instanceof kind))
      return `an error that is not for people: ${error instanceof Error ? (error.stack ?? error.message) : error}`
    const { message } = error as Error
    if (message.includes('\n') || message.trim() === '' || message.length > 2000)
      return `a message that is not one line: ${JSON.stringify(message.slice(0, 3000))}`
    return null
  }
}

function overuse(bytes: number, before: number, start: number): string | null {
  const took = performance.now() - start
  if (took > milliseconds) return `${(took / 1000).toFixed(1)} s for ${bytes} bytes`
  const grew = 1024 * (process.resourceUsage().maxRSS - before)
  return grew > memory(bytes) ? `${(grew / 2 ** 20).toFixed(0)} MiB more for ${bytes} bytes` : null
}
