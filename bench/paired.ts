/**
 * `npx tsx bench/paired.ts ROOT [work...]`: this checkout beside another one in one run. A process of each takes turns,
 * run by run, and the ratio is taken pair by pair, so that a machine that slows down slows both. Above 1, this checkout
 * is faster. The interval is the 95 % bootstrap interval of the median ratio.
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

/** 95 % bootstrap interval of the median. */
function interval(values: readonly number[]): [number, number] {
  const random = rng(1)
  const medians = Array.from({ length: resamples }, () =>
    median(Array.from(random.uniformArray(values.length), u => values[Math.floor(u * values.length)])),
  ).sort((a, b) => a - b)
  return [medians[Math.floor(0.025 * resamples)], medians[Math.ceil(0.975 * resamples) - 1]]
}

await main(async () => {
  const { root, names, threads, seconds } = readFlags({
    command: 'npx tsx bench/paired.ts',
    about: 'This checkout beside another one, run by run: the ratio of their times.',
    operands: {
      root: { about: 'folder of the other checkout, with its packages installed and its wasm built' },
      names: { about: 'works to compare; all where there are none', many: true, optional: true },
    },
    flags: {
      threads: { type: 'integer', min: 1, default: 2, about: 'threads of each side' },
      seconds: { type: 'number', min: 0, default: 40, about: 'time for each work, at least 12 pairs' },
    },
    examples: [
      ['../before', 'every work'],
      ['../before ditStep --threads 1', 'one work on one thread'],
    ],
  })
  if (!existsSync(`${root}/bench/workloads.ts`))
    throw new UserError(`bench: expected the folder of a checkout of demask, got ${root}`)
  const here = fileURLToPath(new URL('..', import.meta.url))
  const script = fileURLToPath(new URL('paired-process.ts', import.meta.url))
  const sides = [root, here].map(side => fork(script, [side, String(threads)]))
  const [{ works }] = await Promise.all(sides.map(side => ask<{ works: string[] }>(side)))
  const unknown = names.find(name => !works.includes(name))
  if (unknown !== undefined) throw new UserError(`bench: expected ${works.join(', ')}, got '${unknown}'`)
  const rows = [['work', 'pairs', 'there ms', 'here ms', 'there / here', '95 %']]
  for (const work of names.length > 0 ? names : works) {
    for (const side of sides) await ask(side, { work })
    const pairs: number[][] = []
    const end = performance.now() + 1000 * seconds
    while (pairs.length < 12 || performance.now() < end) {
      const order = pairs.length % 2 === 0 ? [0, 1] : [1, 0]
      const ms: number[] = []
      for (const i of order) ms[i] = (await ask<{ ms: number }>(sides[i], {})).ms
      pairs.push(ms)
    }
    const ratios = pairs.map(([there, now]) => there / now)
    const [low, high] = interval(ratios)
    const ms = [0, 1].map(i => median(pairs.map(pair => pair[i])).toFixed(2))
    rows.push([work, `${pairs.length}`, ...ms, median(ratios).toFixed(3), `${low.toFixed(3)} to ${high.toFixed(3)}`])
    console.log(table([rows[0], rows.at(-1)!]))
  }
  for (const side of sides) side.disconnect()
  console.log(`\n${table(rows)}`)
})
