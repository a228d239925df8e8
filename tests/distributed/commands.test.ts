/** sample, evaluate and encode-latents on several ranks leave the files and print the numbers of one process. */

import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { latestCheckpoint, loadCheckpoint } from '../../training/index-node.ts'
import { bytesOf, inFolder } from '../programs/example.ts'
import { demask, runJob, testUnderMpi } from './job.ts'

async function printed(ranks: number, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runJob(ranks, words)
  assert.is(code, 0, stderr)
  return stdout
}

testUnderMpi('sample and evaluate: 2 and 3 ranks, with the last batch on some of them only', () =>
  inFolder(async folder => {
    const run = join(folder, 'run')
    const small = ['--preset', 'tiny', '--size', '8', '--batch', '1', '--steps', '1', '--threads', '1']
    await printed(0, demask, 'train', 'maskdm', 'pretrain', ...small, '--out', run)
    const drawn: string[] = []
    for (const [ranks, batch] of [
      [0, 5],
      [2, 2],
      [3, 2],
    ] as const) {
      const out = join(folder, `${ranks}.npz`)
      const words = ['--count', '5', '--steps', '2', '--batch', String(batch), '--threads', '1']
      const text = await printed(ranks, demask, 'sample', '--from', run, '--out', out, ...words)
      assert.is(text.match(/5 pictures of 8 px/g)?.length, 1, text)
      drawn.push(readFileSync(out).toString('base64'))
    }
    assert.ok(drawn[1] === drawn[0], '2 ranks')
    assert.ok(drawn[2] === drawn[0], '3 ranks')

    const measured: string[] = []
    for (const ranks of [0, 2]) {
      const save = join(folder, `statistics-${ranks}.safetensors`)
      const words = ['emoji:smileys', join(folder, '0.npz'), '--json', '--batch', '48', '--threads', '1']
      measured.push(await printed(ranks, demask, 'evaluate', ...words, '--save', save))
      measured.push(readFileSync(save).toString('base64'))
    }
    assert.match(measured[0], /"precision by emoji features": \d/)
    assert.equal(JSON.parse(measured[2]), JSON.parse(measured[0]))
    assert.ok(measured[3] === measured[1], 'statistics')
  }),
)

testUnderMpi('latents: 3 ranks write the shards of one process, and continue what was stopped', () =>
  inFolder(async folder => {
    const program = fileURLToPath(new URL('./encoding.ts', import.meta.url))
    const [one, three] = ['one', 'three'].map(name => join(folder, name))
    assert.match(await printed(0, program, one), /complete true, 12 shards, 1 skipped/)
    assert.match(await printed(3, program, three), /complete true, 12 shards, 1 skipped/)
    assert.equal(bytesOf(three), bytesOf(one))
    rmSync(three, { recursive: true })
    assert.match(await printed(3, program, three, '2'), /complete false, [36] shards/) // one or two rounds
    assert.match(await printed(2, program, three), /complete true, 12 shards, 1 skipped/)
    assert.equal(bytesOf(three), bytesOf(one))
  }),
)

testUnderMpi('--ranks starts the launcher, whose ranks do the work', () =>
  inFolder(async folder => {
    const run = ['examples/train-mdt-s.ts', '--preset', 'tiny', '--size', '8', '--batch', '2', '--threads', '1']
    const out = join(folder, 'run')
    const text = await printed(0, ...run, '--steps', '1', '--out', out, '--ranks', '2')
    assert.match(text, /batch 2 in 2 parts/)
    assert.match(text, /2 ranks over /)
    const { code, errors } = await runJob(2, [...run, '--out', join(folder, 'other'), '--ranks', '3'])
    assert.is.not(code, 0)
    assert.equal(errors, ['error: --ranks: expected 2, as the launcher started, got 3'])
  }),
)

testUnderMpi('ranks whose starter is killed save and stop', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    const run = ['examples/train-mdt-s.ts', '--preset', 'tiny', '--size', '8', '--batch', '2', '--threads', '1']
    const { stdout, left, seconds } = await runJob(0, [...run, '--steps', '100000', '--out', out, '--ranks', '2'], {
      when: printed => / s a step/.test(printed),
      act: starter => void starter.kill('SIGKILL'),
    })
    assert.equal(left, [])
    assert.ok(seconds < 10, `${seconds} s`)
    assert.match(stdout, /saving after this step/)
    loadCheckpoint(latestCheckpoint(out)!.path)
  }),
)

test('--ranks without a launcher says how to install one', async () => {
  const words = ['cli/index.ts', 'evaluate', 'a', 'b', '--ranks', '2']
  const { code, errors } = await runJob(0, words, { env: { PATH: '/nowhere' } })
  assert.is(code, 2)
  assert.match(
    errors[0],
    /^error: --ranks: expected an MPI launcher, got no mpirun in PATH\. Install one: apt-get install openmpi-bin, /,
  )
})

test.run()
