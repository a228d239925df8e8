/** The `demask` command as a person types it. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng } from '../../core/index.ts'
import { readNpz } from '../../io/npz.ts'
import { readSafetensors, writeSafetensors } from '../../io/safetensors-node.ts'
import { MDT, mdtPreset } from '../../models/index.ts'
import { MetricsLog, saveCheckpoint } from '../../training/index-node.ts'
import { openTrained } from '../../training/trained-run.ts'
import { fail, run as runProgram, succeed } from '../programs/example.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-cli-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

async function assertRejects(promise: Promise<unknown>, message: string): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.is((error as Error).message, message)
}

/** A run of two classes, as train-mdt-s.ts leaves it. */
const run = join(folder, 'run')
test.before(async () => {
  const options = {
    ...mdtPreset('tiny', { inputSize: 8, inChannels: 3, numClasses: 2 }),
    classDropoutProb: 0.1,
    depth: 2,
  }
  const model = new MDT(options, { rng: rng(0), backend: cpu }).stateDict()
  const log = new MetricsLog(run, 0)
  for (let step = 1; step <= 4; step++) log.write({ step, loss: 2 / step, lr: 1e-3 }, { step, seconds: 1, time: step })
  log.close()
  const described = { settings: { preset: 'tiny', data: 'pets', batch: 4 }, model: options, classes: ['cat', 'dog'] }
  const state = { step: 4, emaUpdates: 4, backend: 'cpu', ...described }
  await saveCheckpoint(run, { model, ema: model, optimizer: new Map() }, state)
})

test('--help lists every command, and every command has a help with examples', async () => {
  const help = await succeed('demask', ['--help'])
  assert.is(await succeed('demask', []), help)
  const commands = [
    ...help
      .split('Commands:')[1]
      .split('Examples:')[0]
      .matchAll(/^ {2}([\w-]+) /gm),
  ]
    .map(match => match[1])
    .filter(name => name !== 'help')
  assert.equal(commands, [
    'train',
    'sample',
    'evaluate',
    'encode-latents',
    'convert',
    'info',
    'runs',
    'compare',
    'report',
  ])
  const helps = await Promise.all(commands.map(name => succeed('demask', [name, '--help'])))
  for (const [i, name] of commands.entries()) {
    assert.match(helps[i], new RegExp(`Usage: npx tsx cli/index\\.ts ${name} `))
    assert.match(helps[i], new RegExp(`Examples:\\n  # .+\\n  npx tsx cli/index\\.ts ${name}`))
  }
  assert.is(await succeed('demask', ['help', commands[0]]), helps[0])
})

test('what does not exist is one line, with the nearest name', async () => {
  const cases: [string[], RegExp][] = [
    [['trian'], /unknown command 'trian' \(Did you mean train\?\)/],
    [['--frob'], /unknown option '--frob'/],
    [['train', 'mtd'], /model: expected one of dit, mdt, mdtv2, maskdit, maskdm, vae, got 'mtd'/],
    [['train', 'mdt', '--stpes', '4'], /unknown option '--stpes' \(Did you mean --steps\?\)/],
    [['info', join(folder, 'nowhere')], /nowhere: no such file or folder/],
    [['info', folder], /expected a run, a checkpoint or a folder of latents, got a folder of something else/],
    [['runs', join(folder, 'nowhere')], /nowhere: expected a folder of runs: no such folder/],
    [['compare', run], /runs: expected two or more, got 1/],
    [['compare', run, run, '--out', 'a.png'], /--out: expected a file that ends with \.html, got 'a\.png'/],
    [['compare', run, folder], /expected the folder of a run, with a metrics\.jsonl, got none/],
    [['report', folder], /expected the folder of a run, with a metrics\.jsonl, got none/],
    [
      ['sample', '--from', run, '--class', 'cat,cow'],
      /--class: expected a number below 2 or one of cat, dog, got 'cow'/,
    ],
    [['sample', '--from', run, '--vae', run], /--vae: expected on a model of latents only/],
  ]
  for (let i = 0; i < cases.length; i += 3)
    await Promise.all(cases.slice(i, i + 3).map(([words, wanted]) => fail('demask', words, wanted)))
})

test('exit codes: 2 for a mistake in the command line, 1 for others', async () => {
  const codeOf = async (...words: string[]) => (await runProgram('demask', words)).code
  const nowhere = join(folder, 'nowhere')
  const codes = await Promise.all([
    codeOf('trian'),
    codeOf('train', 'mtd'),
    codeOf('sample', '--from'),
    codeOf('sample', '--from', run, '--steps', '0'),
    codeOf('sample', '--from', nowhere),
    codeOf('info', nowhere),
    codeOf('report', folder),
    codeOf('info', run),
  ])
  assert.equal(codes, [2, 2, 2, 2, 2, 1, 1, 0])
})

const quick = ['--from', run, '--steps', '3', '--threads', '1']

test('a run becomes one file to be published, which draws the same pictures by the names of its classes', async () => {
  const file = join(folder, 'pets.safetensors')
  const said = await succeed('demask', ['convert', run, file])
  assert.match(said, /pets\.safetensors: \d+ tensors, .* from .*run\/checkpoint-00000004\/ema\.safetensors/)
  const drawn = await Promise.all(
    [run, file].map(async (from, i) => {
      const out = join(folder, `published-${i}.npz`)
      const what = ['--class', 'dog,cat', '--count', '2', '--steps', '2', '--threads', '1']
      await succeed('demask', ['sample', '--from', from, ...what, '--out', out])
      const arrays = await readNpz(out)
      return [[...arrays.get('arr_0')!.data], [...arrays.get('arr_1')!.data]]
    }),
  )
  assert.equal(drawn[1], drawn[0])
  assert.equal(drawn[0][1], [1, 0])

  const models = await Promise.all(
    [run, file].map(async from => /^model +(.*)/m.exec(await succeed('demask', ['info', from]))?.[1]),
  )
  assert.match(models[0]!, /^MDT: .*, 2 classes$/)
  assert.is(models[1], models[0])

  const { tensors, metadata } = readSafetensors(file)
  const described = JSON.parse(metadata.get('demask')!)
  assert.equal(described, {
    settings: { preset: 'tiny' },
    model: { numHeads: 4, numClasses: 2 },
    classes: ['cat', 'dog'],
  })
  const host = new Map(Array.from(tensors, ([name, { shape, data }]) => [name, { dtype: 'F32', shape, data } as const]))
  for (const text of ['no JSON', '[]', '{"settings":{"preset":"tiny"},"model":{"numHeads":"4"}}', 'null']) {
    const wrong = join(folder, 'wrong.safetensors')
    await writeSafetensors(wrong, host, new Map([['demask', text]]))
    await assertRejects(
      openTrained(wrong, { weights: 'ema' }),
      `${wrong}: expected metadata 'demask' that describe a run, got ${text}`,
    )
  }
  const told = await succeed('demask', ['info', join(folder, 'wrong.safetensors')])
  assert.match(told, /^model +not recognised: expected metadata 'demask' that describe a run, got null$/m)
})

test('sample without --from draws with the model of the clone', async () => {
  const out = join(folder, 'shipped.npz')
  const said = await succeed('demask', ['sample', '--count', '1', '--steps', '1', '--threads', '1', '--out', out])
  assert.match(said, /docs\/public\/playground\/mdt-tiny\.safetensors: MDT tiny/)
  assert.equal((await readNpz(out)).get('arr_0')!.shape, [1, 16, 16, 3])
})

test('sample: classes by name and number, seeds as listed, the same pictures in a folder and in an .npz', async () => {
  const [files, npz] = [join(folder, 'files'), join(folder, 'samples.npz')]
  const which = ['--class', 'dog,0', '--class', 'dog', '--seed', '5,6,9', '--sampler', 'dpm-solver', '--guidance', '2']
  const said = await succeed('demask', ['sample', ...quick, ...which, '--batch', '2', '--out', files])
  assert.match(said, /: MDT: 2 blocks × 128, 4 heads, patch 2, 3 × 8 × 8, 2 classes\n/)
  assert.match(said, /files: 3 pictures, 3 steps of dpm-solver, [\d.]+ img\/s\n$/)
  assert.equal(readdirSync(files).sort(), ['000005-1.png', '000006-0.png', '000009-1.png', 'README.md'])
  assert.match(readFileSync(join(files, 'README.md'), 'utf8'), '`npx tsx cli/index.ts sample --from')
  await succeed('demask', ['sample', ...quick, ...which, '--batch', '3', '--out', npz])
  const arrays = await readNpz(npz)
  assert.equal([...arrays.get('arr_1')!.data], [1, 0, 1])
  const { data, shape } = arrays.get('arr_0')!
  assert.equal(shape, [3, 8, 8, 3])
  for (const [n, name] of ['000005-1.png', '000006-0.png', '000009-1.png'].entries()) {
    const bytes = await sharp(join(files, name)).raw().toBuffer()
    assert.equal([...data.subarray(192 * n, 192 * (n + 1))], [...bytes], name)
  }
  await fail('demask', ['sample', ...quick, '--seed', '9', '--class', '1', '--out', files], /000009-1\.png is there/)
})

test('sample: Ctrl-C keeps what is drawn', async () => {
  const out = join(folder, 'stopped')
  const { code, stdout, stderr } = await runProgram(
    'demask',
    ['sample', ...quick, '--count', '5000', '--batch', '1', '--out', out],
    {
      interruptAt: /step 1\//,
    },
  )
  assert.match(stdout, 'stopping after this step; what is drawn is kept\n')
  const count = Number(/stopped: (\d+) pictures?,/.exec(stdout)?.[1] ?? 0)
  assert.is(code, count === 0 ? 1 : 130)
  assert.match(stderr, count === 0 ? /^error: .*stopped: nothing was drawn\n$/ : /^$/)
  const there = existsSync(out) ? readdirSync(out).filter(name => name.endsWith('.png')) : []
  assert.is(there.length, count)
  assert.ok(count < 5000)
})

test('info tells of runs, checkpoints, weights and arrays', async () => {
  const tensors = join(run, 'checkpoint-00000004', 'ema.safetensors')
  const [ofRun, ofFile] = await Promise.all([
    succeed('demask', ['info', run]),
    succeed('demask', ['info', tensors, '--tensors']),
  ])
  assert.match(ofRun, /^steps +4, the last with loss 0\.5, lr 0\.001$/m)
  assert.match(ofRun, /^checkpoints +checkpoint-00000004$/m)
  assert.match(ofRun, /^settings +preset tiny, data pets, batch 4$/m)
  assert.match(ofRun, /^classes +2: cat, dog$/m)
  for (const text of [ofRun, ofFile]) {
    assert.match(text, /^model +MDT: 2 blocks × 128, 4 heads, patch 2, 3 × 8 × 8, 2 classes$/m)
    assert.match(text, /^tensors +\d+ F32 and \d+ I32: [\d,]+ numbers, \d+\.\d MiB$/m)
  }
  assert.match(ofFile, /^ +F32 \[1, 16, 128\] pos_embed$/m)
  const other = join(folder, 'other.safetensors')
  writeFileSync(other, readFileSync(tensors).subarray(0, 500))
  await fail(
    'demask',
    ['info', other],
    /other\.safetensors: the header wants \d+ bytes, got 492: the file is cut short/,
  )
})

test('runs lists a folder, compare puts runs on a page', async () => {
  const page = join(folder, 'both.html')
  const [listed, compared] = await Promise.all([
    succeed('demask', ['runs', folder]),
    succeed('demask', ['compare', run, `${run}/../run`, '--out', page]),
  ])
  const [head, line, ...others] = listed.trimEnd().split('\n')
  assert.match(head, /^run +state +step +loss +held-out +size +last step \(UTC\)$/)
  assert.match(line, /^run +stopped +4 +1\.042 +– +[\d.]+ MB +1970-01-01 00:00$/)
  assert.equal(others, [])
  assert.is(compared, `${page}\n`)
  assert.match(readFileSync(page, 'utf8'), '<h2>Curves</h2>')
})

test('report writes the page of a run', async () => {
  assert.is(await succeed('demask', ['report', run]), `${join(run, 'report.html')}\n`)
  assert.match(readFileSync(join(run, 'report.html'), 'utf8'), 'step 4 · loss')
})

test.run()
