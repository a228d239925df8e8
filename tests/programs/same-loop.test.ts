/**
 * The training programs of examples/ are the loop of `demask train`, spelled out: the same bytes from the same flags, in few
 * enough lines to hold in the head.
 */

import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read } from '../repo/markdown.ts'
import { bytesOf, inFolder, succeed } from './example.ts'

/** Flags of small runs, by example and family. */
const pairs = [
  ['train-mdt-s', 'mdt', '--preset tiny --size 8 --batch 4 --parts 2 --labels yes'],
  ['train-mdt-s', 'mdt', '--preset tiny --size 8 --batch 2 --init RUNS/mdt --freeze blocks.0'],
  ['train-maskdit', 'maskdit', '--size 8 --batch 2 --clip 1'],
  ['train-maskdit', 'maskdit', '--tune cosine --from RUNS/maskdit --lr 1e-3'],
  ['train-maskdm', 'maskdm', 'pretrain --size 8 --batch 2 --mask crop'],
  ['train-maskdm', 'maskdm', 'finetune --from RUNS/maskdm --size 8 --batch 4 --parts 4 --labels yes'],
  ['train-vae', 'vae', '--size 16 --batch 2 --kl-weight 0.1'],
] as const

/** All but the clock, and the pages that quote the command. */
function computed(run: string): Record<string, string> {
  const others = /^(timing\.jsonl|README\.md|report\.html|run\.json|events\..*)$/
  return Object.fromEntries(Object.entries(bytesOf(run)).filter(([name]) => !others.test(name)))
}

for (const [i, [example, family, words]] of pairs.entries())
  test(`examples/${example}.ts ${words}`, () =>
    inFolder(async folder => {
      const source = join(folder, family)
      const args = [...words.replace('RUNS', folder).split(' '), '--steps', '2', '--threads', '1']
      if (words.includes('RUNS')) {
        const first = pairs[i - 1][2].split(' ')
        await succeed('demask', ['train', family, ...first, '--steps', '1', '--threads', '1', '--out', source])
      }
      const [spelled, generic] = ['spelled', 'generic'].map(name => join(folder, name))
      await Promise.all([
        succeed(example, [...args, '--out', spelled]),
        succeed('demask', ['train', family, ...args, '--out', generic]),
      ])
      const files = computed(spelled)
      assert.equal(files, computed(generic))
      for (const name of ['metrics.jsonl', 'checkpoint-00000002/ema.safetensors', 'samples-00000002.png'])
        assert.ok(name in files, name)
    }))

test('a training program has at most 80 lines, not counting blanks, comments and imports', () => {
  for (const example of new Set(pairs.map(([example]) => example))) {
    const code = read(`examples/${example}.ts`)
      .replace(/\/\*\*[\s\S]*?\*\//g, '')
      .replace(/^import [\s\S]*? from '.*'$/gm, '')
      .split('\n')
      .filter(line => line.trim() !== '' && !line.trim().startsWith('//'))
    assert.ok(code.length > 20 && code.length <= 80, `${example}: ${code.length} lines`)
  }
})

test.run()
