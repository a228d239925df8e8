/**
 * Training on several ranks leaves the bytes of one process: checkpoints and metrics of every family, for any number of ranks
 * that fits, across stops and resumes on other numbers of ranks.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { latestCheckpoint } from '../../training/index-node.ts'
import { decided } from '../crash/life.ts'
import { inFolder } from '../programs/example.ts'
import { demask, runJob, testUnderMpi } from './job.ts'

/** Trains on `ranks` ranks, or without a launcher on none. Returns what was printed. */
async function trained(ranks: number, out: string, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runJob(ranks, [...words, '--out', out, '--threads', '1'])
  assert.is(code, 0, stderr)
  return stdout
}

const small = ['--size', '8', '--batch', '2', '--seed', '7']
/** Words of every family's smallest run. */
const families: readonly (readonly string[])[] = [
  ['dit', '--preset', 'tiny', ...small],
  ['mdt', '--preset', 'tiny', ...small, '--labels', 'yes'],
  ['mdtv2', '--preset', 'tiny', ...small],
  ['maskdit', ...small],
  ['maskdm', 'pretrain', ...small],
  ['vae', ...small],
]

for (const words of families)
  testUnderMpi(`${words[0]}: 2 ranks leave the bytes of one process with 2 parts`, () =>
    inFolder(async folder => {
      const [one, two] = ['one', 'two'].map(name => join(folder, name))
      const run = [demask, 'train', ...words, '--steps', '2']
      await trained(0, one, ...run, '--parts', '2')
      await trained(2, two, ...run) // --parts is the number of ranks by default
      assert.equal(decided(two, 2), decided(one, 2))
    }),
  )

testUnderMpi('4 parts on 1, 2 and 4 ranks, stopped and resumed, are an unbroken run', () =>
  inFolder(async folder => {
    const [unbroken, broken] = ['unbroken', 'broken'].map(name => join(folder, name))
    const run = [demask, 'train', 'mdt', '--preset', 'tiny', '--size', '8', '--clip', '0.5']
    const settings = ['--batch', '4', '--parts', '4', '--seed', '3']
    await trained(0, unbroken, ...run, ...settings, '--steps', '6')
    const printed = await trained(2, broken, ...run, ...settings, '--steps', '2')
    await trained(4, broken, ...run, '--resume', '--steps', '4')
    await trained(1, broken, ...run, '--resume', '--steps', '6')
    assert.equal(decided(broken, 6), decided(unbroken, 6))
    // Everything is printed once.
    for (const line of [/2 ranks over /g, /batch 4 in 4 parts/g, /checkpoint-00000002 after step 2/g, /step 2\/2 /g])
      assert.is(printed.match(line)?.length, 1, `${line} in ${printed}`)
    const refused = await runJob(3, [...run, '--out', broken, '--resume', '--steps', '8', '--threads', '1'])
    assert.is.not(refused.code, 0)
    assert.equal(refused.errors, ['error: ranks: expected 1, 2 or 4 for a batch of 4 parts, got 3'])
    assert.is(latestCheckpoint(broken)!.step, 6)
  }),
)

testUnderMpi('an optimizer that is shared out over ranks leaves the bytes and the checkpoint of a whole one', () =>
  inFolder(async folder => {
    // Adan has scalars for all parameters; MaskDiT has averages of frozen tensors.
    for (const [ranks, name, ...words] of [
      [2, 'mdtv2', '--preset', 'tiny', '--clip', '0.5', '--batch', '2', '--parts', '2'],
      [3, 'maskdit', '--batch', '3', '--parts', '3'],
    ] as const) {
      const [whole, shared] = ['whole', 'shared'].map(kind => join(folder, `${name}-${kind}`))
      const run = [demask, 'train', name]
      await trained(0, whole, ...run, ...words, '--size', '8', '--seed', '2', '--steps', '3')
      await trained(ranks, shared, ...run, ...words, '--size', '8', '--seed', '2', '--steps', '2', '--shard-optimizer')
      await trained(1, shared, ...run, '--resume', '--steps', '3')
      assert.equal(decided(shared, 3), decided(whole, 3))
    }
  }),
)

testUnderMpi('a mistake on the command line is one line, and ends all ranks', async () => {
  const { code, errors } = await runJob(2, [demask, 'train', 'mdt', '--preset', 'huge'])
  assert.is.not(code, 0)
  assert.is(errors.length, 1, errors.join('\n'))
  assert.match(errors[0], /--preset/)
})

testUnderMpi('a loss that is not finite on one rank is skipped by all, as one process does', () =>
  inFolder(async folder => {
    const [one, two] = ['one', 'two'].map(name => join(folder, name))
    const run = [demask, 'train', 'mdt', '--preset', 'tiny', ...small, '--lr', '1e30', '--steps', '4']
    const skipping = [...run, '--skip-nonfinite', '9']
    await trained(0, one, ...skipping, '--parts', '2')
    await trained(2, two, ...skipping)
    assert.match(readFileSync(join(one, 'metrics.jsonl'), 'utf8'), /"skipped":2/)
    assert.equal(decided(two, 4), decided(one, 4))
    const { code, errors } = await runJob(2, [...run, '--out', join(folder, 'ends'), '--threads', '1'])
    assert.is.not(code, 0)
    assert.is(errors.length, 1, errors.join('\n'))
    assert.match(
      errors[0],
      /^error: step \d: the loss or its gradient is NaN or infinite: the first such value was made by/,
    )
  }),
)

test.run()
