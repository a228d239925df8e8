/** A stopped run resumes with the bytes of an unbroken one, on any number of threads. */

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { live, trainees } from '../crash/life.ts'
import { bytesOf, inFolder, succeed } from '../programs/example.ts'

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
