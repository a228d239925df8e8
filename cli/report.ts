/** `demask report`: writes the page of a run anew. Needs Node. What is on it: training/report.ts. */

import { writeReport } from '../training/index.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  const { dir } = readFlags(
    {
      command: `${demask} report`,
      about:
        'Writes report.html into the folder of a run: pictures, curves, settings, checkpoints. Training does so too.',
      operands: { dir: { about: 'the folder of the run' } },
      flags: {},
      examples: [['runs/mdt-tiny', 'to be opened with a browser, from the disk']],
    },
    words,
  )
  console.log(await writeReport(dir))
}
