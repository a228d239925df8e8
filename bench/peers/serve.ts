/**
 * The child's side of the talk with ../peers.ts: a line of JSON asks for a check or for runs of one work, a line that
 * begins with @@ answers. A work is prepared when it is first asked for. Needs Node.
 */

import { createInterface } from 'node:readline'
import { Problem, type WorkName } from './problem.ts'

/** A work, ready to run. */
export interface Work {
  /** The timed function, which resolves with its result. A training step returns its loss. */
  run(): number | undefined | Promise<number | undefined>
  /** Runs once and returns what is compared with others. */
  check(): number[] | Promise<number[]>
}

export type Works = Partial<Record<WorkName, (problem: Problem) => Work | Promise<Work>>>

const say = (message: unknown) => process.stdout.write(`@@${JSON.stringify(message)}\n`)

/** Answers until the input ends. `without` says why a work is missing. */
export async function serve(
  version: string,
  works: Works,
  without: Partial<Record<WorkName, string>> = {},
): Promise<void> {
  const problem = new Problem(process.argv[2])
  let current: { name: WorkName; work: Work } | undefined
  say({ version, works: Object.keys(works), without })
  for await (const line of createInterface({ input: process.stdin })) {
    const { name, seconds } = JSON.parse(line) as { name: WorkName; seconds?: number }
    try {
      if (current?.name !== name) current = { name, work: await works[name]!(problem) }
      const { work } = current
      if (seconds === undefined) say({ values: await work.check() })
      else {
        const [times, losses]: [number[], number[]] = [[], []]
        for (const end = performance.now() + 1000 * seconds; times.length === 0 || performance.now() < end; ) {
          const start = performance.now()
          const loss = await work.run()
          times.push(performance.now() - start)
          if (loss !== undefined) losses.push(loss)
        }
        say({ times, losses, resident: process.memoryUsage().rss })
      }
    } catch (error) {
      say({ error: error instanceof Error ? error.message : String(error) })
    }
  }
  process.exit()
}
