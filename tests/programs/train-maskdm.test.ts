/** train-maskdm.ts as a person runs it: both stages, resuming, and errors of wrong commands. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cropSize } from '../../diffusion/index.ts'
import { maskDM, maskdmPresets, maskingOf } from '../../models/index.ts'
import { newSettings } from '../../training/index.ts'
import { bytesOf, fail, inFolder, succeed } from './example.ts'

const small = ['--size', '8', '--batch', '2', '--threads', '1']

test('pretrain, then finetune from it on larger pictures, and both go on', () =>
  inFolder(async folder => {
    const [masked, whole, unbroken] = ['masked', 'whole', 'unbroken'].map(name => join(folder, name))
    const said = await succeed('train-maskdm', ['pretrain', ...small, '--steps', '1', '--out', masked])
    assert.match(said, /^MaskDM-tiny, pretrain, on the 169 pictures of emoji:smileys at 8 px: 1\.1 M parameters/)
    assert.match(said, /go on with: .*train-maskdm\.ts pretrain --out|after step 1\n$/)
    await succeed('train-maskdm', ['pretrain', '--threads', '1', '--steps', '2', '--out', masked, '--resume'])
    await fail(
      'train-maskdm',
      ['finetune', '--out', masked, '--resume'],
      /STAGE: expected pretrain, as the run in .*masked has, got finetune/,
    )
    await succeed('train-maskdm', ['pretrain', ...small, '--steps', '2', '--out', unbroken])
    const last = (run: string) => {
      const files = Object.entries(bytesOf(run)).filter(([name]) => /checkpoint-0*2\/|metrics/.test(name))
      assert.ok(files.length === 5, files.join())
      return files
    }
    assert.equal(last(masked), last(unbroken))

    const tuned = await succeed('train-maskdm', [
      ...['finetune', '--from', masked, '--size', '16', '--batch', '2'],
      ...['--threads', '1', '--steps', '2', '--out', whole],
    ])
    assert.match(tuned, new RegExp(`\\nbegins with ${masked}\\S+model\\.safetensors \\(MaskDM .*\\):\\n  taken `))
    assert.match(tuned, /\n {2}resized {3}encoder\.encoder_pos_embed: 16 → 64 positions, bicubic\n/)
    const rows = readFileSync(join(whole, 'metrics.jsonl'), 'utf8').trim().split('\n')
    assert.equal(
      rows.map(row => Object.keys(JSON.parse(row))),
      [0, 1].map(() => ['step', 'loss', 'gradNorm', 'lr', 'clip']), // tiny clips, and at first it acts
    )
    for (const name of ['loss.png', 'samples-00000002.png', 'README.md']) assert.ok(existsSync(join(whole, name)), name)
  }))

test('what is hidden is what the preset says, unless flags say otherwise', () => {
  const masking = (preset: string, given: object = {}) =>
    maskingOf(newSettings(maskDM, { stage: 'pretrain', preset, ...given }))
  for (const [name, { masking: official }] of Object.entries(maskdmPresets))
    if (official !== null) assert.equal(masking(name), official, name)
  const crop = (preset: string, given: object) => masking(preset, { mask: 'crop', ...given })
  assert.equal(crop('tiny', { maskSize: 3 }), { way: 'crop', size: 3 })
  assert.equal(crop('tiny', {}), { way: 'crop', size: cropSize([8, 8], 0.5) })
  assert.equal(crop('tiny', { maskRatio: 0.9 }), { way: 'crop', size: cropSize([8, 8], 0.9) })
  assert.equal(crop('ablation/pretrain/crop/celeba_10p', { maskRatio: 0.9 }), { way: 'crop', size: 5 })
})

test('a wrong command is one line, before anything is written', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    await fail('train-maskdm', ['pretrain', '--from', folder, '--out', out], /--from: expected none in pretrain, got /)
    await fail(
      'train-maskdm',
      ['finetune', '--mask', 'crop', '--out', out],
      /--mask: expected none in finetune, got crop/,
    )
    await fail('train-maskdm', ['finetune', '--from', out, '--out', out], /--from: no such file or folder: .*run/)
    await fail(
      'train-maskdm',
      ['pretrain', '--size', '1', '--out', out],
      /--size: expected a multiple of tiny's patch size, 2/,
    )
    await fail(
      'train-maskdm',
      ['pretrain', '--mask-ratio', '1', '--out', out],
      /--mask-ratio: expected a number in \[0, 0\.95\]/,
    )
    await fail(
      'train-maskdm',
      ['pretrain', '--mask-size', '3', '--out', out],
      /block size: expected one that divides .* 8×8/,
    )
    const crop = ['pretrain', '--mask', 'crop', '--mask-size', '3', '--out', out]
    await fail(
      'train-maskdm',
      [...crop, '--mask-ratio', '0.5'],
      /--mask-ratio: expected a crop's ratio or its --mask-size, got both/,
    )
    await fail(
      'train-maskdm',
      ['pretrain', '--mask', 'patch', '--mask-size', '3', '--out', out],
      /--mask-size: expected none for patches, got 3/,
    )
    assert.not.ok(existsSync(out))
  }))

test.run()
