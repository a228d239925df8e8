/**
 * inpaint.ts and `demask sample`, run as a person does, on small models: known pixels stay, every family's weights generate,
 * and errors are one line. Needs Node.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { holeAt, holeIn, maskOf, pictures } from '../../cli/inpaint-inputs.ts'
import { cpu, rng } from '../../core/index.ts'
import { storable, writeSafetensors } from '../../io/safetensors-node.ts'
import { UserError } from '../../io/user-error.ts'
import {
  DiT,
  ditPreset,
  MaskedUViT,
  MDT,
  MDTv2,
  maskDiTPreset,
  maskdmPreset,
  mdtPreset,
  mdtV2Preset,
  PreconditionedMaskDiT,
} from '../../models/index.ts'
import type { Module } from '../../nn/index.ts'
import { saveCheckpoint } from '../../training/index-node.ts'
import { fail, succeed } from './example.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-more-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const place = { rng: rng(1), backend: cpu } as const
const pixels = { inputSize: 16, inChannels: 3, numClasses: 0 }

async function stored(name: string, model: Module): Promise<string> {
  const path = join(folder, `${name}.safetensors`)
  await writeSafetensors(path, storable(model.stateDict()))
  return path
}

/** Pixels of a picture: (width, height), and its RGB at a place. */
async function pictureAt(path: string) {
  const { data, info } = await sharp(path).raw().toBuffer({ resolveWithObject: true })
  const at = (x: number, y: number) => [...data.subarray(3 * (y * info.width + x), 3 * (y * info.width + x) + 3)]
  return { width: info.width, height: info.height, at }
}

// ---- demask sample -------------------------------------------------------------------------------------------------

/** All weights a little off 0, so that a new model's output is not 0. */
function opened<M extends Module>(model: M): M {
  for (const [name, p] of model.namedParameters()) {
    const z = rng(2).fork(name).normalArray(p.size)
    const before = p.dataSync()
    p.backend.write(
      p.storage,
      before.map((v, i) => v + 0.02 * z[i]),
    )
  }
  return model
}

const small = { hiddenSize: 32, depth: 4, numHeads: 2 }
const few = { inputSize: 8, inChannels: 4, numClasses: 3 }

test('demask sample generates with each family, and says what it found', async () => {
  const maskdm = { ...maskdmPreset('tiny').network, hiddenSize: 32, depth: 3, numHeads: 2 }
  const cases: readonly (readonly [Module, readonly string[], RegExp])[] = [
    [
      new DiT({ ...ditPreset('S/2', few), ...small }, place),
      ['--heads', '2', '--guidance', '2'],
      /: DiT: 4 blocks × 32, 2 heads, patch 2, 4 × 8 × 8, 3 classes/,
    ],
    [new MDT({ ...mdtPreset('S/2', few), ...small }, place), ['--guidance', '3', '--power', '2'], /: MDT: 4 blocks/],
    [new MDTv2({ ...mdtV2Preset('tiny', few), ...small }, place), ['--class', '2'], /: MDTv2: 4 blocks/],
    [
      new PreconditionedMaskDiT({ ...maskDiTPreset('tiny', few), ...small }, place),
      ['--heads', '2', '--decoder-heads', '4'],
      /: MaskDiT: 4 blocks/,
    ],
    [
      new MaskedUViT(maskdm, place),
      ['--heads', '2', '--schedule', 'cosine'],
      /: MaskDM: 3 blocks × 32, .*3 × 16 × 16, no classes/,
    ],
  ]
  for (const [i, [model, flags, found]] of cases.entries()) {
    const path = await stored(`official-${i}`, opened(model))
    const out = join(folder, `official-${i}.png`)
    const more = ['--threads', '1', '--steps', '3', '--count', '2', '--out', out]
    const said = await succeed('demask', ['sample', '--from', path, ...flags, ...more])
    assert.match(said, found)
    assert.ok(said.includes(`${model.countParameters().total.toLocaleString('en')} parameters, all of them`), said)
    const latent = !(model instanceof MaskedUViT)
    assert.is(/latents in false colour/.test(said), latent, said)
    const { width, height } = await pictureAt(out)
    assert.equal([width, height], [2 * 48 + 1, 48])
  }
})

test('demask sample: what is wrong is one line', async () => {
  const model = new MDT({ ...mdtPreset('S/2', few), ...small }, place)
  const state = new Map(storable(model.stateDict()))
  state.delete('mask_token')
  const lacking = join(folder, 'lacking.safetensors')
  await writeSafetensors(lacking, state)
  const path = await stored('whole', model)
  const odd = { ...maskdmPreset('tiny').network, hiddenSize: 32, depth: 3, numHeads: 2 }
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['--from', lacking], /lacking\.safetensors: loadStateDict: MDT: missing: mask_token/],
    [
      ['--from', path, '--steps', '2', '--count', '1', '--vae', path],
      /whole\.safetensors: expected the weights of an AutoencoderKL/,
    ],
    [
      ['--from', await stored('unet', new MaskedUViT(odd, place)), '--heads', '2', '--count', '1'],
      /unet\.safetensors: presets of this size have either schedule: expected --schedule, which no weight tells/,
    ],
  ]
  for (const [flags, message] of wrong) await fail('demask', ['sample', ...flags, '--threads', '1'], message)
})

// ---- inpaint.ts -----------------------------------------------------------------------------------------------------

const quick = ['--threads', '1', '--steps', '4', '--jump', '1', '--resamplings', '2', '--samples', '1']

test('inpaint.ts leaves what is known as it is, and fills the hole', async () => {
  const model = opened(new MDT({ ...mdtPreset('tiny', pixels), ...small }, place))
  const options = { ...mdtPreset('tiny', pixels), ...small }
  const contents = { model: model.stateDict(), ema: model.stateDict(), optimizer: new Map() }
  const settings = { data: 'emoji:smileys', size: 16, preset: 'tiny', seed: 0 }
  const state = { step: 5, emaUpdates: 5, backend: 'cpu', settings, model: options, classes: [] }
  const run = join(folder, 'run')
  await saveCheckpoint(run, contents, state)
  const out = join(folder, 'inpainted.png')
  const said = await succeed('inpaint', ['--from', run, '--hole', '8,4,8,2', '--pictures', '2', '--out', out, ...quick])
  assert.match(
    said,
    /2 pictures, hole in grey, 1 by replace \(4 steps\), 1 by repaint \(10 steps\), 1 by mdt \(4 steps\)/,
  )
  const { width, height, at } = await pictureAt(out)
  // Two rows of picture, hole and three results, 64 pixels each, with gaps of 1.
  assert.equal([width, height], [5 * 65 - 1, 2 * 65 - 1])
  const cell = (row: number, column: number, x: number, y: number) => at(65 * column + 4 * x + 1, 65 * row + 4 * y + 1)
  for (const row of [0, 1])
    for (let y = 0; y < 16; y++)
      for (let x = 0; x < 16; x++) {
        const inside = x >= 8 && y >= 4 && y < 6
        if (inside) assert.equal(cell(row, 1, x, y), [128, 128, 128])
        for (const column of inside ? [] : [1, 2, 3, 4]) assert.equal(cell(row, column, x, y), cell(row, 0, x, y))
      }
  assert.not.equal(cell(0, 2, 10, 4), cell(0, 0, 10, 4))
  // The noise is the same for every method, so with no masked step the authors' way is replacement.
  const same = ['--from', run, '--pictures', '1', '--method', 'mdt', '--masked-share', '0']
  await succeed('inpaint', [...same, '--out', join(folder, 'a.png'), ...quick])
  await succeed('inpaint', [...same, '--out', join(folder, 'b.png'), ...quick, '--method', 'replace'])
  const [a, b] = await Promise.all(
    ['a', 'b'].map(name =>
      sharp(join(folder, `${name}.png`))
        .raw()
        .toBuffer(),
    ),
  )
  assert.equal(a, b)
})

test('inpaint.ts takes a picture and a mask, and a version 2', async () => {
  const path = await stored('v2', opened(new MDTv2({ ...mdtV2Preset('tiny', pixels), ...small }, place)))
  const image = join(folder, 'image.png')
  const mask = join(folder, 'mask.png')
  const grey = (value: number, size: number) =>
    sharp({ create: { width: size, height: size, channels: 3, background: { r: value, g: value, b: value } } })
  await grey(200, 40).png().toFile(image)
  const white = await grey(255, 16).png().toBuffer()
  await grey(0, 32)
    .composite([{ input: white, left: 16, top: 16 }])
    .png()
    .toFile(mask)
  const out = join(folder, 'v2.png')
  await succeed('inpaint', [
    '--from',
    path,
    '--image',
    image,
    '--mask',
    mask,
    '--method',
    'mdt',
    '--masked-share',
    '1',
    '--out',
    out,
    ...quick,
  ])
  const { at } = await pictureAt(out)
  assert.equal(at(2, 2), [200, 200, 200])
  assert.equal(at(65 + 2, 2), [200, 200, 200])
  assert.equal(at(65 + 60, 60), [128, 128, 128])
  assert.equal(at(130 + 2, 2), [200, 200, 200])
})

test('inpaint.ts draws with a DiT without variances, of a size that no preset has', async () => {
  const odd = { ...ditPreset('tiny', pixels), ...small, learnSigma: false }
  const path = await stored('plain-dit', opened(new DiT(odd, place)))
  const image = join(folder, 'blue.png')
  await sharp({ create: { width: 16, height: 16, channels: 3, background: 'blue' } })
    .png()
    .toFile(image)
  const from = ['--from', path, '--image', image, '--out', join(folder, 'plain.png'), ...quick]
  assert.match(await succeed('inpaint', [...from, '--heads', '2']), /1 by replace \(4 steps\), 1 by repaint/)
  await fail('inpaint', from, /plain-dit\.safetensors: no preset has width 32 .*expected --heads/)
  await fail('inpaint', [...from, '--steps', '1'], /--steps: expected a whole number in \[2, 1000\], got '1'/)
})

test("inpaint.ts takes a label table without a row for 'no class', and refuses results that are not finite", async () => {
  const options = { ...ditPreset('tiny', { ...pixels, numClasses: 3 }), ...small, classDropoutProb: 0 }
  const model = opened(new DiT(options, place))
  const path = await stored('three-classes', model)
  const image = join(folder, 'green.png')
  await sharp({ create: { width: 16, height: 16, channels: 3, background: 'green' } })
    .png()
    .toFile(image)
  const out = join(folder, 'classes.png')
  const words = ['--from', path, '--heads', '2', '--image', image, '--method', 'replace', '--out', out, ...quick]
  const said = await succeed('inpaint', [...words, '--classes', '3', '--class', '2'])
  assert.match(said, /^step 1\/4 .* replace\nstep 4\/4 .* replace\n/)
  await fail('inpaint', [...words, '--class', '2'], /--class: expected a number below 2, got '2'/)
  await fail('inpaint', [...words, '--classes', '2.5'], /--classes: expected a whole number of at least 1, got '2\.5'/)
  await fail('inpaint', [...words, '--classes', '5'], /--classes: expected 3 or, with a row for 'no class', 2, got 5/)

  const huge = opened(new DiT(options, place))
  const weight = huge.final_layer.linear.weight
  weight.backend.write(weight.storage, new Float32Array(weight.size).fill(3e38))
  const broken = ['--from', await stored('huge', huge), '--classes', '3', '--class', '0', ...words.slice(2)]
  await fail(
    'inpaint',
    broken,
    /error: result 1 of picture 1 by replace: expected finite values, got \S+: weights or settings are wrong/,
  )
})

test('inpaint.ts: what is wrong is one line', async () => {
  const dit = await stored('dit', new DiT(ditPreset('tiny', pixels), place))
  const image = join(folder, 'any.png')
  await sharp({ create: { width: 16, height: 16, channels: 3, background: 'red' } })
    .png()
    .toFile(image)
  await fail('inpaint', ['--from', join(folder, 'nowhere'), ...quick], /--from: no such file or folder/)
  const asMdt = ['--from', dit, '--image', image, '--method', 'mdt']
  await fail('inpaint', [...asMdt, ...quick], /--method: expected an MDT for mdt, got a DiT/)
  const given: readonly (readonly [string, RegExp])[] = [
    ['8,8,9,1', /^--hole: expected left, right, center or x,y,w,h within 16×16 pixels, got '8,8,9,1'$/],
    ['0,0,4', /got '0,0,4'/],
    ['0,0,0,4', /got '0,0,0,4'/],
    ['top', /got 'top'/],
    ['0,0,16,16', /^--hole: expected a hole that is a part of the picture, got all of it$/],
  ]
  for (const [where, message] of given) assert.throws(() => holeAt(where, 16), message)
  await rejects(holeIn(image, 16), /--mask: .*any\.png: expected a hole that is a part of the picture, got none/)
  await rejects(holeIn(dit, 16), /dit\.safetensors: expected a picture/)
  await rejects(pictures({ pictures: 1, seed: 0 }, null, 16), /--image: expected a picture/)
  assert.throws(() => maskOf(holeAt('0,0,15,15', 16), 1, 16, 2), /it touches every token/)
})

test('inpaint.ts: holes, and the tokens under them', () => {
  const rows = (where: string) =>
    [0, 1, 2, 3].map(y =>
      holeAt(where, 4)
        .subarray(4 * y, 4 * y + 4)
        .join(''),
    )
  assert.equal(rows('left'), ['1100', '1100', '1100', '1100'])
  assert.equal(rows('right'), ['0011', '0011', '0011', '0011'])
  assert.equal(rows('center'), ['0000', '0110', '0110', '0000'])
  assert.equal(rows('3,0,1,2'), ['0001', '0001', '0000', '0000'])
  const mask = maskOf(holeAt('3,0,1,3', 4), 2, 4, 2)
  assert.is(mask.kept, 2)
  assert.equal([...mask.mask.dataSync()], [0, 1, 0, 1, 0, 1, 0, 1])
  assert.equal([...mask.idsKeep.dataSync()], [0, 2, 0, 2])
})

async function rejects(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => null,
    e => e,
  )
  assert.instance(error, UserError)
  assert.match(error.message, message)
}

test.run()
