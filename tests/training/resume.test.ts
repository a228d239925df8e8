/** A stopped run resumes with the bytes of an unbroken one, on any number of threads. */

import { appendFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readRows } from '../../training/index-node.ts'
import { live, trainees } from '../crash/life.ts'
import { bytesOf, fail, inFolder, succeed } from '../programs/example.ts'

const small = ['--preset', 'tiny', '--size', '8', '--batch', '2', '--steps', '10']

/** Files that the seed determines: without times, and without the pages that quote the command. */
function computed(run: string): Record<string, string> {
  const others = /^(timing\.jsonl|README\.md|report\.html|run\.json|events\..*)$/
  return Object.fromEntries(Object.entries(bytesOf(run)).filter(([name]) => !others.test(name)))
}

/** All but the checkpoint and samples of `step`, which must be there. */
function without(step: number, files: Record<string, string>): Record<string, string> {
  const mark = String(step).padStart(8, '0')
  const names = Object.keys(files).filter(name => name.includes(mark))
  assert.ok(names.includes(join(`checkpoint-${mark}`, 'state.json')), names.join())
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)))
}

test('ten steps are five and five, and also some, Ctrl-C and the rest, byte for byte', () =>
  inFolder(async folder => {
    const [whole, halves, stopped] = ['whole', 'halves', 'stopped'].map(name => join(folder, name))
    await Promise.all([
      succeed('train-mdt-s', [...small, '--out', whole, '--threads', '1']),
      succeed('train-mdt-s', [...small, '--out', halves, '--threads', '2', '--steps', '5']).then(() =>
        succeed('train-mdt-s', [...small, '--out', halves, '--threads', '1', '--resume']),
      ),
    ])
    const wanted = computed(whole)
    assert.equal(without(5, computed(halves)), wanted)
    assert.ok(Object.keys(wanted).includes('checkpoint-00000010/optimizer.safetensors'))

    const said = await succeed('train-mdt-s', [...small, '--out', stopped, '--steps', '1000'], {
      interruptAt: /step 1\//,
    })
    const step = Number(/after step (\d+); go on with: .* --out \S+ --resume --steps 1000\n$/.exec(said)?.[1])
    assert.ok(step >= 1 && step < 10, said)
    await succeed('train-mdt-s', [...small, '--out', stopped, '--resume'])
    assert.equal(without(step, computed(stopped)), wanted)
  }))

test('resuming cuts the log back to the checkpoint, and refuses other settings', () =>
  inFolder(async folder => {
    const out = ['--out', folder, '--threads', '1']
    await succeed('train-mdt-s', [...small, ...out, '--steps', '2'])
    const log = join(folder, 'metrics.jsonl')
    const before = readFileSync(log, 'utf8')
    appendFileSync(log, '{"step":3,"loss":0}\n{"step":4,"lo')
    await succeed('train-mdt-s', [...small, ...out, '--steps', '3', '--resume'])
    const rows = readFileSync(log, 'utf8').trim().split('\n')
    assert.is(rows.slice(0, 2).join('\n'), before.trim())
    assert.equal(
      rows.map(row => JSON.parse(row).step),
      [1, 2, 3],
    )
    assert.is.not(JSON.parse(rows[2]).loss, 0)
  }))

test('a run with a schedule, held-out pictures and intervals of its own resumes at a checkpoint as if nothing happened', () =>
  inFolder(async folder => {
    const flags = ['--size', '8', '--batch', '2', '--steps', '6', '--save-every', '2', '--sample-every', '3']
    const more = {
      dit: ['--lr-schedule', 'cosine', '--optimizer', 'adan', '--held-out', '0.1', '--crop', '16', '--flip', 'yes'],
      mdt: ['--lr-schedule', 'linear', '--ablation', 'no-relative-bias', '--loss', 'simple', '--checkpoint-blocks'],
      vae: [
        '--lr-schedule',
        'step',
        '--optimizer',
        'sgd',
        '--held-out',
        '0.1',
        '--weight-decay',
        '0.1',
        '--lr',
        '1e-2',
      ],
    }
    for (const [family, own] of Object.entries(more)) {
      const [whole, cut] = ['whole', 'cut'].map(name => join(folder, family, name))
      await succeed('demask', ['train', family, ...flags, ...own, '--threads', '1', '--out', whole])
      const rows = readRows(join(whole, 'metrics.jsonl'))
      assert.equal(
        rows.filter(row => 'heldOut' in row).map(({ step }) => step),
        own.includes('--held-out') ? [2, 4, 6] : [],
      )
      assert.ok(new Set(rows.map(({ lr }) => lr)).size >= 4, 'warm-up and schedule')
      cpSync(whole, cut, { recursive: true })
      rmSync(join(cut, 'checkpoint-00000006'), { recursive: true })
      rmSync(join(cut, 'samples-00000006.png'))
      await fail(
        'demask',
        ['train', family, '--resume', '--steps', '7', '--out', cut],
        /^error: --steps: expected 6, as the run in .* has, got 7\./,
      )
      await succeed('demask', ['train', family, '--resume', '--threads', '2', '--out', cut])
      assert.equal(computed(cut), computed(whole), family)
      assert.equal(
        Object.keys(computed(whole)).filter(name => name.startsWith('samples')),
        ['samples-00000003.png', 'samples-00000006.png'],
      )
    }
    // An ablated model is what its run says it is.
    const out = join(folder, 'drawn.png')
    const from = ['--from', join(folder, 'mdt', 'whole'), '--count', '1', '--steps', '2']
    assert.match(await succeed('demask', ['sample', ...from, '--out', out]), /MDT tiny: 6 blocks/)
    await fail(
      'train-mdt-s',
      ['--resume', '--out', join(folder, 'mdt', 'whole')],
      /without --ablation, got no-relative-bias$/m,
    )
  }))

test('every program says that a run goes on where the last digits may differ', () =>
  inFolder(async folder => {
    const programs = Object.entries(trainees)
    await Promise.all(
      [0, 1].map(async half => {
        for (const [name, trainee] of programs.filter((_, i) => i % 2 === half)) {
          const out = join(folder, name)
          await live(trainee, { out, steps: 1 })
          const state = join(out, 'checkpoint-00000001', 'state.json')
          const text = readFileSync(state, 'utf8')
          assert.match(text, /"backend": "wasm (relaxed|simd)"/)
          writeFileSync(state, text.replace(/"wasm \w+"/, '"wasm of old"'))
          const { stdout, stderr } = await live(trainee, { out, steps: 2 })
          assert.is(stderr, '')
          assert.match(stdout, /\nthe run was on wasm of old until now: expect other last digits\n/, name)
        }
      }),
    )
  }))

test.run()
