/** `demask runs`: the runs of a folder, a line each. Needs Node. What a folder says of its run: training/run-summary.ts. */

import { type ListedRun, listRuns } from '../training/index-node.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'

const headings = ['run', 'state', 'step', 'loss', 'held-out', 'size', 'last step (UTC)']

export function run(words: readonly string[]): void {
  const { folder = 'runs' } = readFlags(
    {
      command: `${demask} runs`,
      about:
        'Lists the runs in a folder: running, finished, stopped, not begun or damaged; steps, loss (mean of the last 20 steps), held-out loss, size on the disk.',
      operands: { folder: { about: 'the folder with the runs (default runs)', optional: true } },
      flags: {},
      examples: [
        ['', 'the runs in runs/'],
        ['/data/experiments', 'those in another folder'],
      ],
    },
    words,
  )
  const runs = listRuns(folder)
  if (runs.length === 0) {
    console.log(`${folder}: no runs`)
    return
  }
  const rows = [headings, ...runs.map(cells)]
  const widths = headings.map((_, column) => Math.max(...rows.map(row => row[column].length)))
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
}

function cells({ name, state, step, steps, loss, heldOut, bytes, time }: ListedRun): string[] {
  const grouped = (value: number) => value.toLocaleString('en')
  return [
    name,
    state,
    steps === undefined ? grouped(step) : `${grouped(step)} of ${grouped(steps)}`,
    Number.isFinite(loss) ? String(Number(loss.toPrecision(4))) : '–',
    heldOut === undefined ? '–' : String(Number(heldOut.toPrecision(4))),
    bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`,
    time === undefined ? '–' : new Date(1000 * time).toISOString().slice(0, 16).replace('T', ' '),
  ]
}
