/** The examples, run as a person runs them: what they leave behind, and what they say when something is wrong. */

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { HostTensor } from '../../io/safetensors.ts'
import { readSafetensors, writeSafetensors } from '../../io/safetensors-node.ts'
import { bytesOf, fail, inFolder, succeed } from './example.ts'

const small = ['--preset', 'tiny', '--size', '8', '--batch', '2', '--threads', '1']

/** Width and height of a picture, after decoding all of it. */
async function decoded(path: string): Promise<[number, number]> {
  const { info } = await sharp(path).raw().toBuffer({ resolveWithObject: true })
  return [info.width, info.height]
}

test('01-autograd prints the gradients that calculus gives', async () => {
  const said = await succeed('01-autograd', [])
  assert.match(said, 'a·b = 15, d/da = 5, d/db = 3')
  assert.match(said, 'made by: sum ← sin ← mul')
  const slopes = [0, 0.5, 1].map(x => (2 * x * Math.cos(x * x)).toFixed(4))
  assert.match(said, `2x cos(x²) = [${slopes.join(', ')}]`)
  const g = 1 - Math.tanh(-2) ** 2 // of tanh(1 − 3)
  assert.match(said, `first result only: [${[g, 0, -g, 0, 0, 0].map(x => (x === 0 ? 0 : x).toFixed(4)).join(', ')}]`)
  assert.match(said, 'x³ at 2: slope [12.0000], curvature [12.0000]')
  assert.match(said, 'handles that outlived the scope: 1')
})

test('02-mlp learns the roll and draws it', () =>
  inFolder(async out => {
    const said = await succeed('02-mlp', ['--steps', '100', '--out', out])
    const accuracy = Number(/accuracy on 2,000 new points: ([\d.]+) %/.exec(said)?.[1])
    assert.ok(accuracy > 90, said)
    assert.ok((await decoded(join(out, 'swiss-roll.png')))[0] > 1000)
  }))

test('03-ddpm-2d trains and draws samples beside the data', () =>
  inFolder(async out => {
    await succeed('03-ddpm-2d', ['--steps', '2', '--points', '20', '--out', out])
    assert.ok((await decoded(join(out, 'samples.png')))[0] > 1000)
  }))

test('04-marginals-2d draws shadows and roll', () =>
  inFolder(async out => {
    const said = await succeed('04-marginals-2d', ['--before', '2', '--steps', '2', '--points', '20', '--out', out])
    assert.is([...said.matchAll(/: [\d.]+ from the nearest point of the data/g)].length, 3)
    assert.ok((await decoded(join(out, 'samples.png')))[0] > 1000)
  }))

test("train-your-own trains a model of one's own in about 40 lines, and goes on where it ended", () =>
  inFolder(async folder => {
    const [halves, whole] = ['halves', 'whole'].map(name => join(folder, name))
    const said = await succeed('train-your-own', [halves, '20'])
    assert.match(said, /^a denoiser of smileys: 0\.0 M parameters, batch 32, wasm \w+; see \S+halves\n/)
    await succeed('train-your-own', [halves, '60'])
    await succeed('train-your-own', [whole, '60'])
    const losses = readFileSync(join(whole, 'metrics.jsonl'), 'utf8').trim().split('\n')
    assert.is(losses.length, 60)
    const [first, last] = [losses[0], losses[59]].map(row => JSON.parse(row).loss)
    assert.ok(last < first / 3, `${first} → ${last}`)
    const computed = (run: string) =>
      Object.entries(bytesOf(run)).filter(([name]) => /checkpoint-00000060|metrics|samples-00000060/.test(name))
    assert.equal(computed(halves), computed(whole))
    assert.is(computed(whole).length, 6)
    assert.equal(await decoded(join(whole, 'samples-00000060.png')), [16 * 49 - 1, 4 * 49 - 1])
    const code = readFileSync(new URL('../../examples/train-your-own.ts', import.meta.url), 'utf8')
      .replace(/\/\*\*[\s\S]*?\*\//g, '')
      .replace(/^import [\s\S]*? from '(.*)'$/gm, (_, from) =>
        /^\.\.\/\w+\/index(-node)?\.ts$/.test(from) ? '' : from,
      )
      .split('\n')
      .filter(line => line.trim() !== '' && !line.trim().startsWith('//'))
    assert.ok(code.length <= 45, `${code.length} lines`)
    assert.not.match(code.join('\n'), /\.ts'|models/)
  }))

test('training leaves what it promises, and sampling draws from it', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    const said = await succeed('train-mdt-s', [...small, '--steps', '3', '--out', out])
    assert.match(said, /MDT-tiny on the 169 pictures of emoji:smileys at 8 px: 2\.2 M parameters, batch 2, wasm/)
    assert.match(said, /[\d.]+ s a step/)
    assert.match(said, /img\/s {2}loss [\d.]+ {2}ETA/)
    const names = [
      'README.md',
      'checkpoint-00000003',
      'events',
      'loss.png',
      'metrics.jsonl',
      'report.html',
      'run.json',
      'samples-00000003.png',
      'timing.jsonl',
    ]
    assert.equal(
      readdirSync(out)
        .map(name => name.replace(/^events\..*/, 'events'))
        .sort(),
      names,
    )
    const parts = ['ema.safetensors', 'model.safetensors', 'optimizer.safetensors', 'state.json']
    assert.equal(readdirSync(join(out, 'checkpoint-00000003')).sort(), parts)
    const rows = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(row => JSON.parse(row))
    assert.equal(
      rows.map(row => row.step),
      [1, 2, 3],
    )
    for (const { loss, full, masked, mse, vb, gradNorm } of rows) {
      assert.ok(Math.abs(loss - full - masked) < 1e-12 && full === mse + vb && gradNorm > 0)
      assert.ok(Math.abs(mse - 1) < 0.5, 'a network whose output is 0 has the noise as its error')
    }
    assert.ok(rows[0].lr < rows[1].lr && rows[1].lr < rows[2].lr, 'warm-up')
    assert.equal(await decoded(join(out, 'samples-00000003.png')), [12 * 49 - 1, 48]) // one row of a short run
    await decoded(join(out, 'loss.png'))

    // A picture's seed decides it, whatever is drawn beside it: picture 2 of seeds 5, 6, 7 is picture 0 of seed 7.
    const [three, one] = ['three.png', 'one.png'].map(name => join(folder, name))
    await Promise.all([
      succeed('demask', ['sample', '--from', out, '--count', '3', '--seed', '5', '--steps', '4', '--out', three]),
      succeed('demask', ['sample', '--from', out, '--count', '1', '--seed', '7', '--steps', '4', '--out', one]),
    ])
    const last = await sharp(three)
      .extract({ left: 2 * 49, top: 0, width: 48, height: 48 })
      .raw()
      .toBuffer()
    assert.ok(last.equals(await sharp(one).raw().toBuffer()))

    await damagedCheckpoints(folder, out)
  }))

async function damagedCheckpoints(folder: string, run: string): Promise<void> {
  const damage = async (name: string, change: (tensors: Map<string, HostTensor>) => void) => {
    const copy = join(folder, name)
    cpSync(run, copy, { recursive: true })
    for (const part of ['model', 'ema']) {
      const path = join(copy, 'checkpoint-00000003', `${part}.safetensors`)
      const { tensors } = readSafetensors(path)
      change(tensors)
      await writeSafetensors(path, tensors)
    }
    return copy
  }
  const name = 'blocks.2.mlp.fc1.weight'
  const missing = await damage('missing', tensors => void tensors.delete(name))
  const extra = await damage('extra', tensors => void tensors.set('spare', { ...tensors.get(name)! }))
  const misshapen = await damage(
    'misshapen',
    tensors => void tensors.set(name, { ...tensors.get(name)!, shape: [128, 512] }),
  )
  const cut = join(folder, 'cut')
  cpSync(run, cut, { recursive: true })
  truncateSync(join(cut, 'checkpoint-00000003', 'model.safetensors'), 5000)
  truncateSync(join(cut, 'checkpoint-00000003', 'ema.safetensors'), 5000)

  for (const [copy, wanted] of [
    [missing, /missing: blocks\.2\.mlp\.fc1\.weight/],
    [extra, /unexpected: spare/],
    [misshapen, /of another shape: blocks\.2\.mlp\.fc1\.weight \(expected \[512, 128\], got \[128, 512\]\)/],
    [cut, /the file is cut short/],
  ] as const) {
    const before = bytesOf(copy)
    await Promise.all([
      fail('demask', ['sample', '--from', copy, '--out', join(folder, 'none.png')], wanted),
      fail('train-mdt-s', ['--out', copy, '--resume', '--steps', '9'], wanted),
    ])
    assert.equal(bytesOf(copy), before, 'nothing was touched')
  }
  assert.not(existsSync(join(folder, 'none.png')))
}

test('a loss that is not finite ends training with the op that made it; the last checkpoint is as it was', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    await succeed('train-mdt-s', [...small, '--steps', '2', '--out', out])
    const checkpoint = join(out, 'checkpoint-00000002')
    const before = bytesOf(checkpoint)
    const resume = [...small, '--out', out, '--resume', '--steps', '9']
    await fail(
      'train-mdt-s',
      [...resume, '--lr', '1e34'],
      /step 4: .*NaN or infinite.*made by 'linear' in t_embedder\.mlp\.\d, op \d+ of the step/,
    )
    assert.equal(bytesOf(checkpoint), before)
    assert.equal(
      readdirSync(out).filter(name => name.startsWith('checkpoint')),
      ['checkpoint-00000002'],
    )
    await succeed('train-mdt-s', [...resume, '--steps', '3'])
  }))

test('whatever is wrong is one line, and nothing is left behind', () =>
  inFolder(async folder => {
    const [empty, broken, existing] = ['empty', 'broken', 'existing'].map(name => join(folder, name))
    for (const path of [empty, broken, existing]) mkdirSync(path)
    await sharp({ create: { width: 32, height: 32, channels: 3, background: 'red' } }).toFile(join(broken, 'a.png'))
    truncateSync(join(broken, 'a.png'), 60)
    writeFileSync(join(existing, 'metrics.jsonl'), '{"step":1}\n')
    const outs: string[] = [] // one for each, since two at a time are run and a folder is one process's
    const train = (...args: string[]) => {
      outs.push(join(folder, `${outs.length}-out`))
      return [[...small, '--steps', '1', '--out', outs.at(-1)!, ...args]] as const
    }
    const cases: [string, readonly string[], RegExp][] = [
      ['train-mdt-s', ...train('--stpes', '5'), /unknown option '--stpes' \(Did you mean --steps\?\)/],
      ['train-mdt-s', ...train('--steps', '0'), /--steps: expected a whole number of at least 1, got '0'/],
      [
        'train-mdt-s',
        ...train('--preset', 'S/3'),
        /--preset: expected one of tiny, tiny\/4, tiny\/8, S\/2.*got 'S\/3'/,
      ],
      ['train-mdt-s', ...train('--size', '7'), /size/],
      ['train-mdt-s', ...train('--data', join(folder, 'nowhere')), /nowhere: .*no such file or folder/],
      ['train-mdt-s', ...train('--data', empty), /empty: expected pictures .* got none/],
      ['train-mdt-s', ...train('--data', broken, '--strict'), /a\.png: expected a picture/],
      ['train-mdt-s', ...train('--resume'), /out: expected a checkpoint to resume from, got none/],
      ['train-mdt-s', ['--out', existing], /existing: expected a folder without a run, got one\. Pass --resume/],
      ['demask', ['sample', '--from', join(folder, 'nowhere')], /no such file or folder: .*nowhere/],
      ['demask', ['sample', '--from', empty], /--from: expected a run, a checkpoint or a folder of weights, got /],
      ['demask', ['sample', '--form', empty], /unknown option '--form' \(Did you mean --from\?\)/],
    ]
    for (let i = 0; i < cases.length; i += 2) await Promise.all(cases.slice(i, i + 2).map(each => fail(...each)))
    assert.equal(outs.filter(existsSync), [])
  }))

test.run()
