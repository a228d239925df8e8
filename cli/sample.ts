/** `demask sample`: starts examples/sample.ts, which is the place to read. Needs Node. */

import { startedBy } from './flags.ts'
import { demask } from './command.ts'

export async function run(words: readonly string[]): Promise<void> {
  startedBy(`${demask} sample`, words)
  await import('../examples/sample.ts')
}
