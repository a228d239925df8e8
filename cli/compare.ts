/** `demask compare`: runs side by side on one page. Needs Node. What is on it: training/compare.ts. */

import { UsageError } from '../io/user-error.ts'
import { writeComparison } from '../training/index-node.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  const { runs, out } = readFlags(
    {
      command: `${demask} compare`,
      about:
        'Writes runs side by side on one page: losses, the settings that differ, curves over one another, samples. The page holds its pictures.',
      operands: { runs: { about: 'folders of runs, two or more', many: true } },
      flags: { out: { type: 'text', value: 'FILE', default: 'compare.html', about: 'where to write the page' } },
      examples: [
        ['runs/mdt-tiny runs/dit-tiny', 'two models, to be opened with a browser'],
        ['runs/lr-* --out learning-rates.html', 'runs that the shell finds'],
      ],
    },
    words,
  )
  if (runs.length < 2) throw new UsageError(`runs: expected two or more, got ${runs.length}`)
  if (!/\.html?$/i.test(out)) throw new UsageError(`--out: expected a file that ends with .html, got '${out}'`)
  await writeComparison(out, runs)
  console.log(out)
}
