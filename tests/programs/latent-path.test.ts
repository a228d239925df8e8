/**
 * The latent path as a person takes it, from a folder of pictures to pictures: an autoencoder of one's own, latents, a
 * transformer on them, samples, how good they are. And what every part says when it is given the wrong thing. Needs Node.
 */

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openLatents } from '../../data/index.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'
import { decoderOf, picturesOf, spaceOf } from '../../training/latents.ts'
import { openTrainingSet } from '../../training/training-set.ts'
import { loadVae, locateVae } from '../../training/vae-weights.ts'
import { bytesOf, fail, inFolder, run, succeed } from './example.ts'

const one = ['--threads', '1']

/** Six pictures of each of two classes: discs and squares of many colours. */
async function pictures(folder: string): Promise<void> {
  for (const [name, shape] of [
    ['discs', '<circle cx="8" cy="8" r="6"/>'],
    ['squares', '<rect x="3" y="3" width="10" height="10"/>'],
  ]) {
    mkdirSync(join(folder, name), { recursive: true })
    for (let i = 0; i < 6; i++)
      await sharp(Buffer.from(`<svg width="16" height="16"><g fill="hsl(${60 * i},80%,50%)">${shape}</g></svg>`))
        .flatten({ background: 'white' })
        .png()
        .toFile(join(folder, name, `${i}.png`))
  }
}

/** Files that the seed determines: without times and command lines. */
const computed = (folder: string) =>
  Object.fromEntries(
    Object.entries(bytesOf(folder)).filter(([name]) => !/^(timing|README|events|report|run\.json)/.test(name)),
  )

async function sizeOf(path: string): Promise<[number, number]> {
  const { info } = await sharp(path).raw().toBuffer({ resolveWithObject: true })
  return [info.width, info.height]
}

test('a folder of pictures, train vae, encode-latents, train mdt, sample, evaluate, report', () =>
  inFolder(async folder => {
    const at = (name: string) => join(folder, name)
    await pictures(at('shapes'))

    // The autoencoder; three steps are two and one, byte for byte.
    const vae = ['train', 'vae', '--data', at('shapes'), '--size', '16', '--batch', '4', ...one]
    const [said] = await Promise.all([
      succeed('demask', [...vae, '--steps', '3', '--out', at('vae')]),
      succeed('demask', [...vae, '--steps', '2', '--out', at('halves')]).then(() =>
        succeed('demask', ['train', 'vae', '--steps', '3', ...one, '--out', at('halves'), '--resume']),
      ),
    ])
    assert.match(said, /AutoencoderKL-tiny on the 12 pictures of .*shapes at 16 px: 1\.0 M parameters, batch 4, wasm/)
    assert.match(said, /4 × 4 × 4 latents a picture/)
    assert.match(said, /step 3: reconstructions at \d+\.\d dB/)
    const wanted = computed(at('vae'))
    const halves = Object.entries(computed(at('halves'))).filter(([name]) => !name.includes('00000002'))
    assert.equal(Object.fromEntries(halves), wanted)
    assert.ok('checkpoint-00000003/optimizer.safetensors' in wanted && 'loss.png' in wanted)
    assert.equal(await sizeOf(at('vae/samples-00000003.png')), [12 * 65 - 1, 2 * 65 - 1])
    const originals = Array.from({ length: 12 }, (_, i) => ({ left: 130 * (i % 6), top: 65 * Math.floor(i / 6) }))
    const cells = originals.map(place =>
      sharp(at('vae/samples-00000003.png'))
        .extract({ ...place, width: 64, height: 64 })
        .raw()
        .toBuffer(),
    )
    assert.is(new Set((await Promise.all(cells)).map(String)).size, 12, 'every picture once')
    const rows = readFileSync(at('vae/metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(row => JSON.parse(row))
    for (const { loss, error, kl } of rows) assert.ok(Math.abs(loss - error - (1e-3 * kl) / 768) < 1e-6)
    const config = JSON.parse(readSafetensors(at('vae/vae.safetensors')).metadata.get('config')!)
    assert.equal([config.block_out_channels, config.sample_size], [[32, 64, 64], 16])
    assert.ok(config.scaling_factor > 0 && config.scaling_factor !== 0.18215, 'measured')

    // Latents: both orientations, since mirror images of a folder's pictures are pictures too.
    const encode = ['encode-latents', at('shapes'), '--vae', at('vae'), '--out', at('latents'), ...one]
    assert.match(await succeed('demask', encode), /12 pictures as 4 × 4 × 4 latents/)
    const { tensors } = readSafetensors(at('latents/latents-00000000.safetensors'))
    assert.equal([...tensors.keys()].sort(), ['label', 'mean', 'mean.mirrored', 'picture', 'std', 'std.mirrored'])
    assert.equal(Array.from(tensors.get('label')!.data), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert.ok(tensors.get('std')!.data.every(s => s > 0))
    const latents = bytesOf(at('latents'))

    // The autoencoder may be trained on: the latents have a copy of the one that made them.
    rmSync(at('vae'), { recursive: true })
    const mdt = ['train', 'mdt', '--preset', 'tiny', '--batch', '4', ...one, '--latents', at('latents')]
    const trained = await succeed('demask', [...mdt, '--steps', '2', '--labels', 'yes', '--out', at('run')])
    assert.match(trained, /MDT-tiny on latents, 4 × 4 × 4, of the 12 pictures of .*shapes at 16 px/)
    assert.match(trained, /of the time, steps waited for data \d+\.\d\d %, and batches took \d+\.\d\d % to make/)
    assert.equal(await sizeOf(at('run/samples-00000002.png')), [12 * 49 - 1, 48]) // one row of a short run
    const timing = readFileSync(at('run/timing.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(row => JSON.parse(row))
    assert.ok(timing.every(({ seconds, waited }) => waited >= 0 && waited <= seconds))

    // Pictures, by class, and how near they are to those in the folder.
    const sample = ['sample', '--from', at('run'), '--steps', '3', ...one]
    await succeed('demask', [...sample, '--count', '2', '--class', 'squares', '--out', at('squares.png')])
    assert.ok((await sizeOf(at('squares.png')))[0] >= 2 * 16)
    await succeed('demask', [...sample, '--count', '12', '--out', at('drawn.npz')])
    const evaluate = ['evaluate', at('drawn.npz'), at('shapes'), '--size', '16', '--threads', '1']
    assert.match(await succeed('demask', evaluate), /\d/)
    await succeed('demask', ['report', at('run')])
    assert.match(readFileSync(at('run/report.html'), 'utf8'), /latents, 4 × 4 × 4, of the 12 pictures/)

    const maskdit = ['--latents', at('latents'), '--batch', '4', '--steps', '1', ...one, '--out', at('maskdit')]
    await Promise.all([succeed('train-maskdit', maskdit), interrupted(folder)])
    await wrongThings(folder)
    assert.ok(existsSync(at('maskdit/samples-00000001.png')))
    assert.equal(bytesOf(at('latents')), latents, 'nobody wrote there')
  }))

/** Rejects with a message that matches. */
async function refused(promise: Promise<unknown>, wanted: RegExp): Promise<void> {
  assert.match(await promise.then(String, (error: Error) => error.message), wanted)
}

/** Input that does not fit gives one line, and existing files stay. */
async function wrongThings(folder: string): Promise<void> {
  const at = (name: string) => join(folder, name)
  const [vae, mdt] = [at('latents/vae.safetensors'), at('run/checkpoint-00000002/ema.safetensors')]
  writeFileSync(at('text.safetensors'), 'no weights')
  cpSync(fileURLToPath(new URL('../fixtures/pytorch/dit.pt', import.meta.url)), at('sd-vae.pt'))
  cpSync(at('latents'), at('damaged'), { recursive: true })
  truncateSync(at('damaged/latents-00000000.safetensors'), 1000)
  await fail(
    'demask',
    ['train', 'mdt', '--latents', at('damaged'), '--out', at('none')],
    /00000000\.safetensors: .*cut short/,
  )
  assert.not(existsSync(at('none')))
  const other = ['encode-latents', at('shapes'), '--vae', vae, '--size', '8', '--out', at('latents'), ...one]
  await fail('demask', other, /latents already, of size 16, got 8/)

  assert.throws(() => locateVae(at('nothing')), /--vae: no such file or folder: .*nothing/)
  assert.throws(() => locateVae(at('shapes')), /--vae: expected vae\.safetensors or diffusion_pytorch_model/)
  assert.throws(
    () => loadVae(at('sd-vae.pt')),
    /sd-vae\.pt: expected an autoencoder as \.safetensors, which `demask convert` makes/,
  )
  assert.throws(() => loadVae(at('text.safetensors')), /text\.safetensors: expected a header of at most/)
  assert.throws(
    () => loadVae(mdt),
    /ema\.safetensors: expected the weights of an AutoencoderKL: .*conv1\.weight .* got none/,
  )
  assert.throws(
    () => picturesOf({ latents: at('shapes') }),
    /--latents: expected a folder that encode-latents has made/,
  )
  assert.throws(
    () => picturesOf({ latents: at('latents'), size: 16 }),
    /--size: expected no --latents beside it, got 16/,
  )
  const space = spaceOf(await openLatents(at('latents')))!
  await refused(
    decoderOf(space, mdt),
    /ema\.safetensors: expected the autoencoder of these latents, of checksum \w{64}, got/,
  )
  await refused(decoderOf(null, vae), /--vae: expected on a model of latents only/)
  const said: string[] = []
  const plain = await decoderOf({ ...space, path: at('gone') }, undefined, line => void said.push(line))
  assert.match(said.join(), /gone: no such file, so samples show latents as colours/)
  const drawn = { values: new Float32Array(4), shape: [1, 4, 1, 1] } as const
  assert.is(await plain!(drawn), drawn)
  const changed = { latents: { ...space, sha256: 'f'.repeat(64) } }
  const settings = { classFrom: 'folder' as const, latents: at('latents'), data: '', size: 16 }
  await refused(openTrainingSet(settings, changed), /expected latents of the autoencoder f{64} as before, got /)
}

/** Ctrl-C keeps the encoded part; latents.test.ts shows that the same command continues. */
async function interrupted(folder: string): Promise<void> {
  const out = join(folder, 'emoji')
  const words = ['encode-latents', 'emoji', '--vae', join(folder, 'latents'), '--out', out, ...one]
  const { stdout, code } = await run('demask', words, { interruptAt: /step \d/ })
  assert.is(code, 130)
  const done = Number(/emoji: (\d+) pictures as .*\nof 3781; go on with the same command\n$/.exec(stdout)?.[1])
  assert.ok(done >= 64 && done < 3781, stdout)
  await refused(openLatents(out), new RegExp(`expected all latents of 3781 pictures, got ${done}`))
}

test.run()
