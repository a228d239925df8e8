/** `demask sample`: starts examples/sample.ts, which is the place to read. Needs Node. */

import { demask } from './command.ts'
import { startedBy } from './flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  startedBy(`${demask} sample`, words)
  await import('../examples/sample.ts')
}
