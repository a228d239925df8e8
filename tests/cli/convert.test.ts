/** `demask convert`, and the programs that take a checkpoint of PyTorch as it is. */

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../../cli/convert.ts'
import { readSafetensors, writeSafetensors } from '../../io/safetensors-node.ts'
import { openWeights } from '../../io/weights-node.ts'
import { fail, inFolder, succeed } from '../programs/example.ts'
import { root } from '../repo/markdown.ts'

const fixture = (name: string) => join(root, 'tests/fixtures/pytorch', name)

/** Checks that a command throws one line. */
async function refused(words: readonly string[], wanted: RegExp): Promise<void> {
  const error = await run(words).then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.match((error as Error).message, wanted)
  assert.not.match((error as Error).message, /\n/)
}

test('a checkpoint becomes safetensors: the usual part, or the one that is asked for', () =>
  inFolder(async folder => {
    const out = join(folder, 'ema.safetensors')
    const said = await succeed('demask', ['convert', fixture('training.pt'), out])
    assert.match(said, /ema\.safetensors: 4 tensors, 26 numbers as F32 from 'ema' of .*training\.pt, 0\.0 MB/)
    const wanted = readSafetensors(fixture('training-ema.safetensors')).tensors
    const { tensors, metadata } = readSafetensors(out)
    assert.equal(new Map([...tensors].sort()), new Map([...wanted].sort()))
    assert.is(metadata.get('format'), 'pt')

    const half = join(folder, 'half.safetensors')
    await run([fixture('training.pt'), half, '--part', 'model', '--dtype', 'bf16', '--strip', '2.'])
    const model = readSafetensors(half).tensors
    assert.equal([...model.keys()].sort(), ['0.bias', '0.weight', 'bias', 'weight']) // without module._orig_mod.
    for (const [name, { dtype, data }] of model) {
      assert.is(dtype, 'BF16')
      const exact = (wanted.get(name) ?? wanted.get(`2.${name}`)!).data.map(x => 2 * x)
      assert.ok(data.every((x, i) => Math.abs(x - exact[i]) <= 2 ** -8 * Math.abs(exact[i])))
    }
    const again = join(folder, 'again.safetensors')
    await run([half, again, '--dtype', 'f32'])
    for (const [name, { dtype, data }] of readSafetensors(again).tensors)
      assert.equal([dtype, data], ['F32', model.get(name)!.data])

    const views = join(folder, 'views.safetensors')
    await run([fixture('views.pt'), views])
    assert.equal(
      new Map([...readSafetensors(views).tensors].sort()),
      new Map([...readSafetensors(fixture('views.safetensors')).tensors].sort()),
    )
  }))

test('what is wrong is one line, and leaves nothing behind', () =>
  inFolder(async folder => {
    const from = fixture('training.pt')
    const out = join(folder, 'out.safetensors')
    const large = join(folder, 'large.safetensors')
    await writeSafetensors(large, new Map([['w', { dtype: 'F32', shape: [3], data: [1, 70000, Infinity] }]]))
    const cut = join(folder, 'cut.pt')
    writeFileSync(cut, readFileSync(from).subarray(0, 3000))
    const before = readdirSync(folder)
    await refused([large, out, '--dtype', 'f16'], /large\.safetensors: w: expected numbers that f16 has, got 70000/)
    await refused(
      [from, out, '--part', 'averaged'],
      /training\.pt: expected a state dict 'averaged', got 'model' \(4\), 'ema'/,
    )
    await refused([large, out, '--part', 'ema'], /--part: expected a checkpoint of PyTorch/)
    await refused([large, out, '--strip', 'x'], /--strip: expected a prefix of a name, got 'x'; there are w/)
    await refused([large, out, '--strip', 'w'], /--strip: without 'w' two names are the same, or one is empty/)
    await refused([fixture('runs-code.pt'), out], /it asks for 'posix\.system', which runs commands or code/)
    await refused([cut, out], /cut\.pt: expected a ZIP container/)
    await refused([join(folder, 'none.pt'), out], /none\.pt: expected a file of weights: no such file/)
    await refused([from, join(folder, 'out.pt')], /out\.pt: expected a name that ends with \.safetensors/)
    await refused([from, large], /large\.safetensors: expected a new file, got one that is there already/)
    await refused([from, join(folder, 'no/out.safetensors')], /could not be written: no such file or folder/)
    assert.equal(readdirSync(folder), before)
    await fail('demask', ['convert', from], /missing required argument/)
    await run([large, out, '--dtype', 'bf16']) // infinity is a number there, and stays what it is
    assert.equal(readSafetensors(out).tensors.get('w')!.data[2], Infinity)
    assert.not(existsSync('was-run'))
  }))

test('sample draws from a .pt in half precision; openWeights takes the part that is there', () =>
  inFolder(async folder => {
    const out = join(folder, 'dit.png')
    const said = await succeed('demask', [
      'sample',
      ...['--from', fixture('dit.pt'), '--heads', '2', '--steps', '2', '--count', '1', '--out', out, '--threads', '1'],
    ])
    assert.match(said, /DiT: 1 blocks × 8, 2 heads, patch 2, 4 × 4 × 4, 3 classes/)
    assert.match(said, /3,760 parameters, all of them from the file/)
    assert.ok(statSync(out).size > 0)
    using ema = await openWeights(fixture('dit.pt'), { weights: 'ema' })
    using model = await openWeights(fixture('dit.pt'), { weights: 'model' })
    using usual = await openWeights(fixture('dit.pt'), { weights: 'not there' })
    assert.equal([ema.part, model.part, usual.part], ['ema', 'model', 'ema'])
    const bias = (file: typeof ema) => Array.from(file.state.get('pos_embed')!.data)
    assert.equal(
      bias(model), // module. is left out of its names
      bias(ema).map(x => 2 * x),
    )
  }))

test.run()
