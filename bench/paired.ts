/**
 * `npx tsx bench/paired.ts ROOT [work...]`: this checkout beside another one in one run. A process of each takes turns,
 * run by run, and the ratio is taken pair by pair, so that a machine that slows down slows both. Two processes of the same
 * code may differ by some percent for as long as they live, so every round starts new ones. Above 1, this checkout is
 * faster. The interval is the 95 % bootstrap interval of the geometric mean of the rounds' median ratios.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { rng } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { median, table } from './table.ts'

const resamples = 2000
/** An even number, so that either side goes first as often. */
const leastPairs = 4

/** Sends a message to a child and returns its next answer. */
function ask<T>(child: ChildProcess, message?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = () => reject(new UserError('bench: a process of the comparison ended early'))
    child.once('exit', ended)
    child.once('message', answer => {
      child.off('exit', ended)
      resolve(answer as T)
    })
    if (message !== undefined) child.send(message)
  })
}

/** Geometric mean. */
function centre(ratios: readonly number[]): number {
  return Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length)
}

/** 95 % bootstrap interval of the geometric mean. */
function interval(ratios: readonly number[]): [number, number] {
  const random = rng(1)
  const { length } = ratios
  const means = Array.from({ length: resamples }, () =>
    centre(Array.from(random.uniformArray(length), u => ratios[Math.floor(u * length)])),
  ).sort((a, b) => a - b)
  return [means[Math.floor(0.025 * resamples)], means[Math.ceil(0.975 * resamples) - 1]]
}

const script = fileURLToPath(new URL('paired-process.ts', import.meta.url))
const here = fileURLToPath(new URL('..', import.meta.url))

/** Starts a process of each checkout in this order. Returns them as [there, here]. */
async function startSides(root: string, threads: number, order: readonly number[]) {
  const sides: ChildProcess[] = []
  let works: readonly string[] = []
  for (const i of order) {
    sides[i] = fork(script, [[root, here][i], String(threads)])
    works = (await ask<{ works: string[] }>(sides[i])).works
  }
  return { sides, works }
}

/**
 * Milliseconds of both sides, run by run, for about `seconds`. `order` is that of the first pair. The side that begins to work
 * later compiles while the other one is timed, so a pair runs before those that count.
 */
async function timePairs(
  sides: readonly ChildProcess[],
  order: readonly number[],
  work: string,
  seconds: number,
): Promise<number[][]> {
  for (const i of order) await ask(sides[i], { work })
  for (const i of order) await ask(sides[i], {})
  const pairs: number[][] = []
  const end = performance.now() + 1000 * seconds
  while (pairs.length < leastPairs || pairs.length % 2 === 1 || performance.now() < end) {
    const ms: number[] = []
    for (const i of pairs.length % 2 === 0 ? order : order.toReversed())
      ms[i] = (await ask<{ ms: number }>(sides[i], {})).ms
    pairs.push(ms)
  }
  return pairs
}

await main(async () => {
  const { root, names, threads, rounds, seconds } = readFlags({
    command: 'npx tsx bench/paired.ts',
    about: 'This checkout beside another one, run by run: the ratio of their times.',
    operands: {
      root: { about: 'folder of the other checkout, with its packages installed and its wasm built' },
      names: { about: 'works to compare; all where there are none', many: true, optional: true },
    },
    flags: {
      threads: { type: 'integer', min: 1, default: 2, about: 'threads of each side' },
      rounds: { type: 'integer', min: 2, default: 8, about: 'times that both processes are started anew' },
      seconds: { type: 'number', min: 0, default: 4, about: 'time for each work in a round, at least 4 pairs' },
    },
    examples: [
      ['../before', 'every work'],
      ['../before ditStep --threads 1', 'one work on one thread'],
    ],
  })
  if (!existsSync(`${root}/bench/workloads.ts`))
    throw new UserError(`bench: expected the folder of a checkout of demask, got ${root}`)
  const timed = new Map<string, number[][][]>()
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? [0, 1] : [1, 0] // of there and here
    const { sides, works } = await startSides(root, threads, order)
    try {
      const unknown = names.find(name => !works.includes(name))
      if (unknown !== undefined) throw new UserError(`bench: expected ${works.join(', ')}, got '${unknown}'`)
      for (const work of names.length > 0 ? names : works) {
        process.stderr.write(`round ${round + 1} of ${rounds}: ${work}\n`)
        timed.set(work, [...(timed.get(work) ?? []), await timePairs(sides, order, work, seconds)])
      }
    } finally {
      for (const side of sides) side.disconnect()
    }
  }
  const rows = [['work', 'pairs', 'there ms', 'here ms', 'there / here', '95 %']]
  for (const [work, all] of timed) {
    const ratios = all.map(pairs => median(pairs.map(([there, now]) => there / now)))
    const [low, high] = interval(ratios)
    const pairs = all.flat()
    const ms = [0, 1].map(i => Math.min(...pairs.map(pair => pair[i])).toFixed(2))
    rows.push([work, `${pairs.length}`, ...ms, centre(ratios).toFixed(3), `${low.toFixed(3)} to ${high.toFixed(3)}`])
  }
  console.log(table(rows))
})
